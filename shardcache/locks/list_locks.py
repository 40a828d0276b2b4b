"""All locks that are held on the servers of a client, as the operator sees them."""

from collections.abc import Mapping
from dataclasses import dataclass

from shardcache.client_base import CacheBase
from shardcache.drivers.sync.runner import Runner
from shardcache.errors import InvalidArgument, ShardError
from shardcache.flows.lock import LockPlan
from shardcache.flows.lock.census import held_locks_flow
from shardcache.flows.lock.inspection import VoterState
from shardcache.flows.lock.lease import quorum_th
from shardcache.system.holder_token import read

__all__ = ("HeldLock", "held_locks")


@dataclass(frozen=True, slots=True)
class HeldLock:
    """One holder's claim on one lock.

    ``voters``: for each server that has this holder's key, the seconds left there. ``of``: how many vote on a lock of this name;
    None if its key is on others too, so that its program must have named the voters. ``held``: whether a majority of them has the
    key (of the servers that have any, where ``of`` is None). Without a majority somebody is about to acquire, or has died
    while doing so, or has lost voters. ``remaining``: seconds until a majority has let go; without one, until the last has.
    ``label`` and ``since`` as in `Holder`.
    """

    name: str
    label: str
    since: float | None
    remaining: float
    held: bool
    voters: Mapping[str, float]
    of: int | None


def held_locks(cache: CacheBase) -> tuple[list[HeldLock], list[ShardError]]:
    """Return the locks in the namespace of ``cache`` (a `ShardCache`) by name, and what went wrong with which shard."""
    runner, context = cache._driver, cache._context
    if not isinstance(runner, Runner):
        raise InvalidArgument(f"expected a ShardCache, got {type(cache).__name__}")
    found, out = runner.run(held_locks_flow(len(context.members), context.keys))
    names = [member.node.name for member in context.members]
    errors = list(out.values())
    locks: list[HeldLock] = []
    for wire, seen in sorted(found.items()):
        errors += [one for one in seen.values() if isinstance(one, ShardError)]
        there = {names[shard]: one for shard, one in seen.items() if isinstance(one, VoterState)}
        locks += _claims(cache._locks.plan(context.keys.user(wire), 1.0), there)
    return locks, errors


def _claims(plan: LockPlan, there: Mapping[str, VoterState]) -> list[HeldLock]:
    """Return who claims one lock, given which servers have its key."""
    usual = there.keys() <= set(plan.voters.names)
    quorum = plan.quorum if usual else len(there) // 2 + 1
    claims = []
    for token in dict.fromkeys(one.token for one in there.values()):
        lefts = {voter: one.left for voter, one in there.items() if one.token == token}
        held = len(lefts) >= quorum
        label, since = read(token or b"")
        claims.append(
            HeldLock(
                name=plan.name,
                label=label,
                since=since,
                remaining=quorum_th(list(lefts.values()), quorum) if held else max(lefts.values()),
                held=held,
                voters=lefts,
                of=plan.voters.total if usual else None,
            )
        )
    return claims
