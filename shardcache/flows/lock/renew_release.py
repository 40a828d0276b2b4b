"""Holding on and letting go: extend, repair, release."""

from collections.abc import Callable, Collection, Sequence
from typing import Literal

from shardcache.errors import ShardError, ShardOut, ShardTimeout, ShardUnavailable
from shardcache.flows.lock.lease import Lease
from shardcache.flows.lock.lock_plan import FENCE_TTL, LockPlan
from shardcache.flows.lock.scripts import EXTEND, RELEASE, REPAIR
from shardcache.flows.lock.voter_registry import Life, VoterRegistry, VoterStatus, wait_of
from shardcache.flows.steps import Batch, Broadcast, Flow, OnReply, Outcome, ServerRun

__all__ = ("Extension", "Freed", "extend", "give_back", "release")

Extension = Literal["extended", "lost", "unknown"]
Freed = Literal["freed", "lost", "unknown"]


def extend(
    plan: LockPlan,
    lease: Lease,
    *,
    clock: Callable[[], float],
    registry: VoterRegistry | None = None,
    errors: list[ShardError] | None = None,
) -> Flow[Extension]:
    """Start the ttl anew on every voter that has held our key without a break; then put it back where it was lost.

    "lost": so many voters do not have our key that no majority can. "unknown": too few answered; the lease is what it was.
    Only a voter that answers "it is there" counts, and only if it was met (`Lease.verified`): in a life that may vote, with our key. Who has had our key since then
    counts in a later life too, if our key came back with the data, for nobody else can have got it there meanwhile. But a voter that had not answered when the
    lock was granted, or where the key was put back, may have forgotten another holder, and if it forgets us nobody would remember; so it is vetted first, as for
    a grant. Where the key is gone it is set again after the extension has succeeded, while the lock is ours: so a lock that has lost voters gets them back
    (redsync #186), and none is ever taken silently a second time (RedLock.net #48). ``register`` (None: load locks, which count whoever has the key) is told of a longer ttl first:
    without a majority that knows of it, a voter that restarts would count again too early, so nothing is extended. ``errors`` is given
    what went wrong with which voter.
    """
    plan = plan.on(lease.voters)
    if registry is not None and registry.status(plan.voters).longest < plan.ttl_ms:
        yield from registry.verify(plan, {})
        if registry.status(plan.voters).longest < plan.ttl_ms:
            return "unknown"
    status = None if registry is None else registry.status(plan.voters)
    shards = plan.voters.shards
    if status is None:
        commands = [plan.script(EXTEND, lease.token, plan.ttl_ms)]
    else:
        commands = [plan.script_with_life(EXTEND, lease.token, plan.ttl_ms)]
    again = False
    while True:
        sent = clock()
        if lease.valid_until <= sent:
            return "lost"
        # A shorter ttl counts from here on, for it may take effect without anybody telling us.
        lease.within(sent, plan.ttl)
        count = _Count(plan, lease, status, errors)
        yield Broadcast(
            [Batch(shard, commands, True) for shard in shards], count.on_reply, plan.voter_timeout
        )
        if len(count.kept) >= plan.quorum or again or not count.lives or registry is None:
            break
        yield from registry.verify(plan, count.lives)
        again = True
    kept, gone = count.kept, count.gone
    if len(kept) < plan.quorum:
        return "lost" if count.denied > len(shards) - plan.quorum else "unknown"
    if lease.ended or lease.valid_until <= sent:
        return "lost"
    lease.held(kept, sent, plan.ttl)
    if lease.valid_until <= clock():
        return "lost"
    strangers = {
        place: life
        for place, life in count.lives.items()
        if status and not status.registered(shards[place], life)
    }
    if strangers and registry is not None:  # they count from the next time on
        yield from registry.verify(plan, strangers)
    if gone and lease.fence:  # a load lock has no counter to put back, and does not last
        lease.granted.update(gone)
        repair = [plan.script(REPAIR, lease.token, plan.ttl_ms, lease.fence, FENCE_TTL)]
        yield Broadcast(
            [Batch(shards[place], repair, False) for place in gone], None, plan.voter_timeout
        )
        if lease.ended:  # released meanwhile, on another connection perhaps; or handed over, and then the others are somebody else's
            commands = [plan.script(RELEASE, lease.token)]
            yield Broadcast(
                [Batch(shards[place], commands, True) for place in gone], None, plan.voter_timeout
            )
    return "extended"


