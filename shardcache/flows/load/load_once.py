"""Loading keys once in the fleet.

Theory
------
A flight is one process' attempt at one key or several (the drivers see to it that there is one per key). It goes round until there is a
value for each:

    what the claim says            then
    ----------------------------   -----------------------------------------------------------------------------
    the value is there             somebody was faster: give the claim back, return it
    a majority granted             we are the one loader: load, fill, which also gives the claim back
    no majority can vote           one loader per process is the best there is: load, fill where the key's own shard granted
    the key's own shard is out     the same, and nothing is stored
    somebody else loads            wait for the value: woken by its fill, or when its lock must have ended; past
                                   ``policy.wait`` load unprotected, or raise

The fill is one script on the key's own shard. It stores only while the lock there still carries this load's token, and the
value is what it was when the load began. `set` and `delete` void the lock as they write, so a load begun
before them cannot bring an older value back (leases: Nishtala et al., "Scaling Memcache at Facebook", NSDI 2013); its vote stays taken, for it
still runs.
Several keys go through all this together: one exchange for each step (of many keys one for each `SENT_AT_ONCE`), one call of the loader.
"""

from collections.abc import Collection, Sequence
from typing import Any

from shardcache.errors import LoadWaitTimeout, ShardError
from shardcache.flows.grouping import broadcast_grouped, exchange_grouped
from shardcache.flows.load.chunks import LOOKED_AT_ONCE, SENT_AT_ONCE, chunked
from shardcache.flows.load.context import LoadContext, fingerprint
from shardcache.flows.load.load_claim import (
    RENEWALS,
    LoadClaim,
    claim_loads,
    give_up,
    renew,
    renew_due,
    sift,
)
from shardcache.flows.load.load_outcome import LoadOutcome
from shardcache.flows.load.request import LoadKey, LoadRequest
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
_LONGEST_WAIT = (
    0.25  # seconds after which a waiter looks for itself: nobody wakes it when a loader has died
)
_SHORTEST_PATIENCE = (
    1.0  # seconds without any loader ending: less says nothing about whether they hang
)

Values = dict[bytes, LoadOutcome]
"""By wire key."""
_Fill = tuple[LoadClaim, bytes, int | None]
"""What is to be stored for whom, and its life in ms."""


def load_once_flow(
    request: LoadRequest, context: LoadContext, *, patient: bool, end: float | None = None
) -> Flow[Values]:
    """Return the values, loading them if need be. Raises what the loader raises, and `LoadWaitTimeout`.

    Not ``patient``: without those that somebody else loads, as for a refresh of what is still there. ``end``: until when those are waited
    for (None: ``policy.wait`` from now on).
    """
    policy = request.policy
    end = context.clock() + policy.wait if end is None else end
    waiter = context.new_token("wait") if patient else b""
    load_keys: Sequence[LoadKey] = request.load_keys
    values: Values = {}
    waited = False
    while True:
        claims = yield from claim_loads(request, load_keys, context, waiter)
        try:
            values |= _had(claims)
            held = [claim for claim in claims if claim.held and claim.found is None]
            mine = [claim for claim in claims if not claim.held and claim.found is None]
            if mine:
                request.budget.wait_until(None)
                values |= yield from _run(request, context, mine)
        except GeneratorExit:
            raise
        except BaseException as error:
            if not isinstance(
                error, Exception
            ):  # a signal handler's, wherever it came in between; `_run` sees to all else
                yield from give_up(request, claims)
            raise
        if not held or not patient:
            return values
        context.tally.waits += not waited
        waited = True
        if context.clock() < end:
            request.budget.wait_until(end)
            load_keys = yield from _wait(request, context, held, end, values)
            if not load_keys:
                return values
        elif policy.on_wait_over == "raise":
            raise wait_timeout_error(request, held[0].load_key)
        else:
            request.budget.wait_until(None)
            return values | (
                yield from _run(request, context, [LoadClaim(claim.load_key) for claim in held])
            )


