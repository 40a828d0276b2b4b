"""Acquiring: ask all voters at once, and count their votes.

Then either make the fencing token known to a majority, or give back what was granted, and wait.

Theory: why the tokens grow
---------------------------
A voter that grants also counts: its counter for this lock goes up by one. The token of an
acquisition is the highest counter among its grants. The lock is taken only when a majority has its
counter at the token *while it still has our key*. Voters whose counter is lower are raised by
`CONFIRM`, which checks the owner first.

Take two acquisitions. Their majorities share a voter, and on that voter their keys cannot have been
there at the same time. So the later one was granted there after the earlier one was confirmed. The
confirmation had left the counter at the earlier token, and the later grant counted on from there.
This argument needs no clock, and keys may vanish at any time. Counters must not vanish (`scripts`
says where they start again).

Validity is measured from before the first byte was sent, see `lease`. Whatever goes wrong from then
on, a cancellation included, the flow tells all voters to release before it ends, also those that
have not answered: on each connection the release comes behind the request.
"""

from collections.abc import Callable
from math import inf

from shardcache.errors import LockConflict, LockNotAcquired, QuorumUnavailable, ShardError
from shardcache.flows.lock.backoff import next_backoff, outage_wait
from shardcache.flows.lock.ballot import Ballot
from shardcache.flows.lock.lease import Lease
from shardcache.flows.lock.lock_plan import FENCE_TTL, LockPlan
from shardcache.flows.lock.membership import Electorate
from shardcache.flows.lock.scripts import CONFIRM
from shardcache.flows.lock.undo import LockUndo, Pending
from shardcache.flows.lock.voter_registry import VoterRegistry
from shardcache.flows.lock.wait_limit import Note, WaitLimit
from shardcache.flows.steps import Batch, Broadcast, Flow, Listen, Outcome, ServerRun, Sleep

__all__ = ("LONGEST_WAIT", "acquire")

# Seconds after which a waiter looks for itself: the waiter that was woken may have died.
LONGEST_WAIT = 1.0
_MOST_SETTLED = 5  # attempts that may follow at once on news of the membership
_LAST_LOOK = 0.005  # seconds that voters have to answer when the time is over


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
    undo: LockUndo | None = None,
    end: float = inf,
) -> Flow[Lease]:
    """Return a lease.

    ``plan``: name, voters and times of the lock.
    ``registry``: what this process knows of the voters.
    ``token``: the holder token; a new one, which the caller has noted as its own before.
    ``wait``: seconds. 0: one attempt; `math.inf`: for ever; None: for ever while another holder has
        the lock, and one ttl while too few voters answer.
    ``clock``: returns seconds.
    ``random``: returns a number from 0 to 1.
    ``began``: when the call began, from which ``wait`` counts; None: now.
    ``note``: called with the reason when the call has waited for a second.
    ``electorate``: names the voters; None: those of the plan.
    ``undo``: gets what is to be undone if the flow is broken off, and still has it at the end.
    ``end``: when the caller's `deadline` ends the call, whatever ``wait`` is; inf: there is none.

    Raises `LockConflict` or `QuorumUnavailable`, both `LockNotAcquired`, when the time is over.
    """
    # The voters may be other ones than when the handle was made.
    undo = LockUndo() if undo is None else undo
    if electorate is not None:
        plan = electorate.plan(plan)
    wait_limit = WaitLimit(
        plan, registry.status(plan.voters), wait, clock() if began is None else began, note, end
    )
    polite = wait != 0
    attempt = settled = 0
    error: LockNotAcquired | None = None
    # Each attempt has a text of its own in the key: the holder token and its number.
    while True:
        # Step 1: one attempt. A single one is bounded by the time of the voters alone.
        attempt += 1
        # The longest pause before the next attempt, in seconds.
        most = LONGEST_WAIT * (0.75 + 0.5 * random())
        left = wait_limit.left(clock())
        limit = inf if wait == 0 else max(left, _LAST_LOOK)
        sent = clock()
        wait_limit.check_end(sent, error)
        asked_by = plan
        lease, ballot = yield from _attempt(
            plan,
            registry,
            plan.text_in_key(token, attempt),
            polite=polite,
            announce=max(min(left, most), 0.0),
            limit=limit,
            clock=clock,
            undo=undo,
        )
        others = {plan.electors.names[place]: text for place, text in ballot.memberships.items()}
        # Step 2: it is granted; voters that know another membership may have to be told.
        if lease is not None:
            if electorate is not None and others:
                yield from _kept(undo, electorate.note(plan, others))
            if not others or lease.valid_until > clock():
                return lease
            # This process was paused, and the lease is over: another holder may have had the lock
            # since, with a newer token.
            yield from undo.flow()
        # Step 3: voters refused because they know a newer membership: learn it, and try at once.
        elif others and electorate is not None:
            again = yield from electorate.settle(plan, others)
            plan = electorate.plan(plan)
            if again and settled < _MOST_SETTLED:
                settled += 1
                continue
        # If there was no time left to hear the voters, the reason before this attempt counts.
        error = _reason(asked_by, ballot, error if limit < plan.voter_timeout else None)
        # Step 4: go on waiting only while there is time.
        now = clock()
        left = min(wait_limit.left(now), most)
        if left <= 0:
            raise error
        wait_limit.goes_on(now, error, passing=ballot.passing)
        left = wait_limit.nap(now, left)
        polite = False
        # Step 5: sleep, listen for a release, or both.
        wanted = next_backoff(error, ballot, left, attempt=attempt, took=now - sent, random=random)
        if wanted.sleep is not None:
            yield Sleep(wanted.sleep)
        if wanted.listen is not None:
            timeout = min(wanted.most, wanted.listen + wanted.jitter * random())
            heard = yield _woken(asked_by, ballot, attempt, timeout)
            # The voter that we listen at is out: look again, but not at once.
            if wanted.unheard is not None and isinstance(heard, ShardError):
                yield Sleep(outage_wait(wanted.unheard, random))


