"""Acquiring: ask all voters at once, count, make the fencing token majority-known, or give back and wait.

Theory: why the tokens grow
---------------------------
A voter that grants also counts: its counter for this lock goes up by one. The token of an acquisition is the highest
counter among the grants that it counts, and the lock is taken only when a majority has its counter at the token *while
still holding our key*: those that lag are brought up by `CONFIRM`, which looks at the owner first. Take two
acquisitions. Their majorities share a voter, and on that voter their keys cannot have been there at once. So the later
one was granted there after the earlier one's confirmation, which had left the counter at the earlier token; its own grant counted on
from there. No clock is in this argument, and keys may vanish at any time; counters must not (see `scripts` for where they restart).

Validity: measured from before the first byte was sent, see `lease`. Whatever goes wrong from then on, a cancellation
included, the flow tells all voters to release before it ends, those too that have not answered: on each
connection the release comes behind the request.
"""

from collections.abc import Callable

from shardcache.errors import LockConflict, LockNotAcquired, QuorumUnavailable, ShardError
from shardcache.flows.lock.ballot import Ballot
from shardcache.flows.lock.lease import Lease
from shardcache.flows.lock.lock_plan import FENCE_TTL, LockPlan
from shardcache.flows.lock.membership import Electorate
from shardcache.flows.lock.renew_release import give_back
from shardcache.flows.lock.scripts import CONFIRM
from shardcache.flows.lock.voter_registry import VoterRegistry
from shardcache.flows.lock.wait_limit import Note, WaitLimit
from shardcache.flows.steps import Batch, Broadcast, Flow, Listen, Outcome, ServerRun, Sleep

__all__ = ("LONGEST_WAIT", "acquire")

LONGEST_WAIT = (
    1.0  # seconds after which a waiter looks for itself: whoever was woken may have died of it
)
_SPLIT_WAIT = (
    0.002  # seconds, at most, between attempts of contenders that took voters from each other
)
_SPLIT_TRIPS = (
    2  # times that an attempt took: how long they are waited for at least, to have given back
)
_LONG_SPLIT = 50  # attempts after which the waits between them grow no more
_MOST_SETTLED = 5  # attempts that may follow at once on news of the membership
_LAST_LOOK = 0.005  # seconds that voters have to answer when the time is over
_OUTAGE_WAIT = 0.1  # seconds, at most, between attempts while voters are out


