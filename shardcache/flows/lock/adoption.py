"""Going on with a lease that another client has handed over.

Theory
------
The text that is handed over may arrive twice, since queues deliver at least once. So a client that
adopts puts a holder token of its own in the place of the given one, on every voter, in one step
each. A voter does that for one client only, and two majorities share a voter. So at most one client
has a majority. Its lease begins with the time that each voter has left. A client without a majority
puts the given token back where it has replaced it, so that another one, or itself, may still adopt.
It believed in nothing meanwhile, so nothing is promised twice.

A voter that came back with older data has the given token again, although a client may have adopted
it there. So its word counts as a grant does (`voter_registry`): in a life that may vote. If a life
had to be verified for that, its voter counts only if it has our token after the register was told.
"""

from collections.abc import Callable
from math import inf

from shardcache.errors import LockLost, QuorumUnavailable, ShardError
from shardcache.flows.lock.lease import Lease
from shardcache.flows.lock.lock_plan import LockPlan, drift
from shardcache.flows.lock.scripts import ADOPT
from shardcache.flows.lock.undo import LockUndo, Pending
from shardcache.flows.lock.voter_registry import Life, VoterRegistry, VoterStatus, wait_of
from shardcache.flows.steps import Batch, Broadcast, Flow, Outcome, ServerRun, Sleep

__all__ = ("adopt",)

# Rounds of clients that adopt at once and take voters from each other: of an even number of them
# nobody may get a majority.
_ROUNDS = 5
_PAUSE = 0.01  # seconds, at most, before the second round


def adopt(
    plan: LockPlan,
    given: bytes,
    own: bytes,
    fence: int,
    *,
    registry: VoterRegistry,
    clock: Callable[[], float],
    random: Callable[[], float],
    undo: LockUndo | None = None,
) -> Flow[Lease]:
    """Return the lease of a holder token under a new one.

    ``plan``: name, voters and times of the lock.
    ``given``: the holder token that was handed over.
    ``own``: the new holder token.
    ``fence``: the fencing token of the lease; it stays the same.
    ``registry``: what this process knows of the voters.
    ``clock``: returns seconds.
    ``random``: returns a number from 0 to 1.
    ``undo``: gets what is to be undone if the flow is broken off, and still has it at the end.

    Raises `LockLost` if another client has adopted it, or the lease has ended. Raises
    `QuorumUnavailable` if too few voters answer to be sure.
    """
    # Each round has a holder token of its own, as each attempt of `acquire` has.
    undo = LockUndo() if undo is None else undo
    plan = plan.on(plan.voters)
    for attempt in range(1, _ROUNDS + 1):
        mine = plan.text_in_key(own, attempt)
        count = _Count(plan, registry.status(plan.voters))
        lease = yield from _attempt(
            plan, given, mine, fence, registry, count, clock=clock, undo=undo
        )
        if lease is not None:
            return lease
        # Without a majority, try again only if clients took voters from each other.
        count.raise_if_out(plan)
        if not count.taken:
            break
        yield Sleep(_PAUSE * attempt * random())
    raise LockLost(
        plan.name, "the lease that was handed over has ended, or somebody else has adopted it"
    )


class _Count:
    """What the voters answered, by their index.

    ``lefts``: for each voter with our token, the seconds left there.
    ``taken``: voters with our token that count.
    ``guarded``: voters with our token that may not vote yet.
    ``lives``: of voters with our token that have to be verified, the life.
    ``errors``: for each other voter, the error.
    """

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
        self.lefts: dict[int, float] = {}
        self.taken: set[int] = set()
        self.guarded: set[int] = set()
        self.lives: dict[int, Life] = {}
        self.errors: dict[int, ShardError] = {
            place: ShardError(name, "did not answer")
            for place, name in enumerate(plan.voters.names)
        }

    def on_reply(self, place: int, outcome: Outcome, run: ServerRun | None) -> bool:
        """Count one answer; return whether enough is known: a majority, or all answers."""
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
        """Ask the register about unknown lives, then count the voters that still have our token."""
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
        """Raise `QuorumUnavailable` if too few voters can say whether another client adopted it."""
        voters = plan.voters.total
        answered = len(self._shards) - len(self.errors)
        if answered < self._quorum:
            out = "; ".join(map(str, self.errors.values())) or "none answered"
            raise QuorumUnavailable(plan.name, f"too few of the {voters} voters answer: {out}")
        if answered - len(self.guarded) < self._quorum:
            names = ", ".join(plan.voters.names[place] for place in sorted(self.guarded))
            raise QuorumUnavailable(
                plan.name,
                f"too many of the {voters} voters have restarted and may have forgotten who has "
                f"adopted it: {names}",
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
    undo: LockUndo,
) -> Flow[Lease | None]:
    """Return the lease, or None; then ``count`` says why."""
    # From the first byte on, there is something to be undone.
    shards = plan.voters.shards
    lease = Lease(own, plan.quorum, [0.0] * len(shards), fence, voters=plan.voters)
    asked = clock()
    commands = [plan.script_with_life(ADOPT, given, own)]
    won = False
    undo.pending = Pending(plan, own, given=given)
    try:
        yield Broadcast(
            [Batch(shard, commands, True) for shard in shards], count.on_reply, plan.voter_timeout
        )
        # Verify unknown lives only if that can make a majority.
        if len(count.taken) < plan.quorum <= len(count.taken) + len(count.lives):
            yield from count.verify(plan, own, registry)
        else:
            count.guarded.update(count.lives)
        for place in count.taken:
            # The voter read the time left after ``asked``. What the two clocks may differ by is
            # subtracted, as for a new lease.
            left = count.lefts[place]
            lease.until[place] = asked + left - drift(left)
        lease.verified, lease.granted = set(count.taken), set(count.taken)
        won = len(count.taken) >= plan.quorum and lease.valid_until > clock()
    except GeneratorExit:
        raise
    except BaseException:
        yield from undo.flow()
        raise
    if not won:
        yield from undo.flow()
    lease.unsure = frozenset(count.errors)
    return lease if won else None
