"""Files -> pixels, in worker processes that read once, hash, ask whether the image is wanted, and then decode."""

from featcache.loader.reader import ImageRead, read_images

__all__ = ["ImageRead", "read_images"]
