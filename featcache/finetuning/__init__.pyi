from .command import Finetuned as Finetuned
from .command import FinetuneProgress as FinetuneProgress
from .command import finetune as finetune
