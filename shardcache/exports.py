"""What the package gives away, imported when it is first asked for.

So ``import shardcache`` is light, and the command can answer Ctrl-C before the heavy parts are
there (PEP 562).
"""

import sys
from importlib import import_module
from typing import Any

__all__ = ("HOMES", "find", "names")

# module -> the public names that it defines
HOMES = {
    "async_client": ("AsyncShardCache",),
    "client": ("ShardCache",),
    "discovery": ("nodes_from_dns", "nodes_from_file"),
    "events": ("Event",),
    "policy.load_result": ("LoadResult",),
    "locks": ("AsyncLockSet", "AsyncQuorumLock", "Holder", "LockSet", "QuorumLock"),
    "near_cache": ("NearCache",),
    "options": ("TLS", "Options"),
    "pipeline": ("AsyncPipeline", "Pipeline"),
    "placement": ("HashRing", "KetamaRing", "Node"),
    "policy": ("LoadPolicy",),
    "request_deadline": ("deadline",),
    "results": ("MISS", "Explanation", "Failed", "Hit", "HotKey", "Miss", "PingResult", "Results"),
    "stats": ("Stats",),
    "topology.nodes": ("AddressAsNameWarning",),
    "ttl": ("DEFAULT",),
    "value_type": ("ValueType",),
    "votes": ("Vote",),
}
_HOME_OF = {name: module for module, names in HOMES.items() for name in names}


def find(name: str) -> Any:
    """Return the public name ``name``, as the package's ``__getattr__``, or `AttributeError`."""
    if name == "errors":
        return import_module("shardcache.errors")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'shardcache' has no attribute {name!r}")
    value = getattr(import_module(f"shardcache.{_HOME_OF[name]}"), name)
    setattr(sys.modules["shardcache"], name, value)  # from now on without this function
    return value


def names() -> list[str]:
    """Return what ``dir(shardcache)`` shows: the public names, imported or not."""
    return sorted({*vars(sys.modules["shardcache"]), *_HOME_OF, "errors"})
