"""Claiming loads: the load lock on the key's own shard with another look at the value, then the votes of the others.

The home comes first. Of all who want to load, one gets the lock there, and nobody else asks the other voters: so contenders do not take voters from
each other, and who holds a majority can also store. The look comes behind the claim in the same exchange. So whatever a
former loader stored is seen: it stored it while it held this lock there, and we were granted it after that.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

from shardcache.codecs import Loaded
from shardcache.errors import ShardError, WrongType
from shardcache.flows.grouping import broadcast_grouped, together
from shardcache.flows.load.chunks import SENT_AT_ONCE, chunked
from shardcache.flows.load.context import LoadContext
from shardcache.flows.load.request import LoadKey, LoadRequest
from shardcache.flows.load.tags import valid
from shardcache.flows.lock.ballot import Ballot
from shardcache.flows.lock.lease import Lease
from shardcache.flows.lock.lock_plan import LockPlan
from shardcache.flows.lock.renew_release import extend
from shardcache.flows.steps import Flow, Outcome, ServerRun

__all__ = ("RENEWALS", "LoadClaim", "claim_loads", "give_up", "renew", "renew_due", "sift")

RENEWALS = 3  # in one ttl of the load lock
_GUARDED_FROM = 3  # voters: with fewer, a restarted one would leave no majority


class LoadClaim:
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
        "lease",
        "left",
        "load_key",
        "plan",
        "pttl",
        "raw",
        "sent",
        "token",
    )

    def __init__(self, load_key: LoadKey, token: bytes = b"") -> None:
        self.load_key = load_key
        self.token = token
        self.plan: LockPlan = load_key.plan
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

    def note_value(self, raw: bytes | ShardError | None, pttl: int | ShardError) -> None:
        """Note what is stored. Somebody else's list or hash counts as nothing; so does what cannot be read."""
        if not isinstance(raw, ShardError) and not isinstance(pttl, ShardError):
            self.raw, self.pttl = raw, pttl

    @property
    def asked_shards(self) -> tuple[int, ...]:
        """The shards that may hold our token, the home first."""
        return self.load_key.plan.voters.shards[: self.asked]

    def keep_home(self) -> None:
        """Hold the lock on the key's own shard alone: enough to store, not to keep others from loading."""
        self.plan = self.load_key.solo
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


def claim_loads(
    request: LoadRequest, load_keys: Sequence[LoadKey], context: LoadContext, waiter: bytes
) -> Flow[list[LoadClaim]]:
    """Try once for each key. What was granted is to be given back by `give_up`, or by the fill.

    ``waiter``: who is to be woken if somebody else holds the lock; empty for nobody. Many keys are claimed part by part, each within a
    deadline of its own, and what has been granted is renewed meanwhile.
    """
    claims: list[LoadClaim] = []
    try:
        for part in chunked(load_keys, SENT_AT_ONCE):
            yield from renew_due(request, claims, context)
            if request.bulk:
                request.renew_budget()
            claims += yield from _claim_part(request, part, context, waiter)
    except GeneratorExit:
        raise
    except BaseException:
        yield from give_up(request, claims)
        raise
    return claims


def _claim_part(
    request: LoadRequest, load_keys: Sequence[LoadKey], context: LoadContext, waiter: bytes
) -> Flow[list[LoadClaim]]:
    claims = [LoadClaim(load_key, context.new_token("load")) for load_key in load_keys]
    try:
        yield from _ask_homes(request, claims, context, waiter)
        yield from sift(request, claims, context)
        over = [claim for claim in claims if claim.home and claim.found is not None]
        if over:
            yield from give_up(request, over, homes_only=True)
        rest = [claim for claim in claims if claim.home and claim.found is None]
        if rest and request.policy.protect == "fleet":
            yield from _ask_others(request, rest, context)
            refused = [claim for claim in rest if claim.held]
            if refused:
                yield from give_up(request, refused, waiter)
        else:
            for claim in rest:
                claim.keep_home()
    except GeneratorExit:
        raise
    except BaseException:
        yield from give_up(request, claims)
        raise
    return claims


def _ask_homes(
    request: LoadRequest, claims: list[LoadClaim], context: LoadContext, waiter: bytes
) -> Flow[None]:
    fleet = request.policy.protect == "fleet"
    registry = context.registry
    sent = context.clock()
    for claim in claims:
        voters = claim.plan.voters
        claim.ballot = Ballot(voters, registry.status(voters), hear_all=_unsure(claim, context))
        claim.sent, claim.asked = sent, 1

    def on_reply(place: int, outcome: Outcome, run: ServerRun | None) -> bool:
        claim = claims[place]
        claim.ballot.on_reply(0, outcome, run if _guarded(claim) else None)
        answer = None if isinstance(outcome, ShardError) else outcome
        # Without the home nobody can give the value to anybody: then each process is for itself.
        if answer is not None and not isinstance(answer[0], ShardError) and not _out(answer[1]):
            vote, raw, pttl = answer
            claim.note_value(raw, pttl)
            claim.home = vote[0] == 1
            claim.held = fleet and not claim.home
            claim.left = max(vote[1], 0) / 1000
        return False  # the last to answer ends it

    asked = [
        (
            claim.load_key.home,
            [claim.load_key.claim(claim.token, waiter if fleet else b""), *claim.load_key.read()],
        )
        for claim in claims
    ]
    yield from broadcast_grouped(asked, on_reply, max(claim.plan.voter_timeout for claim in claims))
    for claim in claims:
        if (
            claim.ballot.refusals
        ):  # by an ACL, say: nothing could ever be stored, and nobody would know why
            _refuse(request, claim.ballot.refusals[0], context)


