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
from shardcache.flows.grouping import each, send
from shardcache.flows.load.chunks import LOOKED_AT_ONCE, SENT_AT_ONCE, parts
from shardcache.flows.load.context import LoadDesk, fingerprint
from shardcache.flows.load.load_claim import RENEWALS, Bid, claim, give_up, renew, renew_due, sift
from shardcache.flows.load.load_outcome import Brought
from shardcache.flows.load.request import Job, Order
from shardcache.flows.load.tags import ensure
from shardcache.flows.steps import Batch, Flow, Load, LoaderEnded, Outcome, Run, Sleep, exchange
from shardcache.resp import Command

__all__ = ("Values", "load", "load_anyway", "reload")

_ON_ITS_WAY = 0.05  # seconds, at most, that a fill takes to its server
_LONGEST_WAIT = 0.25  # seconds after which a waiter looks for itself: nobody wakes it when a loader has died
_SHORTEST_PATIENCE = 1.0  # seconds without any loader ending: less says nothing about whether they hang

Values = dict[bytes, Brought]
"""By wire key."""
_Fill = tuple[Bid, bytes, int | None]
"""What is to be stored for whom, and its life in ms."""


def load(order: Order, desk: LoadDesk, *, patient: bool, end: float | None = None) -> Flow[Values]:
    """Return the values, loading them if need be. Raises what the loader raises, and `LoadWaitTimeout`.

    Not ``patient``: without those that somebody else loads, as for a refresh of what is still there. ``end``: until when those are waited
    for (None: ``policy.wait`` from now on).
    """
    policy = order.policy
    end = desk.clock() + policy.wait if end is None else end
    waiter = desk.mint("wait") if patient else b""
    jobs: Sequence[Job] = order.jobs
    values: Values = {}
    waited = False
    while True:
        bids = yield from claim(order, jobs, desk, waiter)
        try:
            values |= _had(bids)
            held = [bid for bid in bids if bid.held and bid.found is None]
            mine = [bid for bid in bids if not bid.held and bid.found is None]
            if mine:
                order.budget.wait_until(None)
                values |= yield from _run(order, desk, mine)
        except GeneratorExit:
            raise
        except BaseException as error:
            if not isinstance(
                error, Exception
            ):  # a signal handler's, wherever it came in between; `_run` sees to all else
                yield from give_up(order, bids)
            raise
        if not held or not patient:
            return values
        desk.tally.waits += not waited
        waited = True
        if desk.clock() < end:
            order.budget.wait_until(end)
            jobs = yield from _wait(order, desk, held, end, values)
            if not jobs:
                return values
        elif policy.on_wait_over == "raise":
            raise late(order, held[0].job)
        else:
            order.budget.wait_until(None)
            return values | (yield from _run(order, desk, [Bid(bid.job) for bid in held]))


def late(order: Order, job: Job) -> LoadWaitTimeout:
    """Return the error for a wait that is over."""
    return LoadWaitTimeout(f"somebody else has been loading {job.key!r} for more than {order.policy.wait:g} s")


def load_anyway(order: Order, desk: LoadDesk) -> Flow[Values]:
    """Load whatever others do, and store nothing: what the one brings who is at it will be stored."""
    return (yield from _run(order, desk, [Bid(job) for job in order.jobs]))


def reload(order: Order, desk: LoadDesk) -> Flow[Values]:
    """Load and store whether or not there are values, and void other loads of these keys under way."""
    bids = [Bid(job, desk.mint("load")) for job in order.jobs]
    try:
        for bid in bids:
            bid.sent, bid.asked = desk.clock(), 1
            [outcome] = yield from exchange([Batch(bid.job.home, [bid.job.take(bid.token), *bid.job.read()], True)])
            if not isinstance(outcome, ShardError) and not isinstance(outcome[0], ShardError):
                bid.home = True
                bid.look(*outcome[1:])
                bid.keep_home()
                bid.alone = False  # that others load too is what was asked for
    except GeneratorExit:
        raise
    except BaseException:
        yield from give_up(order, bids)
        raise
    return (yield from _run(order, desk, bids))


def _wait(order: Order, desk: LoadDesk, held: list[Bid], end: float, values: Values) -> Flow[list[Job]]:
    """Wait until a value may be there, for the fill to wake us and not much longer than the holder's lock; take what is there.

    Return what is still to be had. Who wakes up looks, and does not claim: most wake up because the value has come.
    """
    first, longest = order.policy.poll
    bid = held[0]
    left = end - desk.clock()
    patience = min(left, bid.left + first * desk.luck(), _LONGEST_WAIT * (0.75 + 0.25 * desk.luck()))
    if patience > 0:
        woken = yield bid.job.plan.woken_at(bid.job.home, patience)
        if isinstance(woken, ShardError):
            yield Sleep(max(min(left, longest * (0.5 + 0.5 * desk.luck())), 0.0))
    for part in parts(held, LOOKED_AT_ONCE):
        outcomes = yield from each([(one.job.home, one.job.read()) for one in part])
        for one, outcome in zip(part, outcomes, strict=True):
            if not isinstance(outcome, ShardError):
                one.look(*outcome)
    yield from sift(order, held, desk)
    values |= _had(held)
    return [one.job for one in held if one.job.wire not in values]


def _had(bids: Sequence[Bid]) -> Values:
    """Return the values that were there."""
    return {
        bid.job.wire: Brought(bid.found if bid.found.negative else bid.found.value, bid.raw)
        for bid in bids
        if bid.found is not None and bid.raw is not None
    }


