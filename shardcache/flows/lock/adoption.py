"""Going on with a lease that somebody else has handed over.

Theory
------
The text that is handed over may arrive twice, for queues deliver at least once. So whoever adopts puts a token of his own in the
place of the one that he was given, on every voter, in one step each. A voter does that for one of them only, and two majorities share a voter: so one
adopter at most has a majority. His lease begins with what each voter says it has left. Who gets none puts back what he has got, so that
another, or he himself, may still adopt; he believed in nothing meanwhile, so nothing is promised twice.
"""

from collections.abc import Callable

from shardcache.errors import LockLost, QuorumUnavailable, ShardError
from shardcache.flows.lock.lease import Lease
from shardcache.flows.lock.plan import LockPlan, drift
from shardcache.flows.lock.scripts import ADOPT
from shardcache.flows.steps import Batch, Canvass, Flow, Outcome, Run, Sleep

__all__ = ("adopt", "put_back")

_ROUNDS = 5  # of adopters that come at once and take voters from each other: with an even number of them nobody may get a majority
_PAUSE = 0.01  # seconds, at most, before the second


def adopt(
    plan: LockPlan,
    given: bytes,
    own: bytes,
    fence: int,
    *,
    clock: Callable[[], float],
    luck: Callable[[], float],
) -> Flow[Lease]:
    """Return a lease by the token ``own`` on what ``given`` holds now; ``own`` must be new.

    Raises `LockLost` if somebody else has adopted it, or it has ended; `QuorumUnavailable` if too few voters answer to tell.
    """
    for attempt in range(1, _ROUNDS + 1):
        mine = plan.attempt(own, attempt)
        lease, taken, errors = yield from _attempt(plan, given, mine, fence, clock=clock)
        if lease is not None:
            return lease
        if len(plan.voters.shards) - len(errors) < plan.quorum:
            out = "; ".join(map(str, errors)) or "none answered"
            raise QuorumUnavailable(plan.name, f"too few of the {len(plan.voters.shards)} voters answer: {out}")
        if not taken:
            break
        yield Sleep(_PAUSE * attempt * luck())
    raise LockLost(plan.name, "the lease that was handed over has ended, or somebody else has adopted it")


def _attempt(
    plan: LockPlan, given: bytes, own: bytes, fence: int, *, clock: Callable[[], float]
) -> Flow[tuple[Lease | None, int, list[ShardError]]]:
    """Return the lease, if there is one, on how many voters the token was changed, and what went wrong with the others."""
    shards = plan.voters.shards
    lease = Lease(own, plan.quorum, [0.0] * len(shards), fence, voters=plan.voters)
    errors: dict[int, ShardError] = {
        place: ShardError(name, "did not answer") for place, name in enumerate(plan.voters.names)
    }
    taken = refused = 0
    asked = clock()

    def take(place: int, outcome: Outcome, _: Run | None) -> bool:
        nonlocal taken, refused
        reply = outcome if isinstance(outcome, ShardError) else outcome[0]
        if isinstance(reply, ShardError):
            errors[place] = reply
            refused += 1
        else:
            del errors[place]
            done, left = reply
            if done == 1:
                # The time left was read after ``asked``; what the two clocks may differ by is taken off, as for a new lease.
                taken += 1
                lease.until[place] = asked + left / 1000 - drift(left / 1000)
            else:
                refused += 1
        # Who has no majority hears all that answer, to know why.
        return taken >= plan.quorum or taken + refused == len(shards)

    commands = [plan.script(ADOPT, given, own)]
    won = False
    try:
        yield Canvass([Batch(shard, commands, True) for shard in shards], take, plan.patience)
        won = taken >= plan.quorum and lease.valid_until > clock()
    except GeneratorExit:
        raise
    except BaseException:
        yield from put_back(plan, own, given)
        raise
    if not won:
        yield from put_back(plan, own, given)
    lease.unsure = frozenset(errors)
    return (lease if won else None), taken, list(errors.values())


def put_back(plan: LockPlan, own: bytes, given: bytes) -> Flow[None]:
    """Undo an adoption that nobody goes on with: where our token is, the given one is again. Waits for no answer."""
    commands = [plan.script(ADOPT, own, given)]
    yield Canvass([Batch(shard, commands, True, undo=True) for shard in plan.voters.shards], None, plan.patience)
