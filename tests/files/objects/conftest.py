"""A cache in memory, which is an object store as any other to all but the library that talks to it."""

import uuid

import pytest

from featcache.files.objects.object_path import ObjectPath, parse_object_url


@pytest.fixture
def memory() -> ObjectPath:
    """An empty cache in an object store that lives in this process."""
    place = parse_object_url(f"memory://tests/{uuid.uuid4().hex}")
    assert place is not None
    return place