def wait_timeout_error(request: LoadRequest, load_key: LoadKey) -> LoadWaitTimeout:
    """Return the error for a wait that is over."""
    return LoadWaitTimeout(
        f"somebody else has been loading {load_key.key!r} for more than {request.policy.wait:g} s"
    )


def load_unprotected(request: LoadRequest, context: LoadContext) -> Flow[Values]:
    """Load whatever others do, and store nothing: what the one brings who is at it will be stored."""
    return (
        yield from _run(request, context, [LoadClaim(load_key) for load_key in request.load_keys])
    )


def reload(request: LoadRequest, context: LoadContext) -> Flow[Values]:
    """Load and store whether or not there are values, and void other loads of these keys under way."""
    claims = [LoadClaim(load_key, context.new_token("load")) for load_key in request.load_keys]
    try:
        for claim in claims:
            claim.sent, claim.asked = context.clock(), 1
            [outcome] = yield from exchange(
                [
                    Batch(
                        claim.load_key.home,
                        [claim.load_key.take_over(claim.token), *claim.load_key.read()],
                        True,
                    )
                ]
            )
            if not isinstance(outcome, ShardError) and not isinstance(outcome[0], ShardError):
                claim.home = True
                claim.note_value(*outcome[1:])
                claim.keep_home()
                claim.alone = False  # that others load too is what was asked for
    except GeneratorExit:
        raise
    except BaseException:
        yield from give_up(request, claims)
        raise
    return (yield from _run(request, context, claims))


def _wait(
    request: LoadRequest, context: LoadContext, held: list[LoadClaim], end: float, values: Values
) -> Flow[list[LoadKey]]:
    """Wait until a value may be there, for the fill to wake us and not much longer than the holder's lock; take what is there.

    Return what is still to be had. Who wakes up looks, and does not claim: most wake up because the value has come.
    """
    first, longest = request.policy.poll
    claim = held[0]
    left = end - context.clock()
    timeout = min(
        left,
        claim.left + first * context.random(),
        _LONGEST_WAIT * (0.75 + 0.25 * context.random()),
    )
    if timeout > 0:
        woken = yield claim.load_key.plan.woken_at(claim.load_key.home, timeout)
        if isinstance(woken, ShardError):
            yield Sleep(max(min(left, longest * (0.5 + 0.5 * context.random())), 0.0))
    for part in chunked(held, LOOKED_AT_ONCE):
        outcomes = yield from exchange_grouped(
            [(one.load_key.home, one.load_key.read()) for one in part]
        )
        for one, outcome in zip(part, outcomes, strict=True):
            if not isinstance(outcome, ShardError):
                one.note_value(*outcome)
    yield from sift(request, held, context)
    values |= _had(held)
    return [one.load_key for one in held if one.load_key.wire not in values]


def _had(claims: Sequence[LoadClaim]) -> Values:
    """Return the values that were there."""
    return {
        claim.load_key.wire: LoadOutcome(
            claim.found if claim.found.negative else claim.found.value, claim.raw
        )
        for claim in claims
        if claim.found is not None and claim.raw is not None
    }


