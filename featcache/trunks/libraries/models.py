"""The libraries that there are; and the network cnn, which none of them has."""

from featcache.trunks.libraries.base import Library
from featcache.trunks.libraries.convolutional import ConvolutionalNetworks
from featcache.trunks.libraries.open_clip_models import OpenClipModels
from featcache.trunks.libraries.own_module import OwnModules
from featcache.trunks.libraries.timm_models import TimmModels
from featcache.trunks.libraries.torchvision_models import TorchvisionModels
from featcache.trunks.libraries.transformers_models import TransformersModels

LIBRARIES: dict[str, Library] = {
    library.prefix: library
    for library in (TorchvisionModels(), TimmModels(), TransformersModels(), OpenClipModels(), OwnModules())
}

__all__ = ["LIBRARIES", "ConvolutionalNetworks"]
