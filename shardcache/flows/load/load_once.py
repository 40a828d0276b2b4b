"""Loading keys once in the fleet.

Theory
------
A flight is one load of this process, of one key or several; the drivers see to it that no key is in
two flights. It repeats its claim until there is a value for each key:

    what the claim says          then
    --------------------------   ---------------------------------------------------------------
    the value is there           another process was faster: give the claim back, return the value
    a majority granted           we are the one loader: load, and fill, which gives the claim back
    no majority can vote         the best is one loader per process: load, and fill if the key's
                                 own shard granted
    the key's own shard is out   the same, and nothing is stored
    another process loads        wait for the value: its fill wakes us, or its lock must have
                                 ended; after ``policy.wait`` load unprotected, or raise

The fill is one script on the key's own shard. It stores only while the lock and the fill token
there are still this load's, and the value is what it was when the load began. `set` and `delete`
delete the fill token as they write. So a load that began before them cannot bring an older value
back (leases: Nishtala et al., "Scaling Memcache at Facebook", NSDI 2013). It keeps its vote, since
it still runs.

Several keys go through all this together: with one exchange for each step (one for each
`SENT_AT_ONCE` of many keys), and one call of the loader.
"""

from collections.abc import Collection, Sequence
from typing import Any

from shardcache.errors import LoadWaitTimeout, ShardError
from shardcache.flows.grouping import broadcast_grouped, exchange_grouped
from shardcache.flows.load.context import LoadContext, fingerprint
from shardcache.flows.load.load_claim import (
    RENEWALS,
    LoadClaim,
    claim_loads,
    give_up,
    renew,
    renew_due,
    settle,
    sift,
)
from shardcache.flows.load.load_outcome import LoadOutcome
from shardcache.flows.load.request import (
    LOOKED_AT_ONCE,
    SENT_AT_ONCE,
    LoadKey,
    LoadRequest,
    chunked,
    look_commands,
)
from shardcache.flows.load.tags import ensure
from shardcache.flows.steps import (
    Batch,
    Flow,
    Load,
    LoaderEnded,
    Outcome,
    ServerRun,
    Sleep,
    exchange,
)
from shardcache.resp import Command

__all__ = ("Values", "load_once_flow", "load_unprotected", "reload")

_ON_ITS_WAY = 0.05  # seconds, at most, that a fill takes to its server
# Seconds after which a waiter looks for itself: nothing wakes it when a loader has died.
_LONGEST_WAIT = 0.25
# Seconds without any loader ending: less says nothing about whether loaders hang.
_SHORTEST_WAIT = 1.0

Values = dict[bytes, LoadOutcome]
"""By wire key."""
_Fill = tuple[LoadClaim, bytes, int | None]
"""A claim, the bytes to store for it, and their life in ms."""


def load_once_flow(
    request: LoadRequest, context: LoadContext, *, patient: bool, end: float | None = None
) -> Flow[Values]:
    """Return the values, after loading them if need be.

    ``request``: the load.
    ``context``: what the client's loads share.
    ``patient``: whether to wait for values that another process loads. A refresh of a value that is
        still there does not wait, and leaves them out.
    ``end``: until when to wait for them; None: ``policy.wait`` from now on.

    Raises what the loader raises, and `LoadWaitTimeout`.
    """
    # All claims of one call wait under one name, until one end.
    policy = request.policy
    end = context.clock() + policy.wait if end is None else end
    waiter = context.new_token("wait") if patient else b""
    load_keys: Sequence[LoadKey] = request.load_keys
    values: Values = {}
    waited = False
    while True:
        # Step 1: claim the keys that have no value yet.
        claims = yield from claim_loads(request, load_keys, context, waiter)
        try:
            # Step 2: take the values that are there, and load those that this call may load.
            values |= _had(claims)
            elsewhere = [claim for claim in claims if claim.elsewhere and claim.found is None]
            mine = [claim for claim in claims if not claim.elsewhere and claim.found is None]
            if mine:
                # While others load, exchanges count as waiting, and take nothing of the budget of
                # the call. Those of our own load do.
                request.budget.wait_until(None)
                values |= yield from _run(request, context, mine)
        except GeneratorExit:
            raise
        except BaseException as error:
            # `_run` gives claims back after errors of loading. This is for a signal handler that
            # raised anywhere in between.
            if not isinstance(error, Exception):
                yield from give_up(request, claims)
            raise
        # Step 3: wait for values that other processes load.
        if not elsewhere or not patient:
            return values
        # A load of this very thread, in an outer call, goes on only when this call has ended.
        within = any(context.is_under_way(claim.load_key.wire) for claim in elsewhere)
        context.tally.waits += not (waited or within)
        waited = True
        if context.clock() < end and not within:
            request.budget.wait_until(end)
            load_keys = yield from _wait(request, context, elsewhere, end, values)
            if not load_keys:
                return values
        elif policy.on_wait_over == "raise":
            raise wait_timeout_error(request, elsewhere[0].load_key)
        else:
            request.budget.wait_until(None)
            return values | (
                yield from _run(
                    request, context, [LoadClaim(claim.load_key) for claim in elsewhere]
                )
            )


