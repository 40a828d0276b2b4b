"""Going on with a lease that somebody else has handed over.

Theory
------
The text that is handed over may arrive twice, for queues deliver at least once. So whoever adopts puts a token of his own in the
place of the one that he was given, on every voter, in one step each. A voter does that for one of them only, and two majorities share a voter: so one
adopter at most has a majority. His lease begins with what each voter says it has left. Who gets none puts back what he has got, so that
another, or he himself, may still adopt; he believed in nothing meanwhile, so nothing is promised twice.

A voter that came back with older data has the given token again, though somebody may have adopted it there. So its word counts as a grant does (`register`): in a life
that may vote. Where a life had to be vetted for that, its voter counts only if it has our token after the register was told.
"""

from collections.abc import Callable
from math import inf

from shardcache.errors import LockLost, QuorumUnavailable, ShardError
from shardcache.flows.lock.lease import Lease
from shardcache.flows.lock.lock_plan import LockPlan, drift
from shardcache.flows.lock.scripts import ADOPT
from shardcache.flows.lock.voter_registry import Life, VoterRegistry, VoterStatus, wait_of
from shardcache.flows.steps import Batch, Broadcast, Flow, Outcome, ServerRun, Sleep

__all__ = ("adopt", "put_back")

_ROUNDS = 5  # of adopters that come at once and take voters from each other: with an even number of them nobody may get a majority
_PAUSE = 0.01  # seconds, at most, before the second


def adopt(
    plan: LockPlan,
    given: bytes,
    own: bytes,
    fence: int,
    *,
    registry: VoterRegistry,
    clock: Callable[[], float],
    random: Callable[[], float],
) -> Flow[Lease]:
    """Return a lease by the token ``own`` on what ``given`` holds now; ``own`` must be new.

    Raises `LockLost` if somebody else has adopted it, or it has ended; `QuorumUnavailable` if too few voters answer to tell.
    """
    plan = plan.on(plan.voters)
    for attempt in range(1, _ROUNDS + 1):
        mine = plan.attempt(own, attempt)
        count = _Count(plan, registry.status(plan.voters))
        lease = yield from _attempt(plan, given, mine, fence, registry, count, clock=clock)
        if lease is not None:
            return lease
        count.raise_if_out(plan)
        if not count.taken:
            break
        yield Sleep(_PAUSE * attempt * random())
    raise LockLost(
        plan.name, "the lease that was handed over has ended, or somebody else has adopted it"
    )


