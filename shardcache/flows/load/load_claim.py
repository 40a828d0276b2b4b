"""Claiming loads: first the load lock on the key's own shard, then the votes of the others.

The key's own shard is asked first. Of all callers that want to load, one gets the lock
there, and only that one asks the other voters. So callers do not take voters from each other, and
the one with a majority can also store. The claim is followed by a read of the value in the same
exchange. So it sees whatever a former loader has stored: that loader stored it while it held the
lock there, and we were granted the lock after that.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

from shardcache.codecs import Loaded
from shardcache.errors import ShardError, WrongType
from shardcache.flows.grouping import broadcast_grouped, together
from shardcache.flows.load.context import LoadContext
from shardcache.flows.load.request import SENT_AT_ONCE, LoadKey, LoadRequest, chunked, look_commands
from shardcache.flows.load.tags import valid
from shardcache.flows.lock.ballot import Ballot
from shardcache.flows.lock.lease import Lease
from shardcache.flows.lock.lock_plan import LockPlan
from shardcache.flows.lock.renew_release import extend
from shardcache.flows.steps import Flow, Outcome, ServerRun

__all__ = (
    "RENEWALS",
    "LoadClaim",
    "claim_loads",
    "give_up",
    "give_up_claimed",
    "renew",
    "renew_due",
    "settle",
    "sift",
)

RENEWALS = 3  # in one ttl of the load lock
_GUARDED_FROM = 3  # voters: with fewer, one that restarted would leave no majority


class LoadClaim:
    """One attempt at one key, and what came of it.

    ``load_key``: the key.
    ``token``: the token of this attempt.
    ``plan``: the voters that count; the key's shard alone if no majority can vote.
    ``ballot``: the votes.
    ``sent``: when the key's shard was asked, in seconds of the client's clock.
    ``asked``: how many voters, from the key's shard on, have been asked, and may have our token.
    ``has_own_shard``: whether our token is in the lock there; without it nothing can be
        stored.
    ``lease``: what we hold; None if nothing.
    ``alone``: whether this process loads without a majority, so that others may load too although
        the policy asks for one load in the fleet.
    ``elsewhere``: whether another process holds the load lock.
    ``left``: the seconds until its lock ends if it is not renewed.
    ``raw``: the stored bytes; None: there are none, or they could not be read.
    ``pttl``: the milliseconds that they have left; -1: no expiry, -2: there is nothing.
    ``found``: the decoded value, if it makes loading unnecessary.
    """

    __slots__ = (
        "alone",
        "asked",
        "ballot",
        "elsewhere",
        "found",
        "has_own_shard",
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
        self.has_own_shard = False
        self.lease: Lease | None = None
        self.alone = True
        self.elsewhere = False
        self.left = 0.0
        self.raw: bytes | None = None
        self.pttl = -2
        self.found: Loaded | None = None

    def note_value(self, raw: bytes | ShardError | None, pttl: int | ShardError) -> None:
        """Note what is stored. What cannot be read counts as nothing, as does a list or a hash."""
        if not isinstance(raw, ShardError) and not isinstance(pttl, ShardError):
            self.raw, self.pttl = raw, pttl

    @property
    def asked_shards(self) -> tuple[int, ...]:
        """The shards that may have our token, the key's shard first."""
        return self.load_key.plan.voters.shards[: self.asked]

    def keep_own_shard(self) -> None:
        """Hold the lock at the key's shard alone: enough to store, not to keep others away."""
        self.plan = self.load_key.solo
        self.lease = Lease(self.token, 1, [0.0])
        self.lease.held([0], self.sent, self.plan.ttl)
        self.alone = True

    def count(self, now: float) -> None:
        """Decide by the votes: this claim loads, with a majority or alone, or it has to wait."""
        # A majority granted, though perhaps too late.
        ballot, plan = self.ballot, self.plan
        if ballot.granted:
            lease = Lease(self.token, plan.quorum, [0.0] * len(plan.voters.shards))
            lease.held(list(ballot.fences), self.sent, plan.ttl)
            if lease.valid_until > now:
                self.lease, self.alone = lease, False
            else:
                # Nobody else need have it: claim again as soon as `left` allows, which is at once.
                self.elsewhere = True
            return
        # No majority can vote; or another process has the lock.
        out = sum(
            isinstance(one, ShardError) or (one is not None and isinstance(one[0], ShardError))
            for one in ballot.answers
        )
        if len(ballot.answers) - out - len(ballot.guarded) < plan.quorum:
            self.keep_own_shard()
            return
        self.elsewhere = True
        self.left = ballot.free_in