def wait_timeout_error(request: LoadRequest, load_key: LoadKey) -> LoadWaitTimeout:
    """Return the error for a wait that is over."""
    over = "until the time of shardcache.deadline was over"
    wait = over if request.budget.over else f"for more than {request.policy.wait:g} s"
    return LoadWaitTimeout(f"somebody else has been loading {load_key.key!r} {wait}")


def load_unprotected(request: LoadRequest, context: LoadContext) -> Flow[Values]:
    """Load whatever others do, and store nothing: the load that has the lock will store."""
    return (
        yield from _run(request, context, [LoadClaim(load_key) for load_key in request.load_keys])
    )


def reload(request: LoadRequest, context: LoadContext) -> Flow[Values]:
    """Load and store whether or not there are values; invalidate other loads of these keys."""
    # Take the lock and the fill token at each key's shard, whoever has them.
    claims = [LoadClaim(load_key, context.new_token("load")) for load_key in request.load_keys]
    try:
        for claim in claims:
            claim.sent, claim.asked = context.clock(), 1
            # Noted before anything is sent, so that a call that is broken off can give it back.
            request.claimed[claim.load_key.wire] = claim
            [outcome] = yield from exchange(
                [
                    Batch(
                        claim.load_key.own_shard,
                        [
                            claim.load_key.take_over(claim.token),
                            *look_commands(claim.load_key.wire),
                        ],
                        True,
                    )
                ]
            )
            if not isinstance(outcome, ShardError) and not isinstance(outcome[0], ShardError):
                claim.has_own_shard = True
                claim.note_value(*outcome[1:])
                claim.keep_own_shard()
                claim.alone = False  # the policy does not ask for one load in the fleet
    except GeneratorExit:
        raise
    except BaseException:
        yield from give_up(request, claims)
        raise
    return (yield from _run(request, context, claims))


def _wait(
    request: LoadRequest,
    context: LoadContext,
    elsewhere: list[LoadClaim],
    end: float,
    values: Values,
) -> Flow[list[LoadKey]]:
    """Wait until a value may be there, take what is there, and return the other keys.

    The fill wakes us. Without it, we wait not much longer than the holder's lock lasts. A waiter
    that wakes up reads and does not claim: mostly it wakes up because the value has come.
    """
    # Step 1: wait at the shard of one key.
    first, longest = request.policy.poll
    claim = elsewhere[0]
    left = end - context.clock()
    timeout = min(
        left,
        claim.left + first * context.random(),
        _LONGEST_WAIT * (0.75 + 0.25 * context.random()),
    )
    if timeout > 0:
        woken = yield claim.load_key.plan.woken_at(claim.load_key.own_shard, timeout)
        if isinstance(woken, ShardError):
            yield Sleep(max(min(left, longest * (0.5 + 0.5 * context.random())), 0.0))
    # Step 2: read all keys.
    for part in chunked(elsewhere, LOOKED_AT_ONCE):
        outcomes = yield from exchange_grouped(
            [(one.load_key.own_shard, look_commands(one.load_key.wire)) for one in part]
        )
        for one, outcome in zip(part, outcomes, strict=True):
            if not isinstance(outcome, ShardError):
                one.note_value(*outcome)
    yield from sift(request, elsewhere, context)
    values |= _had(elsewhere)
    return [one.load_key for one in elsewhere if one.load_key.wire not in values]


def _had(claims: Sequence[LoadClaim]) -> Values:
    """Return the values that were there already."""
    return {
        claim.load_key.wire: LoadOutcome(
            claim.found if claim.found.negative else claim.found.value, claim.raw
        )
        for claim in claims
        if claim.found is not None and claim.raw is not None
    }


