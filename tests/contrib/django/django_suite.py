"""Written into Django's own folder of tests: what it says of a cache, said of ours."""

import os

from cache.tests import BaseCacheTests, caches_setting_for_tests
from django.core.cache import cache
from django.test import TestCase, override_settings
from redis.exceptions import ResponseError


@override_settings(
    CACHES=caches_setting_for_tests(
        BACKEND="shardcache.contrib.django.ShardCacheBackend",
        LOCATION=os.environ["URL"],
        # The server evicts by a policy of its own, so there is nothing to cull.
        exclude={"cull", "zero_cull"},
    )
)
class ShardCacheTests(BaseCacheTests, TestCase):
    # As with Django's own Redis backend.
    incr_decr_type_error = ResponseError

    def tearDown(self):
        # The tests leave keys of other versions and prefixes behind, which `clear` does not delete.
        cache.client.clear()