class _Count:
    """What the voters answered, by place: who has our token now and counts (``taken``: the seconds left there), who has it and must wait, who went wrong."""

    __slots__ = (
        "_heard",
        "_quorum",
        "_shards",
        "_status",
        "errors",
        "guarded",
        "lefts",
        "lives",
        "taken",
    )

    def __init__(self, plan: LockPlan, status: VoterStatus) -> None:
        self._status = status
        self._shards = plan.voters.shards
        self._quorum = plan.quorum
        self._heard = 0
        self.lefts: dict[int, float] = {}  # of all who have our token
        self.taken: set[int] = set()
        self.guarded: set[int] = set()
        self.lives: dict[int, Life] = {}  # of those that are to be vetted
        self.errors: dict[int, ShardError] = {
            place: ShardError(name, "did not answer")
            for place, name in enumerate(plan.voters.names)
        }

    def on_reply(self, place: int, outcome: Outcome, run: ServerRun | None) -> bool:
        """Count one answer; return whether enough is known. Who has no majority hears all that answer, to know why."""
        self._heard += 1
        reply = outcome if isinstance(outcome, ShardError) else outcome[0]
        if isinstance(reply, ShardError):
            self.errors[place] = reply
        else:
            del self.errors[place]
            if reply[0] == 1:
                self.lefts[place] = reply[1] / 1000
                life = Life.of(run, *reply[2:])
                self._sort(place, life, wait_of(self._status, self._shards[place], life))
        return len(self.taken) >= self._quorum or self._heard == len(self._shards)

    def _sort(self, place: int, life: Life | None, wait: float | None) -> None:
        if wait == 0.0:
            self.taken.add(place)
        elif wait is None and life is not None:
            self.lives[place] = life
        else:
            self.guarded.add(place)

    def verify(self, plan: LockPlan, own: bytes, registry: VoterRegistry) -> Flow[None]:
        """Have lives looked up that were never met; then those count that may vote and have our token still."""
        yield from registry.verify(plan, self.lives)
        places = list(self.lives)
        asked = 0

        def take(at: int, outcome: Outcome, _: ServerRun | None) -> bool:
            nonlocal asked
            asked += 1
            place = places[at]
            life = self.lives.pop(place)
            if isinstance(outcome, ShardError) or outcome[0].__class__ is not list:
                self.guarded.add(place)
            elif outcome[0][0] == 1:
                wait = self._status.wait(self._shards[place], life, vetted=True)
                self._sort(place, life, inf if wait is None else wait)
            return asked == len(places)

        looks = [plan.script_with_life(ADOPT, own, own)]
        yield Broadcast(
            [Batch(self._shards[place], looks, True) for place in places], take, plan.voter_timeout
        )
        self.guarded.update(self.lives)

    def raise_if_out(self, plan: LockPlan) -> None:
        """Raise `QuorumUnavailable` if too few could say whether somebody else has adopted it."""
        voters = plan.voters.total
        answered = len(self._shards) - len(self.errors)
        if answered < self._quorum:
            out = "; ".join(map(str, self.errors.values())) or "none answered"
            raise QuorumUnavailable(plan.name, f"too few of the {voters} voters answer: {out}")
        if answered - len(self.guarded) < self._quorum:
            names = ", ".join(plan.voters.names[place] for place in sorted(self.guarded))
            raise QuorumUnavailable(
                plan.name,
                f"too many of the {voters} voters have restarted and may have forgotten who has adopted it: {names}",
            )


def _attempt(
    plan: LockPlan,
    given: bytes,
    own: bytes,
    fence: int,
    registry: VoterRegistry,
    count: _Count,
    *,
    clock: Callable[[], float],
) -> Flow[Lease | None]:
    """Return the lease, if there is one; ``count`` says why not."""
    shards = plan.voters.shards
    lease = Lease(own, plan.quorum, [0.0] * len(shards), fence, voters=plan.voters)
    asked = clock()
    commands = [plan.script_with_life(ADOPT, given, own)]
    won = False
    try:
        yield Broadcast(
            [Batch(shard, commands, True) for shard in shards], count.on_reply, plan.voter_timeout
        )
        if len(count.taken) < plan.quorum <= len(count.taken) + len(count.lives):
            yield from count.verify(plan, own, registry)
        else:
            count.guarded.update(count.lives)
        for place in count.taken:
            # The time left was read after ``asked``; what the two clocks may differ by is taken off, as for a new lease.
            left = count.lefts[place]
            lease.until[place] = asked + left - drift(left)
        lease.verified, lease.granted = set(count.taken), set(count.taken)
        won = len(count.taken) >= plan.quorum and lease.valid_until > clock()
    except GeneratorExit:
        raise
    except BaseException:
        yield from put_back(plan, own, given)
        raise
    if not won:
        yield from put_back(plan, own, given)
    lease.unsure = frozenset(count.errors)
    return lease if won else None


def put_back(plan: LockPlan, own: bytes, given: bytes) -> Flow[None]:
    """Undo an adoption that nobody goes on with: where our token is, the given one is again. Waits for no answer."""
    commands = [plan.script_with_life(ADOPT, own, given)]
    yield Broadcast(
        [Batch(shard, commands, True, compensates=True) for shard in plan.voters.shards],
        None,
        plan.voter_timeout,
    )
