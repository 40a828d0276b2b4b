"""Holding on and letting go: extend, repair, release."""

from collections.abc import Callable, Collection, Sequence
from typing import Literal

from shardcache.errors import ShardError, ShardOut, ShardTimeout, ShardUnavailable
from shardcache.flows.lock.lease import Lease
from shardcache.flows.lock.plan import FENCE_TTL, LockPlan
from shardcache.flows.lock.register import Register
from shardcache.flows.lock.scripts import EXTEND, RELEASE, REPAIR
from shardcache.flows.steps import Batch, Canvass, Flow, Outcome, Run, Take

__all__ = ("Extension", "Freed", "extend", "give_back", "release")

Extension = Literal["extended", "lost", "unknown"]
Freed = Literal["freed", "lost", "unknown"]


def extend(
    plan: LockPlan,
    lease: Lease,
    *,
    clock: Callable[[], float],
    register: Register | None = None,
    errors: list[ShardError] | None = None,
) -> Flow[Extension]:
    """Start the ttl anew on every voter that has held our key without a break; then put it back where it was lost.

    "lost": so many voters do not have our key that no majority can. "unknown": too few answered; the lease is what it was.
    Only a voter that answers "it was there all the time" counts. Where the key is gone it is set again after the extension has
    succeeded, while the lock is ours, and counts from the next time on: so a lock that has lost voters gets them back
    (redsync #186), and none is ever taken silently a second time (RedLock.net #48). ``register`` is told of a longer ttl first:
    without a majority that knows of it, a voter that restarts would count again too early, so nothing is extended. ``errors`` is given
    what went wrong with which voter.
    """
    plan = plan.on(lease.voters)
    if register is not None and register.roll(plan.voters).longest < plan.ttl_ms:
        yield from register.vet(plan, {})
        if register.roll(plan.voters).longest < plan.ttl_ms:
            return "unknown"
    sent = clock()
    if lease.valid_until <= sent:
        return "lost"
    # A shorter ttl counts from here on, for it may take effect without anybody telling us.
    lease.within(sent, plan.ttl)
    shards = plan.voters.shards
    kept: list[int] = []
    gone: list[int] = []
    heard = denied = 0

    def take(place: int, outcome: Outcome, _: Run | None) -> bool:
        nonlocal heard, denied
        heard += 1
        reply = outcome if isinstance(outcome, ShardError) else outcome[0]
        if isinstance(reply, ShardError):
            if errors is not None:
                errors.append(reply)
        elif reply == 1:
            kept.append(place)
        elif reply.__class__ is int:
            denied += 1
            if reply == 0:
                gone.append(place)
        return heard == len(shards) or len(kept) >= plan.quorum or denied > len(shards) - plan.quorum

    commands = [plan.script(EXTEND, lease.token, plan.ttl_ms)]
    yield Canvass([Batch(shard, commands, True) for shard in shards], take, plan.patience)
    if len(kept) < plan.quorum:
        return "lost" if denied > len(shards) - plan.quorum else "unknown"
    if lease.ended or lease.valid_until <= sent:
        return "lost"
    lease.held(kept, sent, plan.ttl)
    if lease.valid_until <= clock():
        return "lost"
    if gone and lease.fence:  # a load lock has no counter to put back, and does not last
        repair = [plan.script(REPAIR, lease.token, plan.ttl_ms, lease.fence, FENCE_TTL)]
        yield Canvass([Batch(shards[place], repair, False) for place in gone], None, plan.patience)
        if (
            lease.ended
        ):  # released meanwhile, on another connection perhaps; or handed over, and then the others are somebody else's
            commands = [plan.script(RELEASE, lease.token)]
            yield Canvass([Batch(shards[place], commands, True) for place in gone], None, plan.patience)
    return "extended"


def release(plan: LockPlan, lease: Lease, errors: list[ShardError] | None = None) -> Flow[Freed]:
    """Take our key from every voter. Returns when a majority has answered.

    "lost": on so many voters it was gone already that no majority had it. "unknown": too few answered; it may be tried again.
    A voter whose connection broke is asked once more; that it then has no key is our own doing (Redisson keeps a latch for this).
    ``errors`` is given what went wrong with which voter.
    """
    lease.ended = True
    plan = plan.on(lease.voters)
    shards = plan.voters.shards
    freed = gone = 0
    broken: list[int] = []

    def count(places: Sequence[int], *, again: bool) -> Take:
        heard = 0

        def take(at: int, outcome: Outcome, _: Run | None) -> bool:
            nonlocal heard, freed, gone
            heard += 1
            reply = outcome if isinstance(outcome, ShardError) else outcome[0]
            if errors is not None and isinstance(reply, ShardError):
                errors.append(reply)
            if isinstance(outcome, ShardError):
                if isinstance(outcome, ShardUnavailable) and not isinstance(outcome, (ShardTimeout, ShardOut)):
                    broken.append(places[at])
            elif outcome[0] == 1 or (again and outcome[0] == 0):
                freed += 1
            else:
                gone += outcome[0] in (0, -1)
            return freed >= plan.quorum or heard == len(places) or gone > len(shards) - plan.quorum

        return take

    commands = [plan.script(RELEASE, lease.token)]
    everywhere = range(len(shards))
    batches = [Batch(shards[place], commands, False, undo=place in lease.unsure) for place in everywhere]
    yield Canvass(batches, count(everywhere, again=False), plan.patience)
    if broken and freed < plan.quorum and gone <= len(shards) - plan.quorum:
        places, broken = broken, []
        batches = [Batch(shards[place], commands, False) for place in places]
        yield Canvass(batches, count(places, again=True), plan.patience)
    if freed >= plan.quorum:
        return "freed"
    return "lost" if gone > len(shards) - plan.quorum else "unknown"


def give_back(plan: LockPlan, token: bytes, unsure: Collection[int] = ()) -> Flow[None]:
    """Tell every voter to release, whether it answered or not, and wait for none of them; the ``unsure`` may grant late."""
    commands = [plan.script(RELEASE, token)]
    batches = [Batch(shard, commands, True, undo=place in unsure) for place, shard in enumerate(plan.voters.shards)]
    try:
        yield Canvass(batches, None, plan.patience)
    except GeneratorExit:
        raise
    except BaseException:  # broken off by a signal handler, perhaps before it was sent
        yield Canvass(batches, None, plan.patience)
        raise