def _run(request: LoadRequest, context: LoadContext, claims: list[LoadClaim]) -> Flow[Values]:
    """Run the loader under these claims, and fill the cache with its results.

    Raises what the loader raises.
    """
    # Step 1: count.
    tally, policy = context.tally, request.policy
    tally.loads += 1
    tally.alone += any(claim.alone for claim in claims)
    keys, wires = (
        [claim.load_key.key for claim in claims],
        tuple(claim.load_key.wire for claim in claims),
    )
    try:
        # Step 2: the versions of tags from before the load. So what is invalidated meanwhile is so.
        tags: Any = ()
        if request.tags:
            tags = yield from ensure(request.tags, context, request.ttl_ms, policy.grace_ms)
            if tags is None:  # nothing can be stored, so others need not wait for it
                yield from give_up(request, claims)
                claims = [LoadClaim(claim.load_key) for claim in claims]
        # Step 3: call the loader, while the driver renews the locks.
        yield from renew_due(request, claims, context)
        began = context.clock()
        ttl = min(claim.plan.ttl for claim in claims)
        found = yield Load(
            wires,
            request.call(keys),
            policy.hard_timeout,
            ttl / RENEWALS,
            lambda: renew(claims, context),
            context.abandoned,
            max(policy.wait, _SHORTEST_WAIT),
            request.background,
        )
        # Step 4: make bytes of the results.
        took = context.clock() - began
        context.paced(wires, took, policy)
        results = request.results(keys, found)
        sealed = {
            claim: context.seal(
                claim.load_key.wire,
                results[claim.load_key.key],
                policy,
                request.ttl_ms,
                took,
                tags or (),
            )
            for claim in claims
            if claim.load_key.key in results
        }
        if tags and sealed:
            lives = [ms for _, _, ms in sealed.values() if ms is not None]
            yield from _outlive(request, context, max(lives) if len(lives) == len(sealed) else None)
    except GeneratorExit:
        raise
    # An error is remembered if the policy says so; the claims are given back in any case.
    except BaseException as error:
        tally.failures += 1
        cause = error.error if isinstance(error, LoaderEnded) else error
        if request.single and policy.negative_on and isinstance(cause, policy.negative_on):
            yield from _fill_part(
                request,
                context,
                [
                    (claim, *context.seal_refusal(claim.load_key.wire, policy, cause))
                    for claim in claims
                ],
                [],
            )
        else:
            yield from give_up(request, claims)
        raise
    # Step 5: store, and give the claims back.
    wanted = [(claim, raw, ms) for claim, (_, raw, ms) in sealed.items() if ms != 0]
    tally.not_stored += sum(not claim.has_own_shard for claim, *_ in wanted)
    filling = {claim for claim, *_ in wanted}
    invalidated = yield from _fill_all(
        request, context, wanted, [claim for claim in claims if claim not in filling]
    )
    return {
        claim.load_key.wire: LoadOutcome(value, raw, claim in invalidated)
        for claim, (value, raw, _) in sealed.items()
    }


def _outlive(request: LoadRequest, context: LoadContext, ms: int | None) -> Flow[None]:
    """Let the tags last as long as a result with a ttl of its own.

    ``ms``: how long the result lasts that lasts longest; None: for ever.
    """
    usual = request.ttl_ms
    if usual is not None and (ms is None or ms > usual + request.policy.grace_ms):
        yield from ensure(request.tags, context, ms, 0)


def _fill_all(
    request: LoadRequest, context: LoadContext, fills: list[_Fill], back: list[LoadClaim]
) -> Flow[Collection[LoadClaim]]:
    """Store values as `_fill_part` does, part by part, each within a deadline of its own."""
    invalidated: set[LoadClaim] = set()
    for at in range(0, max(len(fills), 1), SENT_AT_ONCE):
        yield from renew_due(request, [claim for claim, *_ in fills[at:]], context)
        if request.bulk:
            request.renew_budget()
        first = back if not at and len(back) <= SENT_AT_ONCE else []
        invalidated.update(
            (yield from _fill_part(request, context, fills[at : at + SENT_AT_ONCE], first))
        )
    if len(back) > SENT_AT_ONCE:
        yield from give_up(request, back)
    return invalidated


def _fill_part(
    request: LoadRequest, context: LoadContext, fills: list[_Fill], back: list[LoadClaim]
) -> Flow[Collection[LoadClaim]]:
    """Store values on their keys' own shards, and give the claims back, all at once.

    ``fills``: what to store; that also wakes waiters.
    ``back``: claims with nothing to store.

    Return the claims whose values were not stored, since their keys were written meanwhile.
    """
    # Step 1: the fills, each of which gives the claim back there.
    filling = [(claim, raw, ms) for claim, raw, ms in fills if claim.has_own_shard]
    stored_at = {claim for claim, *_ in filling}
    soon = context.clock() + _ON_ITS_WAY
    commands: list[tuple[int, list[Command]]] = []
    for claim, raw, ms in filling:
        # A value that was refreshed early may have expired while the loader ran.
        expired = 0 <= claim.pttl <= (soon - claim.sent) * 1000
        commands.append(
            (
                claim.load_key.own_shard,
                [
                    claim.load_key.fill(
                        claim.token, fingerprint(claim.raw), ms, raw, expired=expired
                    )
                ],
            )
        )
    # Step 2: the other voters, and the keys' shards where nothing is stored.
    commands += [
        (shard, [claim.load_key.give_up(claim.token)])
        for claim in (*(claim for claim, *_ in fills), *back)
        for place, shard in enumerate(claim.asked_shards)
        if place or claim not in stored_at
    ]
    # Step 3: only the fills are waited for.
    waiting = set(range(len(filling)))
    invalidated: set[LoadClaim] = set()

    def on_reply(place: int, outcome: Outcome, _: ServerRun | None) -> bool:
        if place in waiting:
            waiting.discard(place)
            reply = outcome if isinstance(outcome, ShardError) else outcome[0]
            if isinstance(reply, ShardError):
                context.reply_policy.note("dropped_write", reply.shard, request.name, 1, reply)
            context.tally.not_stored += reply != 1
            if reply in (0, -1):
                invalidated.add(filling[place][0])
        return not waiting

    if commands:
        timeout = max(
            claim.plan.voter_timeout for claim in (*(claim for claim, *_ in fills), *back)
        )
        yield from broadcast_grouped(
            commands,
            on_reply if waiting else None,
            max(timeout, 0.1),
            idempotent=not waiting,
            compensates=True,
        )
    settle(request, [*(claim for claim, *_ in fills), *back])
    return invalidated