def claim_loads(
    request: LoadRequest, load_keys: Sequence[LoadKey], context: LoadContext, waiter: bytes
) -> Flow[list[LoadClaim]]:
    """Make one attempt for each key; grants are given back by `give_up`, or by the fill.

    ``request``: the load.
    ``load_keys``: which of its keys.
    ``context``: what the client's loads share.
    ``waiter``: the name of a waiter to be woken if another process holds the lock; empty for none.

    Many keys are claimed part by part, each within a deadline of its own. Grants are renewed
    meanwhile.
    """
    # If any part is broken off, the claims of all parts are given back.
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
    """Make one attempt for each key of a part."""
    # Noted before anything is sent, so that a call that is broken off can give them back.
    claims = [LoadClaim(load_key, context.new_token("load")) for load_key in load_keys]
    request.claimed.update((claim.load_key.wire, claim) for claim in claims)
    try:
        # Step 1: the keys' shards; a claim whose value is there is given back.
        yield from _ask_own_shards(request, claims, context, waiter)
        yield from sift(request, claims, context)
        over = [claim for claim in claims if claim.has_own_shard and claim.found is not None]
        if over:
            yield from give_up(request, over, own_shards_only=True)
        # Step 2: the other voters of claims that the key's shard granted.
        rest = [claim for claim in claims if claim.has_own_shard and claim.found is None]
        if rest and request.policy.protect == "fleet":
            yield from _ask_others(request, rest, context)
            refused = [claim for claim in rest if claim.elsewhere]
            if refused:
                yield from give_up(request, refused, waiter)
        else:
            for claim in rest:
                claim.keep_own_shard()
        # Where another load has the lock, there is nothing to be given back.
        settle(request, [claim for claim in claims if claim.elsewhere or claim.found is not None])
    except GeneratorExit:
        raise
    except BaseException:
        yield from give_up(request, claims)
        raise
    return claims


def _ask_own_shards(
    request: LoadRequest, claims: list[LoadClaim], context: LoadContext, waiter: bytes
) -> Flow[None]:
    """Ask the shard of each key for its lock and its value, all at once."""
    # Each claim has a ballot, whose first voter is the key's shard.
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
        # Without the key's shard no process can store for others: then each loads for itself.
        if answer is not None and not isinstance(answer[0], ShardError) and not _out(answer[1]):
            vote, raw, pttl = answer
            claim.note_value(raw, pttl)
            claim.has_own_shard = vote[0] == 1
            claim.elsewhere = fleet and not claim.has_own_shard
            claim.left = max(vote[1], 0) / 1000
        return False  # wait for all of them

    # The claim, and behind it the read of the value.
    commands = [
        (
            claim.load_key.own_shard,
            [
                claim.load_key.claim(claim.token, waiter if fleet else b""),
                *look_commands(claim.load_key.wire),
            ],
        )
        for claim in claims
    ]
    yield from broadcast_grouped(
        commands, on_reply, max(claim.plan.voter_timeout for claim in claims)
    )
    # If an ACL refuses the claim, nothing could ever be stored, and nobody would know why: raise.
    for claim in claims:
        if claim.ballot.refusals:
            _refuse(request, claim.ballot.refusals[0], context)


def _refuse(request: LoadRequest, error: ShardError, context: LoadContext) -> NoReturn:
    """Raise the refusal of a load lock, which the server does not let this client take; tell it."""
    context.reply_policy.note("dropped_write", error.shard, request.name, 1, error)
    raise error


def sift(request: LoadRequest, claims: Sequence[LoadClaim], context: LoadContext) -> Flow[None]:
    """Find the values that are there by now, and whose tags are valid."""
    for claim in claims:
        claim.found = context.newer(claim.load_key, request.policy, claim.raw, claim.pttl)
    found = [claim for claim in claims if claim.found is not None]
    verdicts = yield from valid(
        [claim.found for claim in found if claim.found is not None], context
    )
    for claim, good in zip(found, verdicts, strict=True):
        if not good:
            claim.found = None


