from .matching import check_tensors as check_tensors
from .matching import pick_tensors as pick_tensors
from .reading import read_checkpoint as read_checkpoint
from .unused_tensors import describe_unused as describe_unused
from .weight_sets import WeightSet as WeightSet
from .weight_sets import choose_weight_set as choose_weight_set
from .weight_sets import find_weight_sets as find_weight_sets
