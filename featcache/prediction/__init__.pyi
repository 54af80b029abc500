from .images import TOP as TOP
from .images import Predictions as Predictions
from .images import predict as predict
from .model_file import Exported as Exported
from .model_file import export_model as export_model
from .videos import Timeline as Timeline
from .videos import is_video as is_video
from .videos import timeline as timeline
