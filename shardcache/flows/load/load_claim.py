"""Claiming loads: the load lock on the key's own shard with another look at the value, then the votes of the others.

The home comes first. Of all who want to load, one gets the lock there, and nobody else asks the other voters: so contenders do not take voters from
each other, and who holds a majority can also store. The look comes behind the claim in the same exchange. So whatever a
former loader stored is seen: it stored it while it held this lock there, and we were granted it after that.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

from shardcache.codecs import Loaded
from shardcache.errors import ShardError, WrongType
from shardcache.flows.grouping import send, together
from shardcache.flows.load.chunks import SENT_AT_ONCE, parts
from shardcache.flows.load.context import LoadDesk
from shardcache.flows.load.request import Job, Order
from shardcache.flows.load.tags import valid
from shardcache.flows.lock.ballot import Ballot
from shardcache.flows.lock.lease import Lease
from shardcache.flows.lock.lock_plan import LockPlan
from shardcache.flows.lock.renew_release import extend
from shardcache.flows.steps import Flow, Outcome, Run

__all__ = ("RENEWALS", "Bid", "claim", "give_up", "renew", "renew_due", "sift")

RENEWALS = 3  # in one ttl of the load lock
_GUARDED_FROM = 3  # voters: with fewer, a restarted one would leave no majority


class Bid:
    """One attempt at one key, and what came of it.

    ``home``: our token is in the lock on the key's own shard, without which nothing can be stored. ``lease``: what we hold, by ``plan``.
    ``alone``: other processes may load too. ``held``: somebody else loads, and his lock ends in ``left`` seconds if nobody renews it.
    ``raw``: what is stored; ``found``: the same, if that makes loading unnecessary. ``asked``: so many of the voters, from the home on,
    have been asked, and may hold our token.
    """

    __slots__ = (
        "alone",
        "asked",
        "ballot",
        "found",
        "held",
        "home",
        "job",
        "lease",
        "left",
        "plan",
        "pttl",
        "raw",
        "sent",
        "token",
    )

    def __init__(self, job: Job, token: bytes = b"") -> None:
        self.job = job
        self.token = token
        self.plan: LockPlan = job.plan
        self.ballot: Ballot
        self.sent = 0.0
        self.asked = 0
        self.home = False
        self.lease: Lease | None = None
        self.alone = True
        self.held = False
        self.left = 0.0
        self.raw: bytes | None = None
        self.pttl = -2
        self.found: Loaded | None = None

    def look(self, raw: bytes | ShardError | None, pttl: int | ShardError) -> None:
        """Note what is stored. Somebody else's list or hash counts as nothing; so does what cannot be read."""
        if not isinstance(raw, ShardError) and not isinstance(pttl, ShardError):
            self.raw, self.pttl = raw, pttl

    @property
    def asked_shards(self) -> tuple[int, ...]:
        """The shards that may hold our token, the home first."""
        return self.job.plan.voters.shards[: self.asked]

    def keep_home(self) -> None:
        """Hold the lock on the key's own shard alone: enough to store, not to keep others from loading."""
        self.plan = self.job.solo
        self.lease = Lease(self.token, 1, [0.0])
        self.lease.held([0], self.sent, self.plan.ttl)
        self.alone = True

    def count(self, now: float) -> None:
        """Sum up the votes of all."""
        ballot, plan = self.ballot, self.plan
        if ballot.granted:
            lease = Lease(self.token, plan.quorum, [0.0] * len(plan.voters.shards))
            lease.held(list(ballot.fences), self.sent, plan.ttl)
            if lease.valid_until > now:
                self.lease, self.alone = lease, False
            else:
                self.held = True
            return
        out = sum(
            isinstance(one, ShardError) or (one is not None and isinstance(one[0], ShardError))
            for one in ballot.answers
        )
        if len(ballot.answers) - out - len(ballot.guarded) < plan.quorum:
            self.keep_home()
            return
        self.held = True
        self.left = ballot.free_in


def claim(order: Order, jobs: Sequence[Job], desk: LoadDesk, waiter: bytes) -> Flow[list[Bid]]:
    """Try once for each key. What was granted is to be given back by `give_up`, or by the fill.

    ``waiter``: who is to be woken if somebody else holds the lock; empty for nobody. Many keys are claimed part by part, each within a
    deadline of its own, and what has been granted is renewed meanwhile.
    """
    bids: list[Bid] = []
    try:
        for part in parts(jobs, SENT_AT_ONCE):
            yield from renew_due(order, bids, desk)
            if order.bulk:
                order.renew_budget()
            bids += yield from _claim_part(order, part, desk, waiter)
    except GeneratorExit:
        raise
    except BaseException:
        yield from give_up(order, bids)
        raise
    return bids


def _claim_part(order: Order, jobs: Sequence[Job], desk: LoadDesk, waiter: bytes) -> Flow[list[Bid]]:
    bids = [Bid(job, desk.mint("load")) for job in jobs]
    try:
        yield from _ask_homes(order, bids, desk, waiter)
        yield from sift(order, bids, desk)
        over = [bid for bid in bids if bid.home and bid.found is not None]
        if over:
            yield from give_up(order, over, homes_only=True)
        rest = [bid for bid in bids if bid.home and bid.found is None]
        if rest and order.policy.protect == "fleet":
            yield from _ask_others(order, rest, desk)
            refused = [bid for bid in rest if bid.held]
            if refused:
                yield from give_up(order, refused, waiter)
        else:
            for bid in rest:
                bid.keep_home()
    except GeneratorExit:
        raise
    except BaseException:
        yield from give_up(order, bids)
        raise
    return bids