def _run(request: LoadRequest, context: LoadContext, claims: list[LoadClaim]) -> Flow[Values]:
    """Run the loader under these claims and fill the cache with what it returns; what it raises comes out."""
    tally, policy = context.tally, request.policy
    tally.loads += 1
    tally.alone += any(claim.alone for claim in claims)
    keys, wires = (
        [claim.load_key.key for claim in claims],
        tuple(claim.load_key.wire for claim in claims),
    )
    try:
        tags: Any = ()
        if (
            request.tags
        ):  # their versions are those from before the load: what is invalidated meanwhile is so
            tags = yield from ensure(request.tags, context, request.ttl_ms, policy.grace_ms)
            if tags is None:  # what cannot be stored need not be waited for by others
                yield from give_up(request, claims)
                claims = [LoadClaim(claim.load_key) for claim in claims]
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
            max(policy.wait, _SHORTEST_PATIENCE),
            request.background,
        )
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
        if tags:
            yield from _outlive(
                request, context, max(-1 if ms is None else ms for _, _, ms in sealed.values())
            )
    except GeneratorExit:
        raise
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
    wanted = [(claim, raw, ms) for claim, (_, raw, ms) in sealed.items() if ms != 0]
    tally.not_stored += sum(not claim.home for claim, *_ in wanted)
    kept = {claim for claim, *_ in wanted}
    overtaken = yield from _fill_all(
        request, context, wanted, [claim for claim in claims if claim not in kept]
    )
    return {
        claim.load_key.wire: LoadOutcome(value, raw, claim in overtaken)
        for claim, (value, raw, _) in sealed.items()
    }


def _outlive(request: LoadRequest, context: LoadContext, ms: int) -> Flow[None]:
    """Let the tags last as long as a result that said how long it lasts itself (-1: for ever)."""
    if request.ttl_ms is not None and (ms < 0 or ms > request.ttl_ms + request.policy.grace_ms):
        yield from ensure(request.tags, context, None if ms < 0 else ms, 0)


def _fill_all(
    request: LoadRequest, context: LoadContext, fills: list[_Fill], back: list[LoadClaim]
) -> Flow[Collection[LoadClaim]]:
    """Store each as `_fill_part` does: many part by part, each within a deadline of its own."""
    overtaken: set[LoadClaim] = set()
    for at in range(0, max(len(fills), 1), SENT_AT_ONCE):
        yield from renew_due(request, [claim for claim, *_ in fills[at:]], context)
        if request.bulk:
            request.renew_budget()
        first = back if not at and len(back) <= SENT_AT_ONCE else []
        overtaken.update(
            (yield from _fill_part(request, context, fills[at : at + SENT_AT_ONCE], first))
        )
    if len(back) > SENT_AT_ONCE:
        yield from give_up(request, back)
    return overtaken


def _fill_part(
    request: LoadRequest, context: LoadContext, fills: list[_Fill], back: list[LoadClaim]
) -> Flow[Collection[LoadClaim]]:
    """Store each on its own shard, which also wakes those who wait, and give the claims back on the others and of ``back``, at once.

    Return those that were not stored because something newer has happened to their keys.
    """
    filling = [(claim, raw, ms) for claim, raw, ms in fills if claim.home]
    stored_at = {claim for claim, *_ in filling}
    soon = context.clock() + _ON_ITS_WAY
    commands: list[tuple[int, list[Command]]] = []
    for claim, raw, ms in filling:
        # What was refreshed before its end may have come to it while the loader ran.
        expired = 0 <= claim.pttl <= (soon - claim.sent) * 1000
        commands.append(
            (
                claim.load_key.home,
                [
                    claim.load_key.fill(
                        claim.token, fingerprint(claim.raw), ms, raw, expired=expired
                    )
                ],
            )
        )
    commands += [
        (shard, [claim.load_key.give_up(claim.token)])
        for claim in (*(claim for claim, *_ in fills), *back)
        for place, shard in enumerate(claim.asked_shards)
        if place or claim not in stored_at
    ]
    waiting = set(range(len(filling)))
    overtaken: set[LoadClaim] = set()

    def on_reply(place: int, outcome: Outcome, _: ServerRun | None) -> bool:
        if place in waiting:
            waiting.discard(place)
            reply = outcome if isinstance(outcome, ShardError) else outcome[0]
            if isinstance(reply, ShardError):
                context.reply_policy.note("dropped_write", reply.shard, request.name, 1, reply)
            context.tally.not_stored += reply != 1
            if reply in (0, -1):
                overtaken.add(filling[place][0])
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
    return overtaken