class _Count:
    """What the voters answered to one extension, by place; ``lives``: of those that have our key and are to be vetted before they count."""

    __slots__ = (
        "_errors",
        "_heard",
        "_lease",
        "_plan",
        "_status",
        "denied",
        "gone",
        "kept",
        "lives",
    )

    def __init__(
        self,
        plan: LockPlan,
        lease: Lease,
        status: VoterStatus | None,
        errors: list[ShardError] | None,
    ) -> None:
        self._plan = plan
        self._lease = lease
        self._status = status
        self._errors = errors
        self._heard = 0
        self.denied = 0
        self.kept: list[int] = []
        self.gone: list[int] = []
        self.lives: dict[int, Life] = {}

    def on_reply(self, place: int, outcome: Outcome, run: ServerRun | None) -> bool:
        """Count one answer; return whether the outcome is certain."""
        self._heard += 1
        reply = outcome if isinstance(outcome, ShardError) else outcome[0]
        if isinstance(reply, ShardError):
            if self._errors is not None:
                self._errors.append(reply)
        elif reply[0] == 1:
            if self._counts(place, Life.of(run, *reply[1:])):
                self.kept.append(place)
        else:
            self.denied += 1
            self._lease.verified.discard(place)
            if reply[0] == 0:
                self.gone.append(place)
        voters, quorum = len(self._plan.voters.shards), self._plan.quorum
        return self._heard == voters or len(self.kept) >= quorum or self.denied > voters - quorum

    def _counts(self, place: int, life: Life | None) -> bool:
        lease, status = self._lease, self._status
        if status is None or place in lease.verified:
            return True
        wait = wait_of(status, self._plan.voters.shards[place], life)
        if wait == 0.0:
            lease.verified.add(place)
            return True
        if wait is None and life is not None:
            self.lives[place] = life
        return False


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

    def count(places: Sequence[int], *, again: bool) -> OnReply:
        heard = 0

        def take(at: int, outcome: Outcome, _: ServerRun | None) -> bool:
            nonlocal heard, freed, gone
            heard += 1
            reply = outcome if isinstance(outcome, ShardError) else outcome[0]
            if errors is not None and isinstance(reply, ShardError):
                errors.append(reply)
            if isinstance(outcome, ShardError):
                if isinstance(outcome, ShardUnavailable) and not isinstance(
                    outcome, (ShardTimeout, ShardOut)
                ):
                    broken.append(places[at])
            elif outcome[0] == 1 or (again and outcome[0] == 0):
                freed += 1
            else:
                gone += outcome[0] in (0, -1)
            return freed >= plan.quorum or heard == len(places) or gone > len(shards) - plan.quorum

        return take

    commands = [plan.script(RELEASE, lease.token)]
    everywhere = range(len(shards))
    batches = [
        Batch(
            shards[place],
            commands,
            False,
            compensates=place in lease.unsure,
            # A voter that granted is told, however much it has still to answer: else the key stays there for the ttl.
            after_pending=place in lease.granted,
        )
        for place in everywhere
    ]
    yield Broadcast(batches, count(everywhere, again=False), plan.voter_timeout)
    if broken and freed < plan.quorum and gone <= len(shards) - plan.quorum:
        places, broken = broken, []
        batches = [Batch(shards[place], commands, False) for place in places]
        yield Broadcast(batches, count(places, again=True), plan.voter_timeout)
    if freed >= plan.quorum:
        return "freed"
    return "lost" if gone > len(shards) - plan.quorum else "unknown"


def give_back(plan: LockPlan, token: bytes, unsure: Collection[int] = ()) -> Flow[None]:
    """Tell every voter to release, whether it answered or not, and wait for none of them; the ``unsure`` may grant late."""
    commands = [plan.script(RELEASE, token)]
    batches = [
        Batch(shard, commands, True, compensates=place in unsure)
        for place, shard in enumerate(plan.voters.shards)
    ]
    try:
        yield Broadcast(batches, None, plan.voter_timeout)
    except GeneratorExit:
        raise
    except BaseException:  # broken off by a signal handler, perhaps before it was sent
        yield Broadcast(batches, None, plan.voter_timeout)
        raise
