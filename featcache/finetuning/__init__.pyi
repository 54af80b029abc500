from .augmentation import TrainingAugmentation as TrainingAugmentation
from .augmentation_text import describe_augmentation as describe_augmentation
from .augmentation_text import read_augmentation as read_augmentation
from .command import Finetuned as Finetuned
from .command import FinetuneProgress as FinetuneProgress
from .command import finetune as finetune
from .search import FinetuneSearch as FinetuneSearch
from .search import search_finetune as search_finetune