def _run(order: Order, desk: LoadDesk, bids: list[Bid]) -> Flow[Values]:
    """Run the loader under these claims and fill the cache with what it returns; what it raises comes out."""
    tally, policy = desk.tally, order.policy
    tally.loads += 1
    tally.alone += any(bid.alone for bid in bids)
    keys, wires = [bid.job.key for bid in bids], tuple(bid.job.wire for bid in bids)
    try:
        tags: Any = ()
        if order.tags:  # their versions are those from before the load: what is invalidated meanwhile is so
            tags = yield from ensure(order.tags, desk, order.ttl_ms, policy.grace_ms)
            if tags is None:  # what cannot be stored need not be waited for by others
                yield from give_up(order, bids)
                bids = [Bid(bid.job) for bid in bids]
        yield from renew_due(order, bids, desk)
        began = desk.clock()
        ttl = min(bid.plan.ttl for bid in bids)
        found = yield Load(
            wires,
            order.call(keys),
            policy.hard_timeout,
            ttl / RENEWALS,
            lambda: renew(bids, desk),
            desk.abandoned,
            max(policy.wait, _SHORTEST_PATIENCE),
            order.behind,
        )
        took = desk.clock() - began
        desk.paced(wires, took, policy)
        results = order.results(keys, found)
        sealed = {
            bid: desk.seal(bid.job.wire, results[bid.job.key], policy, order.ttl_ms, took, tags or ())
            for bid in bids
            if bid.job.key in results
        }
        if tags:
            yield from _outlive(order, desk, max(-1 if ms is None else ms for _, _, ms in sealed.values()))
    except GeneratorExit:
        raise
    except BaseException as error:
        tally.failures += 1
        cause = error.error if isinstance(error, LoaderEnded) else error
        if order.single and policy.negative_on and isinstance(cause, policy.negative_on):
            yield from _fill_part(
                order, desk, [(bid, *desk.seal_refusal(bid.job.wire, policy, cause)) for bid in bids], []
            )
        else:
            yield from give_up(order, bids)
        raise
    wanted = [(bid, raw, ms) for bid, (_, raw, ms) in sealed.items() if ms != 0]
    tally.not_stored += sum(not bid.home for bid, *_ in wanted)
    kept = {bid for bid, *_ in wanted}
    overtaken = yield from _fill_all(order, desk, wanted, [bid for bid in bids if bid not in kept])
    return {bid.job.wire: Brought(value, raw, bid in overtaken) for bid, (value, raw, _) in sealed.items()}


def _outlive(order: Order, desk: LoadDesk, ms: int) -> Flow[None]:
    """Let the tags last as long as a result that said how long it lasts itself (-1: for ever)."""
    if order.ttl_ms is not None and (ms < 0 or ms > order.ttl_ms + order.policy.grace_ms):
        yield from ensure(order.tags, desk, None if ms < 0 else ms, 0)


def _fill_all(order: Order, desk: LoadDesk, fills: list[_Fill], back: list[Bid]) -> Flow[Collection[Bid]]:
    """Store each as `_fill_part` does: many part by part, each within a deadline of its own."""
    overtaken: set[Bid] = set()
    for at in range(0, max(len(fills), 1), SENT_AT_ONCE):
        yield from renew_due(order, [bid for bid, *_ in fills[at:]], desk)
        if order.bulk:
            order.renew_budget()
        first = back if not at and len(back) <= SENT_AT_ONCE else []
        overtaken.update((yield from _fill_part(order, desk, fills[at : at + SENT_AT_ONCE], first)))
    if len(back) > SENT_AT_ONCE:
        yield from give_up(order, back)
    return overtaken


def _fill_part(order: Order, desk: LoadDesk, fills: list[_Fill], back: list[Bid]) -> Flow[Collection[Bid]]:
    """Store each on its own shard, which also wakes those who wait, and give the claims back on the others and of ``back``, at once.

    Return those that were not stored because something newer has happened to their keys.
    """
    filling = [(bid, raw, ms) for bid, raw, ms in fills if bid.home]
    stored_at = {bid for bid, *_ in filling}
    soon = desk.clock() + _ON_ITS_WAY
    commands: list[tuple[int, list[Command]]] = []
    for bid, raw, ms in filling:
        # What was refreshed before its end may have come to it while the loader ran.
        expired = 0 <= bid.pttl <= (soon - bid.sent) * 1000
        commands.append((bid.job.home, [bid.job.fill(bid.token, fingerprint(bid.raw), ms, raw, expired=expired)]))
    commands += [
        (shard, [bid.job.give_up(bid.token)])
        for bid in (*(bid for bid, *_ in fills), *back)
        for place, shard in enumerate(bid.asked_shards)
        if place or bid not in stored_at
    ]
    waiting = set(range(len(filling)))
    overtaken: set[Bid] = set()

    def heard(place: int, outcome: Outcome, _: Run | None) -> bool:
        if place in waiting:
            waiting.discard(place)
            reply = outcome if isinstance(outcome, ShardError) else outcome[0]
            if isinstance(reply, ShardError):
                desk.ledger.note("dropped_write", reply.shard, order.name, 1, reply)
            desk.tally.not_stored += reply != 1
            if reply in (0, -1):
                overtaken.add(filling[place][0])
        return not waiting

    if commands:
        patience = max(bid.plan.patience for bid in (*(bid for bid, *_ in fills), *back))
        yield from send(commands, heard if waiting else None, max(patience, 0.1), twice=not waiting, undo=True)
    return overtaken