def _ask_others(request: LoadRequest, claims: list[LoadClaim], context: LoadContext) -> Flow[None]:
    """Ask the other voters of all claims at once, and decide by their votes."""
    # For each claim all voters but the key's shard. It ends when each claim's outcome is certain.
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
    # Voters in a life that this process has not met are verified, then the votes count.
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
    own_shards_only: bool = False,
) -> Flow[None]:
    """Take our tokens from every voter that was asked, and wake waiters.

    ``request``: the load.
    ``claims``: which of its claims.
    ``waiter``: the name of our own waiter, which goes on waiting; empty for none.
    ``own_shards_only``: whether only the keys' shards have been asked.

    No answer is waited for, except that each part but the last is, so that no connection owes more
    than a server reads in one go (`_MOST_OWED` of `drivers/sync/checkout.py`).
    """
    yield from _give_up(
        claims, waiter, own_shards_only=own_shards_only, renew_budget=request.renew_budget
    )
    settle(request, claims)


def give_up_claimed(claimed: dict[bytes, LoadClaim]) -> Flow[None]:
    """Take the tokens of a call that was broken off, and may have given up some claims itself."""
    yield from _give_up(list(claimed.values()))
    claimed.clear()


def _give_up(
    claims: Sequence[LoadClaim],
    waiter: bytes = b"",
    *,
    own_shards_only: bool = False,
    renew_budget: Callable[[], object] | None = None,
) -> Flow[None]:
    """Take the tokens of these claims from every voter that was asked, part by part."""
    for number, part in enumerate(chunked(claims, SENT_AT_ONCE), 1):
        # At the key's shard the waiters stand, so that is where our own one is named.
        commands = [
            (shard, [claim.load_key.give_up(claim.token, b"" if place else waiter)])
            for claim in part
            for place, shard in enumerate(claim.asked_shards)
            if not (own_shards_only and place)
        ]
        # Only the last part is not waited for.
        last = number * SENT_AT_ONCE >= len(claims)
        if not last and renew_budget is not None:
            renew_budget()
        if commands:
            yield from broadcast_grouped(
                commands,
                None if last else _all_of(len(commands)),
                part[0].plan.voter_timeout,
                compensates=True,
            )


def settle(request: LoadRequest, claims: Iterable[LoadClaim]) -> None:
    """Note that there is nothing of these claims that would have to be given back."""
    for claim in claims:
        if request.claimed.get(claim.load_key.wire) is claim:
            del request.claimed[claim.load_key.wire]


def _all_of(number: int) -> Callable[[int, Outcome, ServerRun | None], bool]:
    """Return a function that says when so many answers have come, whatever they are."""
    left = number

    def on_reply(_: int, __: Outcome, ___: ServerRun | None) -> bool:
        nonlocal left
        left -= 1
        return not left

    return on_reply


def renew(claims: Iterable[LoadClaim], context: LoadContext) -> Flow[bool]:
    """Renew the load locks that are held; return whether there is any left."""
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
    """Renew the load locks of many keys when a part of their ttl has passed.

    While many keys are claimed or filled, nothing else renews them.
    """
    oldest = (
        next((claim for claim in claims if claim.lease is not None), None) if request.bulk else None
    )
    if oldest is None or oldest.lease is None:
        return
    if oldest.lease.valid_until - context.clock() < oldest.plan.ttl * (1 - 1 / RENEWALS):
        request.renew_budget()
        yield from renew(claims, context)


def _guarded(claim: LoadClaim) -> bool:
    """Whether votes of voters that have restarted wait (`voter_registry`)."""
    return bool(claim.plan.register) and len(claim.plan.voters.shards) >= _GUARDED_FROM


def _unsure(claim: LoadClaim, context: LoadContext) -> bool:
    """Whether the register has still to be told of so long a ttl."""
    return (
        _guarded(claim) and context.registry.status(claim.plan.voters).longest < claim.plan.ttl_ms
    )


def _out(answer: object) -> bool:
    return isinstance(answer, ShardError) and not isinstance(answer, WrongType)