def acquire(
    plan: LockPlan,
    registry: VoterRegistry,
    *,
    token: bytes,
    wait: float | None,
    clock: Callable[[], float],
    random: Callable[[], float],
    began: float | None = None,
    note: Note | None = None,
    electorate: Electorate | None = None,
) -> Flow[Lease]:
    """Return a lease, or raise `LockNotAcquired` (`LockConflict`, `QuorumUnavailable`) once ``wait`` seconds are over.

    ``wait`` 0: one attempt; None: as long as somebody holds it, and a ttl for a majority to answer; `math.inf`: whatever happens. It counts from
    ``began``, by default from now. ``note`` is told why it has to wait, when it has for a second. ``token`` must be new, and noted by the
    caller as its own before this begins.
    """
    if electorate is not None:
        plan = electorate.plan(plan)
    wait_limit = WaitLimit(
        plan, registry.status(plan.voters), wait, clock() if began is None else began, note
    )
    polite = wait != 0
    attempt = settled = 0
    error: LockNotAcquired | None = None
    while True:
        attempt += 1
        most = LONGEST_WAIT * (0.75 + 0.5 * random())
        left = wait_limit.left(clock(), most)
        limit = None if wait == 0 else wait_limit.limit(clock(), _LAST_LOOK)
        sent = clock()
        asked = plan
        lease, ballot = yield from _attempt(
            plan,
            registry,
            plan.attempt(token, attempt),
            polite=polite,
            announce=max(left, 0.0),
            limit=limit,
            clock=clock,
        )
        others = {plan.electors.names[place]: text for place, text in ballot.memberships.items()}
        if lease is not None:
            if not others or electorate is None:
                return lease
            yield from _kept(plan, lease, electorate.note(plan, others))
            if lease.valid_until > clock():
                return lease
            # This process stood still meanwhile. Another may have had the lock since, with a newer token.
            yield from give_back(plan, lease.token, ballot.unsure)
            others = {}
        if others and electorate is not None:
            again = yield from electorate.settle(plan, others)
            asked, plan = plan, electorate.plan(plan)
            if again and settled < _MOST_SETTLED:
                settled += 1
                continue
        before, error = error, _reason(asked, ballot)
        if ballot.refusal is not None:  # waiting would not mend it
            raise error from ballot.refusal
        if (
            before is not None
            and limit is not None
            and limit < plan.voter_timeout
            and isinstance(error, QuorumUnavailable)
        ):
            error = before  # there was no time left to hear the voters
        now = clock()
        took = now - sent
        left = wait_limit.left(now, most)
        if left <= 0:
            raise error
        wait_limit.goes_on(now, error, passing=ballot.passing)
        left = wait_limit.nap(now, left)
        polite = False
        if isinstance(error, LockConflict):
            free_in = error.retry_after or 0.0
            if free_in > 0:
                if (
                    ballot.nobody
                ):  # contenders give back what they have at once, but who died does not
                    left = min(left, _SPLIT_TRIPS * (1 + random()) * took)
                if _split(
                    ballot
                ):  # what we gave back wakes those who wait, ourselves included: not in a tight loop
                    pause = min(left, _SPLIT_WAIT * random() * min(attempt, _LONG_SPLIT))
                    yield Sleep(pause)
                    left -= pause
                heard = yield _woken(asked, ballot, attempt, min(left, free_in + 0.01 * random()))
                if isinstance(
                    heard, ShardError
                ):  # nobody listens there: look again, but not at once
                    yield Sleep(min(left, free_in, _OUTAGE_WAIT * (0.5 + random() / 2)))
                continue
            if _split(ballot):
                yield Sleep(min(left, _SPLIT_WAIT * random() * min(attempt, 10)))
            else:  # it is free, but others have waited for it before us
                yield _woken(asked, ballot, attempt, min(left, 0.02 * (1 + random())))
        else:
            yield Sleep(min(left, _OUTAGE_WAIT * (0.5 + random() / 2)))


def _attempt(
    plan: LockPlan,
    registry: VoterRegistry,
    token: bytes,
    *,
    polite: bool,
    announce: float,
    limit: float | None,
    clock: Callable[[], float],
) -> Flow[tuple[Lease | None, Ballot]]:
    electors = plan.electors
    status = registry.status(electors)
    ballot = Ballot(
        electors, status, hear_all=status.longest < plan.ttl_ms, voting=len(plan.voters.shards)
    )
    lease = Lease(token, plan.quorum, [0.0] * len(plan.voters.shards), voters=plan.voters)
    sent = clock()
    commands = [plan.acquire(token, polite=polite, announce_ms=round(announce * 1000))]
    batches = [Batch(shard, commands, True) for shard in plan.voters.shards]
    if electors is not plan.voters:  # those of before have only to be free
        looks = [plan.acquire(token, polite=False, announce_ms=0, read_only=True)]
        batches += [Batch(shard, looks, True) for shard in electors.shards[len(batches) :]]
    won = False
    try:
        yield Broadcast(batches, ballot.on_reply, plan.voter_timeout, limit)
        new = bool(ballot.lives) or status.longest < plan.ttl_ms
        if new:
            yield from ballot.verify(plan, registry)
        if ballot.granted and status.longest >= plan.ttl_ms:
            lease.fence = fence = ballot.fence
            # A voter that restarted after its grant and before the register knew it has forgotten us, and nobody can tell. So
            # what was granted before that counts only where our key is still there after it.
            places = [] if new else ballot.at(fence)
            if sum(
                place < ballot.voting for place in places
            ) < plan.quorum or not electors.majority(places):
                places = yield from _confirm(plan, lease, ballot, places)
            places, free = [place for place in places if place < ballot.voting], places
            if len(places) >= plan.quorum and electors.majority(free if new else ballot.fences):
                lease.held(places, sent, plan.ttl)
                lease.unsure = ballot.unsure
                lease.granted.update(place for place in ballot.fences if place < ballot.voting)
                lease.verified.update(
                    places if new else (place for place in ballot.fences if place < ballot.voting)
                )
                won = lease.valid_until > clock()
                if won:
                    status.out_since = None
    except GeneratorExit:
        raise  # nobody carries out steps any more
    except BaseException:
        yield from give_back(plan, token, ballot.unsure)
        raise
    if not won:
        yield from give_back(plan, token, ballot.unsure)
    return (lease if won else None), ballot


