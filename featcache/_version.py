"""The version, for featcache and for its build."""

__version__ = "0.1.0"
