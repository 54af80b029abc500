"""Data in a bucket, before the bucket is asked for anything."""

import pytest

import featcache
from featcache import FeatcacheError


@pytest.mark.parametrize("name", ["x.tar.gz", "x.arrow", "{train,x}.tar", "photos"])
def test_credentials_in_a_url_are_refused_and_not_repeated(name):
    """Whatever is wrong with the rest of it."""
    with pytest.raises(FeatcacheError) as refused:
        featcache.describe(data=f"s3://KEY:VERYSECRET@bucket/{name}")
    assert "VERYSECRET" not in str(refused.value)
