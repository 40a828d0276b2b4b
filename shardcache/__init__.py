"""A cache over several independent Redis or Valkey servers, by a consistent-hash ring."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shardcache import errors
    from shardcache.async_client import AsyncShardCache
    from shardcache.client import ShardCache
    from shardcache.discovery import nodes_from_dns, nodes_from_file
    from shardcache.events import Event
    from shardcache.locks import AsyncLockSet, AsyncQuorumLock, Holder, LockSet, QuorumLock
    from shardcache.near_cache import NearCache
    from shardcache.options import TLS, Options
    from shardcache.pipeline import AsyncPipeline, Pipeline
    from shardcache.placement import HashRing, KetamaRing, Node
    from shardcache.policy import LoadPolicy
    from shardcache.policy.load_result import LoadResult
    from shardcache.request_deadline import deadline
    from shardcache.results import MISS, Explanation, Failed, Hit, HotKey, Miss, PingResult, Results
    from shardcache.stats import Stats
    from shardcache.topology.nodes import AddressAsNameWarning
    from shardcache.ttl import DEFAULT
    from shardcache.value_type import ValueType
    from shardcache.votes import Vote
else:
    # The interpreter asks for both.
    from shardcache.exports import find as __getattr__  # noqa: F401
    from shardcache.exports import names as __dir__  # noqa: F401

__all__ = (
    "DEFAULT",
    "MISS",
    "TLS",
    "AddressAsNameWarning",
    "AsyncLockSet",
    "AsyncPipeline",
    "AsyncQuorumLock",
    "AsyncShardCache",
    "Event",
    "Explanation",
    "Failed",
    "HashRing",
    "Hit",
    "Holder",
    "HotKey",
    "KetamaRing",
    "LoadPolicy",
    "LoadResult",
    "LockSet",
    "Miss",
    "NearCache",
    "Node",
    "Options",
    "PingResult",
    "Pipeline",
    "QuorumLock",
    "Results",
    "ShardCache",
    "Stats",
    "ValueType",
    "Vote",
    "deadline",
    "errors",
    "nodes_from_dns",
    "nodes_from_file",
)

__version__ = "0.1.0"
