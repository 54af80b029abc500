from .library_source import LibrarySource as LibrarySource
