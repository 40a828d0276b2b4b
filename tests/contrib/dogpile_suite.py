"""What dogpile.cache says of a backend, said of ours; run in a folder of its own."""

import os
import uuid

from dogpile.cache import register_backend
from dogpile.testing.fixtures import (
    _GenericBackendTestSuite,
    _GenericMutexTestSuite,
    _GenericSerializerTestSuite,
)

# Where the package is installed, its entry point does this.
register_backend("shardcache", "shardcache.contrib.dogpile", "ShardCacheBackend")


def arguments(**more):
    return {
        "arguments": {
            "url": os.environ["URL"],
            "timeout": 20,
            "namespace": uuid.uuid4().hex,
            **more,
        }
    }


class TestBackend(_GenericBackendTestSuite):
    backend = "shardcache"
    config_args = arguments()


class TestSerializer(_GenericSerializerTestSuite, TestBackend):
    pass


class TestMutex(_GenericMutexTestSuite):
    backend = "shardcache"
    config_args = arguments(distributed_lock=True)


class TestBackendWithMutex(_GenericBackendTestSuite):
    backend = "shardcache"
    config_args = arguments(distributed_lock=True)
