"""Files -> pixels, in worker processes that read once, hash, ask whether the image is wanted, and then decode."""

from featcache.loader.reader import ImageRead, read_images
from featcache.loader.video_reader import read_frames

__all__ = ["ImageRead", "read_frames", "read_images"]