def _confirm(plan: LockPlan, lease: Lease, ballot: Ballot, known: list[int]) -> Flow[list[int]]:
    """Bring the counters that lag up to the token, where the key is still ours; return who has it now."""
    behind = [place for place in ballot.fences if place not in known]
    electors = plan.electors
    confirmed = list(known)
    asked = 0

    def take(at: int, outcome: Outcome, run: ServerRun | None) -> bool:
        nonlocal asked
        asked += 1
        reply = None if isinstance(outcome, ShardError) else outcome[0]
        # A server that restarted since its grant may have our key from an old snapshot: it has forgotten
        # what it granted in between.
        same = run is None or ballot.runs.get(behind[at], run.id) == run.id
        if same and (reply == 1 or (reply.__class__ is list and reply[0] == 1)):
            confirmed.append(behind[at])
        return asked == len(behind) or (
            electors.majority(confirmed)
            and sum(place < ballot.voting for place in confirmed) >= plan.quorum
        )

    commands = [plan.script(CONFIRM, lease.token, lease.fence, FENCE_TTL)]
    looks = [plan.acquire(lease.token, polite=False, announce_ms=0, read_only=True)]
    batches = [
        Batch(electors.shards[place], commands if place < ballot.voting else looks, True)
        for place in behind
    ]
    yield Broadcast(batches, take, plan.voter_timeout)
    return confirmed


def _kept(plan: LockPlan, lease: Lease, flow: Flow[None]) -> Flow[None]:
    """Run what follows on an acquisition; if that is broken off, give back what was acquired."""
    try:
        yield from flow
    except GeneratorExit:
        raise
    except BaseException:
        yield from give_back(plan, lease.token, lease.unsure)
        raise


def _reason(plan: LockPlan, ballot: Ballot) -> LockNotAcquired:
    """Return the error that says why an attempt failed."""
    votes = ballot.votes(plan.electors.names)
    said = "; ".join(map(str, votes))
    out = sum(vote.kind in ("timeout", "unreachable", "refused") for vote in votes)
    guarded = sum(vote.kind == "guarded" for vote in votes)
    if out + guarded > len(votes) - plan.quorum:
        why = "cannot vote" if not guarded else "cannot vote or have restarted"
        return QuorumUnavailable(
            plan.name, f"too many of the {len(votes)} voters {why}: {said}", votes
        )
    if ballot.granted:
        return QuorumUnavailable(
            plan.name,
            f"a majority granted it, but did not confirm it in time for a ttl of {plan.ttl:g} s: {said}",
            votes,
        )
    return LockConflict(plan.name, f"held by somebody else: {said}", votes, ballot.free_in)


def _split(ballot: Ballot) -> bool:
    """Whether some voters granted to us: contenders came at once, and took voters from each other."""
    return bool(ballot.fences or ballot.guarded)


def _woken(plan: LockPlan, ballot: Ballot, attempt: int, timeout: float) -> Listen:
    """Return the step that waits for a release: where the holder is, and at the first such voter, so that all who wait stand in one line."""
    return plan.woken_at(plan.electors.shards[ballot.listens(attempt)], timeout)
