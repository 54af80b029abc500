"""featcache: a frozen trunk once, every classifier experiment in seconds."""

__version__ = "0.1.0"