def _attempt(
    plan: LockPlan,
    registry: VoterRegistry,
    text: bytes,
    *,
    polite: bool,
    announce: float,
    limit: float,
    clock: Callable[[], float],
    undo: LockUndo,
) -> Flow[tuple[Lease | None, Ballot]]:
    """Make one attempt; return the lease if it was won, and the ballot.

    ``text``: what is to stand in the key: the holder token and the number of the attempt.
    ``polite``: whether clients that already wait go first.
    ``announce``: seconds for which our sign stays on voters that refuse, so that a release wakes
        us; 0: there is none.
    ``limit``: seconds that the caller waits for votes.
    """
    # Each voter must remember the longest ttl in use (`voter_registry`). If one may not know so
    # long a ttl yet, all have to be heard.
    electors = plan.electors
    status = registry.status(electors)
    ballot = Ballot(
        electors, status, hear_all=status.longest < plan.ttl_ms, voting=len(plan.voters.shards)
    )
    lease = Lease(text, plan.quorum, [0.0] * len(plan.voters.shards), voters=plan.voters)
    sent = clock()
    commands = [plan.acquire(text, polite=polite, announce_ms=round(announce * 1000))]
    batches = [Batch(shard, commands, True) for shard in plan.voters.shards]
    if electors is not plan.voters:  # former voters only have to be free
        looks = [plan.acquire(text, polite=False, announce_ms=0, read_only=True)]
        batches += [Batch(shard, looks, True) for shard in electors.shards[len(batches) :]]
    # From the first byte on, there is something to be undone.
    won = False
    undo.pending = Pending(plan, text, lambda: ballot.unsure)
    try:
        yield Broadcast(batches, ballot.on_reply, plan.voter_timeout, limit)
        # Voters in a life that this process has not met are verified first.
        new = bool(ballot.lives) or status.longest < plan.ttl_ms
        if new:
            yield from ballot.verify(plan, registry)
        if ballot.granted and status.longest >= plan.ttl_ms:
            lease.fence = fence = ballot.fence
            # A voter that restarted between its grant and its registration has forgotten us, and
            # nobody can tell. So if voters were registered now, a grant counts only where our key
            # is still there afterwards.
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
        raise  # no driver carries out steps any more
    except BaseException:
        yield from undo.flow()
        raise
    if not won:
        yield from undo.flow()
    return (lease if won else None), ballot


def _confirm(plan: LockPlan, lease: Lease, ballot: Ballot, known: list[int]) -> Flow[list[int]]:
    """Raise lower counters to the token where the key is still ours; return the voters with it."""
    behind = [place for place in ballot.fences if place not in known]
    electors = plan.electors
    confirmed = list(known)
    heard = 0

    def on_reply(at: int, outcome: Outcome, run: ServerRun | None) -> bool:
        nonlocal heard
        heard += 1
        reply = None if isinstance(outcome, ShardError) else outcome[0]
        # A server that restarted since its grant may have our key from an old snapshot. Then it has
        # forgotten what it granted in between.
        same = run is None or ballot.runs.get(behind[at], run.id) == run.id
        if same and (reply == 1 or (reply.__class__ is list and reply[0] == 1)):
            confirmed.append(behind[at])
        return heard == len(behind) or (
            electors.majority(confirmed)
            and sum(place < ballot.voting for place in confirmed) >= plan.quorum
        )

    # Former voters have no counter to raise: they only look whether the lock is free there.
    commands = [plan.script(CONFIRM, lease.token, lease.fence, FENCE_TTL)]
    looks = [plan.acquire(lease.token, polite=False, announce_ms=0, read_only=True)]
    batches = [
        Batch(electors.shards[place], commands if place < ballot.voting else looks, True)
        for place in behind
    ]
    yield Broadcast(batches, on_reply, plan.voter_timeout)
    return confirmed


def _kept(undo: LockUndo, flow: Flow[None]) -> Flow[None]:
    """Run a flow after an acquisition; if it is broken off, give back what was acquired."""
    try:
        yield from flow
    except GeneratorExit:
        raise
    except BaseException:
        yield from undo.flow()
        raise


def _reason(plan: LockPlan, ballot: Ballot, before: LockNotAcquired | None) -> LockNotAcquired:
    """Return the error that says why an attempt failed.

    ``before``: why the one before failed, if this one had no time to hear the voters.

    Raises the error if waiting would not help.
    """
    error = _failure(plan, ballot)
    if ballot.refusal is not None:
        raise error from ballot.refusal
    if before is not None and isinstance(error, QuorumUnavailable):
        return before
    return error


def _failure(plan: LockPlan, ballot: Ballot) -> LockNotAcquired:
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
            f"a majority granted it, but did not confirm it in time for a ttl of {plan.ttl:g} s: "
            f"{said}",
            votes,
        )
    return LockConflict(plan.name, f"held by somebody else: {said}", votes, ballot.free_in)


def _woken(plan: LockPlan, ballot: Ballot, attempt: int, timeout: float) -> Listen:
    """Return the step that waits for a release.

    It waits at the first voter that has the holder's key, so that all waiters are in one queue.
    """
    return plan.woken_at(plan.electors.shards[ballot.listens(attempt)], timeout)
