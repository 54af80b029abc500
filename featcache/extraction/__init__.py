"""Stage one: images -> embeddings on disk."""

from featcache.extraction.job import extract
from featcache.extraction.summary import MAX_BAD, Progress, Settings, Summary

__all__ = ["MAX_BAD", "Progress", "Settings", "Summary", "extract"]
