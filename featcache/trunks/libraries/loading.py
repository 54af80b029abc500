"""Any trunk as a module of its library, to be trained."""

from featcache.trunks import TrunkSource, build_network
from featcache.trunks.libraries.base import LoadedNetwork
from featcache.trunks.libraries.library_source import LibrarySource
from featcache.trunks.libraries.torchvision_models import wrap_vision_transformer


def load_network(source: TrunkSource) -> LoadedNetwork:
    """Return a trunk as its library's own module, float32 on the CPU, frozen, without its classifier.

    Args:
        source: The trunk.

    Raises:
        MachineError: as `TrunkSource.tensors`.
    """
    if isinstance(source, LibrarySource):
        return source.loaded
    module = build_network(source.arch, source.transform.crop)
    module.load_state_dict(source.tensors)
    return wrap_vision_transformer(module)
