from .base import LoadedNetwork as LoadedNetwork
from .layers import LayerReader as LayerReader
from .layers import check_layer as check_layer
from .library_source import LibrarySource as LibrarySource
from .loading import load_network as load_network
from .torchvision_models import wrap_vision_transformer as wrap_vision_transformer
from .zoo import TrunkList as TrunkList
from .zoo import list_trunks as list_trunks