def _ask_homes(order: Order, bids: list[Bid], desk: LoadDesk, waiter: bytes) -> Flow[None]:
    fleet = order.policy.protect == "fleet"
    register = desk.register
    sent = desk.clock()
    for bid in bids:
        voters = bid.plan.voters
        bid.ballot = Ballot(voters, register.roll(voters), hear_all=_unsure(bid, desk))
        bid.sent, bid.asked = sent, 1

    def heard(place: int, outcome: Outcome, run: Run | None) -> bool:
        bid = bids[place]
        bid.ballot.take(0, outcome, run if _guarded(bid) else None)
        answer = None if isinstance(outcome, ShardError) else outcome
        # Without the home nobody can give the value to anybody: then each process is for itself.
        if answer is not None and not isinstance(answer[0], ShardError) and not _out(answer[1]):
            vote, raw, pttl = answer
            bid.look(raw, pttl)
            bid.home = vote[0] == 1
            bid.held = fleet and not bid.home
            bid.left = max(vote[1], 0) / 1000
        return False  # the last to answer ends it

    asked = [(bid.job.home, [bid.job.claim(bid.token, waiter if fleet else b""), *bid.job.read()]) for bid in bids]
    yield from send(asked, heard, max(bid.plan.patience for bid in bids))
    for bid in bids:
        if bid.ballot.refusals:  # by an ACL, say: nothing could ever be stored, and nobody would know why
            _refuse(order, bid.ballot.refusals[0], desk)


def _refuse(order: Order, error: ShardError, desk: LoadDesk) -> NoReturn:
    """Tell of a load whose lock the servers do not let this client take, and raise why."""
    desk.ledger.note("dropped_write", error.shard, order.name, 1, error)
    raise error


def sift(order: Order, bids: Sequence[Bid], desk: LoadDesk) -> Flow[None]:
    """Find the values that are there by now, tags looked at."""
    for bid in bids:
        bid.found = desk.newer(bid.job, order.policy, bid.raw, bid.pttl)
    found = [bid for bid in bids if bid.found is not None]
    kept = yield from valid([bid.found for bid in found if bid.found is not None], desk)
    for bid, good in zip(found, kept, strict=True):
        if not good:
            bid.found = None


def _ask_others(order: Order, bids: list[Bid], desk: LoadDesk) -> Flow[None]:
    asked = [(bid, place) for bid in bids for place in range(1, len(bid.plan.voters.shards))]
    uncertain = {bid for bid, _ in asked}
    for bid in bids:
        bid.asked = len(bid.plan.voters.shards)

    def heard(at: int, outcome: Outcome, run: Run | None) -> bool:
        bid, place = asked[at]
        if bid.ballot.take(place, outcome, run if _guarded(bid) else None):
            uncertain.discard(bid)
        return not uncertain

    if asked:
        commands = [(bid.plan.voters.shards[place], [bid.job.claim(bid.token)]) for bid, place in asked]
        yield from send(commands, heard, max(bid.plan.patience for bid in bids))
    for bid in bids:
        if bid.ballot.refusal is not None:
            _refuse(order, bid.ballot.refusal, desk)
        if _guarded(bid):
            yield from bid.ballot.vet(bid.plan, desk.register)
    now = desk.clock()
    for bid in bids:
        bid.count(now)


def give_up(order: Order, bids: Sequence[Bid], waiter: bytes = b"", *, homes_only: bool = False) -> Flow[None]:
    """Take our tokens from every voter that was asked. Wakes those who wait, unless ``waiter`` goes on waiting himself.

    No answer is waited for, but that of one part before the next is sent: more than a connection takes would be lost.
    """
    for number, part in enumerate(parts(bids, SENT_AT_ONCE), 1):
        commands = [
            (shard, [bid.job.give_up(bid.token, b"" if place else waiter)])
            for bid in part
            for place, shard in enumerate(bid.asked_shards)
            if not (homes_only and place)
        ]
        last = number * SENT_AT_ONCE >= len(bids)
        if not last:
            order.renew_budget()
        if commands:
            yield from send(commands, None if last else _all_of(len(commands)), part[0].plan.patience, undo=True)


def _all_of(number: int) -> Callable[[int, Outcome, Run | None], bool]:
    """Return what waits for so many answers, whatever they are."""
    left = number

    def heard(_: int, __: Outcome, ___: Run | None) -> bool:
        nonlocal left
        left -= 1
        return not left

    return heard


def renew(bids: Iterable[Bid], desk: LoadDesk) -> Flow[bool]:
    """Keep the load locks that are held; return whether there is anything to keep."""
    held = False
    for part in parts([bid for bid in bids if bid.lease is not None], SENT_AT_ONCE):
        flows = [extend(bid.plan, bid.lease, clock=desk.clock) for bid in part if bid.lease is not None]
        held |= any(one != "lost" for one in (yield from together(flows)))
    return held


def renew_due(order: Order, bids: Sequence[Bid], desk: LoadDesk) -> Flow[None]:
    """Keep the load locks when a part of their ttl has passed: while many are claimed or filled, nobody else does it."""
    oldest = next((bid for bid in bids if bid.lease is not None), None) if order.bulk else None
    if oldest is None or oldest.lease is None:
        return
    if oldest.lease.valid_until - desk.clock() < oldest.plan.ttl * (1 - 1 / RENEWALS):
        order.renew_budget()
        yield from renew(bids, desk)


def _guarded(bid: Bid) -> bool:
    return len(bid.plan.voters.shards) >= _GUARDED_FROM


def _unsure(bid: Bid, desk: LoadDesk) -> bool:
    """Whether the register is still to be told of so long a ttl."""
    return _guarded(bid) and desk.register.roll(bid.plan.voters).longest < bid.plan.ttl_ms


def _out(answer: object) -> bool:
    return isinstance(answer, ShardError) and not isinstance(answer, WrongType)
