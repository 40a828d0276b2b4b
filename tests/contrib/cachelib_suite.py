"""Written into cachelib's own folder of tests: what it says of a cache, said of ours."""

import os
import uuid

import pytest
from clear import ClearTests
from common import CommonTests
from delete_many_with_prefix import DeleteManyWithPrefixTests
from has import HasTests
from serializer import SerializerTests

from shardcache.contrib.cachelib import ShardCacheBackend


@pytest.fixture(autouse=True)
def cache_factory(request, key_prefix):
    made = []

    def factory(self, *args, **kwargs):
        prefix = kwargs.pop("key_prefix", key_prefix) or ""
        cache = ShardCacheBackend(
            os.environ["URL"],
            *args,
            **kwargs,
            key_prefix=f"{uuid.uuid4().hex}:{prefix}",
            timeout=20,
        )
        made.append(cache)
        return cache

    request.cls.cache_factory = factory
    yield
    for cache in made:
        cache.close()


class TestShardCache(CommonTests, ClearTests, HasTests, DeleteManyWithPrefixTests, SerializerTests):
    def test_callable_key(self):
        cache = self.cache_factory()
        assert cache.set(self.test_callable_key, "sausages")
        assert cache.get(self.test_callable_key) == "sausages"
