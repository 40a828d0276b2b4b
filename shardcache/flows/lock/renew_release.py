"""The end of a lease, or its renewal: extend, repair, release."""

from collections.abc import Callable, Sequence
from typing import Literal

from shardcache.errors import ShardError, ShardOut, ShardTimeout, ShardUnavailable
from shardcache.flows.lock.lease import Lease
from shardcache.flows.lock.lock_plan import FENCE_TTL, LockPlan
from shardcache.flows.lock.scripts import EXTEND, RELEASE, REPAIR
from shardcache.flows.lock.voter_registry import Life, VoterRegistry, VoterStatus, wait_of
from shardcache.flows.steps import Batch, Broadcast, Flow, Outcome, ServerRun

__all__ = ("Extension", "Freed", "extend", "release")

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
    """Start the ttl anew on every voter that has held our key without a break.

    ``plan``: name, voters and times of the lock.
    ``lease``: the lease; it is changed.
    ``clock``: returns seconds.
    ``registry``: what this process knows of the voters; None for load locks, where every voter with
        the key counts.
    ``errors``: gets the errors of voters.

    Return "extended"; "lost" if so many voters do not have our key that no majority can; "unknown"
    if too few voters answered: then the lease is as it was.

    Which voters count: only a voter that answers "it is there", and only if it was verified
    (`Lease.verified`) with our key in a life that may vote. Such a voter counts in a later life
    too, if our key came back with the data, since nobody else can have got the key there meanwhile.
    But a voter that had not answered when the lock was granted, or where the key was restored, may
    have forgotten another holder. And if it forgets us, nobody would remember. So it is verified
    first, as for a grant.

    Repair: where the key is gone, it is set again after the extension has succeeded, while the lock
    is ours. So a lock that has lost voters gets them back (redsync #186), and no lock is silently
    taken a second time (RedLock.net #48).

    A longer ttl: the register is told first. Without a majority that knows it, a voter that
    restarts would count again too early, so nothing is extended.
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
    # Ask all voters. If voters with our key have to be verified to make a majority, ask once more.
    again = False
    while True:
        sent = clock()
        if lease.valid_until <= sent:
            return "lost"
        # A shorter ttl counts from here on, since it may take effect although no reply says so.
        lease.within(sent, plan.ttl)
        count = _Extensions(plan, lease, status, errors)
        yield Broadcast(
            [Batch(shard, commands, True) for shard in shards], count.on_reply, plan.voter_timeout
        )
        if len(count.kept) >= plan.quorum or again or not count.lives or registry is None:
            break
        yield from registry.verify(plan, count.lives)
        again = True
    # Without a majority, or after the end of the lease, nothing is extended.
    if len(count.kept) < plan.quorum:
        return "lost" if count.denied > len(shards) - plan.quorum else "unknown"
    if lease.ended or lease.valid_until <= sent:
        return "lost"
    lease.held(count.kept, sent, plan.ttl)
    if lease.valid_until <= clock():
        return "lost"
    # Verify the other voters with our key now, so that they count from the next time on.
    strangers = {
        place: life
        for place, life in count.lives.items()
        if status and not status.registered(shards[place], life)
    }
    if strangers and registry is not None:
        yield from registry.verify(plan, strangers)
    # A load lock has no counter to restore, and does not last long.
    if count.gone and lease.fence:
        yield from _repair(plan, lease, count.gone)
    return "extended"


def _repair(plan: LockPlan, lease: Lease, gone: list[int]) -> Flow[None]:
    """Set our key again at the voters that have lost it; wait for no answer."""
    shards = plan.voters.shards
    lease.granted.update(gone)
    commands = [plan.script(REPAIR, lease.token, plan.ttl_ms, lease.fence, FENCE_TTL)]
    batches = [Batch(shards[place], commands, False) for place in gone]
    yield Broadcast(batches, None, plan.voter_timeout)
    # It was released or handed over meanwhile: then the restored keys must go again.
    if lease.ended:
        commands = [plan.script(RELEASE, lease.token)]
        batches = [Batch(shards[place], commands, True) for place in gone]
        yield Broadcast(batches, None, plan.voter_timeout)


class _Extensions:
    """What the voters answered to one extension, by their index.

    ``kept``: voters that have our key and count.
    ``gone``: voters that have no key.
    ``denied``: how many do not have our key.
    ``lives``: of voters with our key that have to be verified before they count, the life.
    """

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
    """Take our key from every voter; wait for a majority of the answers.

    ``plan``: name, voters and times of the lock.
    ``lease``: the lease; it is marked as ended.
    ``errors``: gets the errors of voters.

    Return "freed"; "lost" if the key was gone already on so many voters that no majority had it;
    "unknown" if too few voters answered: then it may be tried again.

    A voter whose connection broke is asked once more. If it has no key then, our first request has
    removed it (Redisson keeps a latch for this).
    """
    lease.ended = True
    plan = plan.on(lease.voters)
    shards = plan.voters.shards
    count = _Releases(plan, errors)
    # All voters are told, also those that have not granted: a grant may still be under way.
    commands = [plan.script(RELEASE, lease.token)]
    batches = [
        Batch(
            shard,
            commands,
            False,
            compensates=place in lease.unsure,
            # A voter that granted is told, however many replies it owes: otherwise the key would
            # stay there for the ttl.
            after_pending=place in lease.granted,
        )
        for place, shard in enumerate(shards)
    ]
    yield Broadcast(batches, count.on_reply, plan.voter_timeout)
    # Ask once more where a connection broke, if that can change the outcome.
    if count.outcome == "unknown" and count.broken:
        again = count.ask_again()
        batches = [Batch(shards[place], commands, False) for place in again]
        yield Broadcast(batches, count.on_reply, plan.voter_timeout)
    return count.outcome


class _Releases:
    """What the voters answered to a release.

    ``broken``: the voters whose connection broke.
    """

    __slots__ = ("_again", "_errors", "_freed", "_gone", "_heard", "_places", "_plan", "broken")

    def __init__(self, plan: LockPlan, errors: list[ShardError] | None) -> None:
        self._plan = plan
        self._errors = errors
        self._freed = self._gone = self._heard = 0
        self._places: Sequence[int] = range(len(plan.voters.shards))
        self._again = False
        self.broken: list[int] = []

    def ask_again(self) -> list[int]:
        """Count the answers of the broken voters anew; return these voters."""
        self._places, self.broken = self.broken, []
        self._heard, self._again = 0, True
        return list(self._places)

    def on_reply(self, at: int, outcome: Outcome, _: ServerRun | None) -> bool:
        """Count one answer; return whether the outcome is certain."""
        self._heard += 1
        reply = outcome if isinstance(outcome, ShardError) else outcome[0]
        if self._errors is not None and isinstance(reply, ShardError):
            self._errors.append(reply)
        if isinstance(outcome, ShardError):
            if _connection_broke(outcome):
                self.broken.append(self._places[at])
        # A voter that is asked again and has no key has carried out the first request.
        elif reply == 1 or (self._again and reply == 0):
            self._freed += 1
        else:
            self._gone += reply in (0, -1)
        return self._heard == len(self._places) or self.outcome != "unknown"

    @property
    def outcome(self) -> Freed:
        """What the answers say so far."""
        if self._freed >= self._plan.quorum:
            return "freed"
        too_many = len(self._plan.voters.shards) - self._plan.quorum
        return "lost" if self._gone > too_many else "unknown"


def _connection_broke(error: ShardError) -> bool:
    """Whether the voter may have carried out the request without being able to say so."""
    return isinstance(error, ShardUnavailable) and not isinstance(error, (ShardTimeout, ShardOut))
