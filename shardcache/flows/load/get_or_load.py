"""From a look to a value: who waits, who loads, what stale value is served. One decision for one key and for many, in every colour."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from shardcache.errors import DamagedPayload, TooManyLoaders
from shardcache.flows.load.chunks import parts
from shardcache.flows.load.context import LoadDesk
from shardcache.flows.load.load_once import Values, late, load, load_anyway
from shardcache.flows.load.request import Order
from shardcache.flows.steps import Flow, Fly, Landing, LoaderEnded

__all__ = ("obtain", "refresh_behind", "refresh_first")

Found = dict[bytes, Any]
"""Values by wire key; for a remembered refusal its negative `Loaded`."""

_AGAIN = 0.05  # seconds until a refresh is tried again that somebody else was at, or that failed


def obtain(order: Order, desk: LoadDesk) -> Flow[Found]:
    """Return the values of keys that are missing. What a loader of many leaves out is left out.

    Who joined a load of this process gets an object of his own. A load that was overtaken by a write or delete gives him nothing: he may
    have asked after that, so he looks again. All waiting together ends by ``policy.wait``.
    """
    policy = order.policy
    if policy.protect == "none":
        return _plain((yield from load(order, desk, patient=True)))
    found: Found = {}
    left = order.wires
    end = desk.clock() + policy.wait
    while left:
        taken: set[bytes] = set()

        def work(mine: tuple[bytes, ...], taken: set[bytes] = taken) -> Flow[Values]:
            taken.update(mine)
            return (yield from load(order.of(mine), desk, patient=True, end=end))

        wait = max(end - desk.clock(), 0.0)
        landing: Landing = yield Fly(left, work, wait, joined=desk.joined, budget=order.budget)
        for wire, brought in landing.values.items():
            if wire in taken:
                found[wire] = brought.value
            elif not brought.overtaken:
                try:
                    found[wire] = desk.own(brought, wire).value
                except DamagedPayload as error:  # it would be a miss in the cache too
                    desk.ledger.damaged(desk.room.placement.owner_index(wire), order.name, error)
        if landing.late:
            rest = order.of(landing.late)
            if policy.on_wait_over == "raise":
                raise late(rest, rest.jobs[0])
            found |= _plain((yield from load_anyway(rest, desk)))
        # Of the flights of others some bring nothing: a refresh that found another process at it, or a load that was broken off.
        left = tuple(wire for wire in left if wire not in found and wire not in taken and wire not in landing.late)
    return found


def refresh_behind(order: Order, seen: Mapping[bytes, int], desk: LoadDesk) -> Flow[None]:
    """Refresh what was seen with these PTTLs behind the caller's back, unless somebody is at it."""
    try:
        yield _refresh(replace(order, budget=desk.budget()), seen, desk, behind=True)
    except TooManyLoaders as error:
        desk.tally.skipped += len(seen)
        desk.tend(seen, _AGAIN)
        desk.ledger.load_failed(order.name, error)


def refresh_first(order: Order, seen: Mapping[bytes, int], desk: LoadDesk) -> Flow[Found]:
    """Refresh before returning, if nobody is at it; return what has come in time. Stale values make up for the rest."""
    try:
        landing: Landing = yield _refresh(order, seen, desk, behind=False)
    except Exception:
        if not order.policy.stale_if_error:
            raise
        return {}
    return _plain(landing.values)


def _plain(values: Values) -> Found:
    return {wire: brought.value for wire, brought in values.items()}


def _refresh(order: Order, seen: Mapping[bytes, int], desk: LoadDesk, *, behind: bool) -> Fly:
    order = replace(order, behind=behind or order.policy.soft_timeout is not None)

    def work(mine: tuple[bytes, ...]) -> Flow[Values]:
        desk.tally.refreshes += behind
        desk.tend(mine, order.jobs[0].plan.ttl)
        values: Values = {}
        try:
            for number, part in enumerate(parts(mine, desk.batch)):
                if number:  # the first one has what is left of the call's own deadline
                    order.budget.renew()
                values |= yield from load(order.of(tuple(part), seen), desk, patient=False)
            return values
        except Exception as error:
            if behind or order.policy.stale_if_error:  # nobody is shown it
                desk.ledger.load_failed(order.name, error.error if isinstance(error, LoaderEnded) else error)
            raise
        finally:
            desk.tend(mine, 0.0 if values else _AGAIN)

    return Fly(tuple(seen), work, 0.0, order.policy.soft_timeout, behind, budget=order.budget)
