"""Which nodes vote on the locks of a client, and changing that: for the operator, while clients go on locking."""

from dataclasses import dataclass

from shardcache.client_base import CacheBase
from shardcache.drivers.sync.runner import Runner
from shardcache.errors import InvalidArgument, ShardError
from shardcache.flows.lock import LockPlan
from shardcache.flows.lock.census import held_locks_flow
from shardcache.flows.lock.inspection import VoterState
from shardcache.flows.lock.voter_change import Keys, begin, finish
from shardcache.flows.steps import Flow

__all__ = ("VoterNodes", "change_voters", "finish_change", "voter_nodes")


@dataclass(frozen=True, slots=True)
class VoterNodes:
    """The nodes that vote, by name; ``former`` is empty unless a change is under way. ``silent``: nodes, of both, that have not been told."""

    version: str
    names: tuple[str, ...]
    former: tuple[str, ...]
    silent: tuple[str, ...] = ()


def voter_nodes(cache: CacheBase) -> VoterNodes:
    """Return what the nodes of ``cache`` (a `ShardCache`) keep; what they would begin with, if nobody has taken a lock yet."""
    runner, plan = _tools(cache)
    runner.run(cache._locks.electorate.refresh(plan))
    return _state(cache, frozenset())


def change_voters(cache: CacheBase) -> VoterNodes:
    """Let all nodes of ``cache`` vote, instead of those that do now; locks go on being taken and held meanwhile.

    Every client must have all these nodes in its list by now. Done twice it is done once. Raises `LockError` if another change is under way,
    `QuorumUnavailable` if no majority of the old or of the new nodes agrees.
    """
    runner, plan = _tools(cache)
    names = tuple(member.node.name for member in cache._context.members)
    return _state(cache, runner.run(begin(cache._locks.electorate, plan, names)))


def finish_change(cache: CacheBase) -> VoterNodes:
    """End a change: the former nodes are not asked any more. Raises `LockError` while a lock is still held by them.

    ``cache`` must have the nodes of before and of now. Walks over all keys of all servers (SCAN).
    """
    runner, plan = _tools(cache)
    names = [member.node.name for member in cache._context.members]

    def walk() -> Flow[tuple[Keys, frozenset[str]]]:
        found, out = yield from held_locks_flow(len(names), cache._context.keys)
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

    return _state(cache, runner.run(finish(cache._locks.electorate, plan, walk)))


def _tools(cache: CacheBase) -> tuple[Runner, LockPlan]:
    if not isinstance(cache._driver, Runner):
        raise InvalidArgument(f"expected a ShardCache, got {type(cache).__name__}")
    return cache._driver, cache._locks.plan("voters", 10.0)


def _state(cache: CacheBase, silent: frozenset[str]) -> VoterNodes:
    known = cache._locks.electorate.known
    return VoterNodes(
        known.version.decode(),
        tuple(sorted(known.names)),
        tuple(sorted(known.former)),
        tuple(sorted(silent)),
    )
