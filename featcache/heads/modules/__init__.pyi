from .build import describe_module as describe_module
from .build import seeded_module as seeded_module
from .clips import features_by_clip as features_by_clip
from .clips import group_frames as group_frames
from .dropout import seed_dropout as seed_dropout
from .loading import collect_tensors as collect_tensors
from .module_head import ModuleHead as ModuleHead
from .module_head import TrainedHead as TrainedHead
