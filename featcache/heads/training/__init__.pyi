from .losses import adjustment as adjustment
from .losses import class_weights as class_weights
from .scores import LN_2 as LN_2
from .torch_stack import LOG2_E as LOG2_E
from .train import moments_of as moments_of
from .train import train_heads as train_heads
