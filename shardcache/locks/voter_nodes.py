"""Which nodes vote on the locks of a client, and changing that.

It is for the operator, while clients go on locking. Each function takes a client of either kind.
With an `AsyncShardCache`, what it returns is to be awaited.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

from shardcache.client_base import CacheBase, backend_of
from shardcache.errors import InvalidArgument, ShardError
from shardcache.flows.lock import LockPlan
from shardcache.flows.lock.inspection import VoterState, held_locks_flow
from shardcache.flows.lock.planner import LockPlanner
from shardcache.flows.lock.voter_change import Keys, begin, finish
from shardcache.flows.steps import Flow

if TYPE_CHECKING:
    from shardcache.async_client import AsyncShardCache
    from shardcache.client import ShardCache

__all__ = ("VoterNodes", "change_voters", "finish_change", "voter_nodes")


@dataclass(frozen=True, slots=True)
class VoterNodes:
    """The nodes that vote, by name.

    ``version``: of this list of nodes.
    ``names``: the nodes that vote.
    ``former``: those that voted before; empty unless a change is under way.
    ``silent``: those, of both, that have not been told.
    """

    version: str
    names: tuple[str, ...]
    former: tuple[str, ...]
    silent: tuple[str, ...] = ()


@overload
def voter_nodes(cache: "ShardCache") -> VoterNodes: ...
@overload
def voter_nodes(cache: "AsyncShardCache") -> Coroutine[Any, Any, VoterNodes]: ...
def voter_nodes(cache: CacheBase) -> VoterNodes | Coroutine[Any, Any, VoterNodes]:
    """Return which nodes vote, as the nodes of ``cache`` keep it.

    If nobody has taken a lock yet, it is what they would begin with.

    Raises `InvalidArgument` for the client of a Redis Cluster: there slots vote, the same for ever.
    """
    return _run(cache, _voter_nodes_flow)


@overload
def change_voters(cache: "ShardCache") -> VoterNodes: ...
@overload
def change_voters(cache: "AsyncShardCache") -> Coroutine[Any, Any, VoterNodes]: ...
def change_voters(cache: CacheBase) -> VoterNodes | Coroutine[Any, Any, VoterNodes]:
    """Let all nodes of ``cache`` vote, instead of those that do now.

    Locks go on being taken and held meanwhile. Every client must have all these nodes in its list
    by now. To do it twice, or again after it was broken off, is to do it once.

    Raises `LockError` if another change is under way.
    Raises `QuorumUnavailable` if no majority of the old or of the new nodes agrees.
    """
    return _run(cache, _change_voters_flow)


@overload
def finish_change(cache: "ShardCache") -> VoterNodes: ...
@overload
def finish_change(cache: "AsyncShardCache") -> Coroutine[Any, Any, VoterNodes]: ...
def finish_change(cache: CacheBase) -> VoterNodes | Coroutine[Any, Any, VoterNodes]:
    """End a change: the former nodes are not asked any more.

    ``cache`` must have the nodes of before and of now. All keys of all servers are walked over
    (SCAN).

    Raises `LockError` while a lock is still held by former nodes.
    Raises `QuorumUnavailable` if too many of them do not answer.
    """
    return _run(cache, _finish_change_flow)


def _run(
    cache: CacheBase, flow: Callable[[LockPlanner], Flow[VoterNodes]]
) -> VoterNodes | Coroutine[Any, Any, VoterNodes]:
    """Run a flow by the driver of ``cache``, whose colour says whether the result is awaited."""
    if not isinstance(cache, CacheBase):
        kind = type(cache).__name__
        raise InvalidArgument(f"expected a ShardCache or an AsyncShardCache, got {kind}")
    backend = backend_of(cache)
    if backend.planner.on_slots:
        raise InvalidArgument(
            "in a Redis Cluster slots vote, five for each lock, which follow from its name and "
            "never change; there is nothing to be changed or finished (docs/locks.md)"
        )
    result: VoterNodes | Coroutine[Any, Any, VoterNodes] = backend.driver.run(flow(backend.planner))
    return result


def _voter_nodes_flow(planner: LockPlanner) -> Flow[VoterNodes]:
    yield from planner.electorate.refresh(_plan(planner))
    return _state(planner, frozenset())


def _change_voters_flow(planner: LockPlanner) -> Flow[VoterNodes]:
    silent = yield from begin(planner.electorate, _plan(planner), tuple(planner.shards))
    return _state(planner, silent)


def _finish_change_flow(planner: LockPlanner) -> Flow[VoterNodes]:
    names = {shard: name for name, shard in planner.shards.items()}

    def walk() -> Flow[tuple[Keys, frozenset[str]]]:
        found, out = yield from held_locks_flow(names, planner.space)
        keys = {
            wire: {names[shard]: one for shard, one in seen.items() if isinstance(one, VoterState)}
            for wire, seen in found.items()
        }
        errors = {
            names[shard]
            for seen in found.values()
            for shard, one in seen.items()
            if isinstance(one, ShardError)
        }
        return keys, frozenset(errors | {names[shard] for shard in out})

    silent = yield from finish(planner.electorate, _plan(planner), walk)
    return _state(planner, silent)


def _plan(planner: LockPlanner) -> LockPlan:
    """Return the plan of any lock: the membership is the same for all."""
    return planner.plan("voters", 10.0)


def _state(planner: LockPlanner, silent: frozenset[str]) -> VoterNodes:
    known = planner.electorate.known
    return VoterNodes(
        known.version.decode(),
        tuple(sorted(known.names)),
        tuple(sorted(known.former)),
        tuple(sorted(silent)),
    )
