from .matching import check_tensors as check_tensors
from .matching import pick_tensors as pick_tensors
from .reading import read_checkpoint as read_checkpoint
