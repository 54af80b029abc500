from .blocks import NotPlainError as NotPlainError
from .describing import describe_plain_vit as describe_plain_vit
