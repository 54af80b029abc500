from .layers import check_layer as check_layer
from .library_source import LibrarySource as LibrarySource
