from .losses import LN_2 as LN_2
from .losses import LOG2_E as LOG2_E
from .losses import class_weights as class_weights
from .losses import logit_offsets as logit_offsets
from .normalization import normalize_rows as normalize_rows
from .standardization import compute_statistics as compute_statistics
from .threads import one_thread as one_thread
from .train import train_heads as train_heads
