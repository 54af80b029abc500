"""A head on new images and videos, and a head to take along."""

from featcache.prediction.model_file import Exported, export_model
from featcache.prediction.pictures import Predictions, images_in, predict
from featcache.prediction.videos import Timeline, timeline

__all__ = ["Exported", "Predictions", "Timeline", "export_model", "images_in", "predict", "timeline"]
