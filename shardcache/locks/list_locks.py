"""All locks that are held on the servers of a client, as the operator sees them."""

from collections.abc import Mapping
from dataclasses import dataclass

from shardcache.client_base import CacheBase, backend_of
from shardcache.drivers.sync.runner import Runner
from shardcache.errors import InvalidArgument, ShardError
from shardcache.flows.lock import LockPlan
from shardcache.flows.lock.inspection import FoundLocks, VoterState, held_locks_flow
from shardcache.flows.lock.lease import quorum_th
from shardcache.flows.lock.planner import LockPlanner
from shardcache.flows.steps import Flow
from shardcache.system.holder_token import read

__all__ = ("HeldLock", "held_locks")


@dataclass(frozen=True, slots=True)
class HeldLock:
    """One holder's claim on one lock.

    ``name``: the name of the lock.
    ``label``: as in `Holder`.
    ``since``: as in `Holder`.
    ``remaining``: seconds until a majority lets the key go; without a majority, until the last
        server does.
    ``held``: whether a majority of the voters has the key. Otherwise the holder is about to
        acquire, or has died in an attempt, or has lost voters.
    ``voters``: for each voter that has this holder's key, the seconds left there. In a Redis
        Cluster the voters are slots.
    ``of``: how many nodes vote on a lock of this name. None if the key is on other nodes too: then
        the program has named the voters, and a majority is one of the servers that have a key.
    """

    name: str
    label: str
    since: float | None
    remaining: float
    held: bool
    voters: Mapping[str, float]
    of: int | None


def held_locks(cache: CacheBase) -> tuple[list[HeldLock], list[ShardError]]:
    """Return the locks in a client's namespace, by name, and the errors of shards.

    ``cache``: a `ShardCache`; else raises `InvalidArgument`.
    """
    backend = backend_of(cache)
    runner, planner = backend.driver, backend.planner
    if not isinstance(runner, Runner):
        raise InvalidArgument(f"expected a ShardCache, got {type(cache).__name__}")
    found, out = runner.run(_found(planner))
    errors = list(out.values())
    locks: list[HeldLock] = []
    for wire, seen in sorted(found.items()):
        errors += [one for one in seen.values() if isinstance(one, ShardError)]
        there = {
            planner.voter_name(number): one
            for number, one in seen.items()
            if isinstance(one, VoterState)
        }
        locks += _claims(planner.plan(planner.space.user(wire), 1.0), there)
    return locks, errors


def _found(planner: LockPlanner) -> Flow[tuple[FoundLocks, dict[int, ShardError]]]:
    """Look on all shards that there are when the flow begins: a source has answered by then."""
    return (
        yield from held_locks_flow(
            planner.shards.values(), planner.space, on_slots=planner.on_slots
        )
    )


def _claims(plan: LockPlan, there: Mapping[str, VoterState]) -> list[HeldLock]:
    """Return the claims on one lock, given which servers have a key of it."""
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