def _refuse(request: LoadRequest, error: ShardError, context: LoadContext) -> NoReturn:
    """Tell of a load whose lock the servers do not let this client take, and raise why."""
    context.reply_policy.note("dropped_write", error.shard, request.name, 1, error)
    raise error


def sift(request: LoadRequest, claims: Sequence[LoadClaim], context: LoadContext) -> Flow[None]:
    """Find the values that are there by now, tags looked at."""
    for claim in claims:
        claim.found = context.newer(claim.load_key, request.policy, claim.raw, claim.pttl)
    found = [claim for claim in claims if claim.found is not None]
    kept = yield from valid([claim.found for claim in found if claim.found is not None], context)
    for claim, good in zip(found, kept, strict=True):
        if not good:
            claim.found = None


def _ask_others(request: LoadRequest, claims: list[LoadClaim], context: LoadContext) -> Flow[None]:
    asked = [
        (claim, place) for claim in claims for place in range(1, len(claim.plan.voters.shards))
    ]
    uncertain = {claim for claim, _ in asked}
    for claim in claims:
        claim.asked = len(claim.plan.voters.shards)

    def on_reply(at: int, outcome: Outcome, run: ServerRun | None) -> bool:
        claim, place = asked[at]
        if claim.ballot.on_reply(place, outcome, run if _guarded(claim) else None):
            uncertain.discard(claim)
        return not uncertain

    if asked:
        commands = [
            (claim.plan.voters.shards[place], [claim.load_key.claim(claim.token)])
            for claim, place in asked
        ]
        yield from broadcast_grouped(
            commands, on_reply, max(claim.plan.voter_timeout for claim in claims)
        )
    for claim in claims:
        if claim.ballot.refusal is not None:
            _refuse(request, claim.ballot.refusal, context)
        if _guarded(claim):
            yield from claim.ballot.verify(claim.plan, context.registry)
    now = context.clock()
    for claim in claims:
        claim.count(now)


def give_up(
    request: LoadRequest,
    claims: Sequence[LoadClaim],
    waiter: bytes = b"",
    *,
    homes_only: bool = False,
) -> Flow[None]:
    """Take our tokens from every voter that was asked. Wakes those who wait, unless ``waiter`` goes on waiting himself.

    No answer is waited for, but that of one part before the next is sent: more than a connection takes would be lost.
    """
    for number, part in enumerate(chunked(claims, SENT_AT_ONCE), 1):
        commands = [
            (shard, [claim.load_key.give_up(claim.token, b"" if place else waiter)])
            for claim in part
            for place, shard in enumerate(claim.asked_shards)
            if not (homes_only and place)
        ]
        last = number * SENT_AT_ONCE >= len(claims)
        if not last:
            request.renew_budget()
        if commands:
            yield from broadcast_grouped(
                commands,
                None if last else _all_of(len(commands)),
                part[0].plan.voter_timeout,
                compensates=True,
            )


def _all_of(number: int) -> Callable[[int, Outcome, ServerRun | None], bool]:
    """Return what waits for so many answers, whatever they are."""
    left = number

    def on_reply(_: int, __: Outcome, ___: ServerRun | None) -> bool:
        nonlocal left
        left -= 1
        return not left

    return on_reply


def renew(claims: Iterable[LoadClaim], context: LoadContext) -> Flow[bool]:
    """Keep the load locks that are held; return whether there is anything to keep."""
    held = False
    for part in chunked([claim for claim in claims if claim.lease is not None], SENT_AT_ONCE):
        flows = [
            extend(claim.plan, claim.lease, clock=context.clock)
            for claim in part
            if claim.lease is not None
        ]
        held |= any(one != "lost" for one in (yield from together(flows)))
    return held


def renew_due(
    request: LoadRequest, claims: Sequence[LoadClaim], context: LoadContext
) -> Flow[None]:
    """Keep the load locks when a part of their ttl has passed: while many are claimed or filled, nobody else does it."""
    oldest = (
        next((claim for claim in claims if claim.lease is not None), None) if request.bulk else None
    )
    if oldest is None or oldest.lease is None:
        return
    if oldest.lease.valid_until - context.clock() < oldest.plan.ttl * (1 - 1 / RENEWALS):
        request.renew_budget()
        yield from renew(claims, context)


def _guarded(claim: LoadClaim) -> bool:
    return len(claim.plan.voters.shards) >= _GUARDED_FROM


def _unsure(claim: LoadClaim, context: LoadContext) -> bool:
    """Whether the register is still to be told of so long a ttl."""
    return (
        _guarded(claim) and context.registry.status(claim.plan.voters).longest < claim.plan.ttl_ms
    )


def _out(answer: object) -> bool:
    return isinstance(answer, ShardError) and not isinstance(answer, WrongType)
