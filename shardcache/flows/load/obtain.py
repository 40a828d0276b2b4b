"""From a look to a value: who waits, who loads, what stale value is served. One decision for one key and for many, in every colour."""

from collections.abc import Mapping
from typing import Any

from shardcache.flows.load.desk import LoadDesk
from shardcache.flows.load.job import Order
from shardcache.flows.load.load import Values, late, load, load_anyway
from shardcache.flows.steps import Flow, Fly, Landing

__all__ = ("obtain", "refresh_behind", "refresh_first")

_AGAIN = 0.05  # seconds until a refresh is tried again that somebody else was at, or that failed


def obtain(order: Order, desk: LoadDesk) -> Flow[Values]:
    """Return the values of keys that are missing. What a loader of many leaves out is left out."""
    policy = order.policy
    if policy.protect == "none":
        return (yield from load(order, desk, patient=True))
    values: Values = {}
    left = order.wires
    while left:
        taken: set[bytes] = set()

        def work(mine: tuple[bytes, ...], taken: set[bytes] = taken) -> Flow[Values]:
            taken.update(mine)
            return (yield from load(order.of(mine), desk, patient=True))

        landing: Landing = yield Fly(left, work, policy.wait, joined=desk.joined)
        values |= landing.values
        if landing.late:
            rest = order.of(landing.late)
            if policy.on_wait_over == "raise":
                raise late(rest, rest.jobs[0])
            values |= yield from load_anyway(rest, desk)
        # Of the flights of others some bring nothing: a refresh that found another process at it, or a load that was broken off.
        left = tuple(wire for wire in left if wire not in values and wire not in taken and wire not in landing.late)
    return values


def refresh_behind(order: Order, seen: Mapping[bytes, int], desk: LoadDesk) -> Flow[None]:
    """Refresh what was seen with these PTTLs behind the caller's back, unless somebody is at it."""
    yield _refresh(order, seen, desk, behind=True)


def refresh_first(order: Order, seen: Mapping[bytes, int], desk: LoadDesk) -> Flow[Values]:
    """Refresh before returning, if nobody is at it; return what has come in time. Stale values make up for the rest."""
    try:
        landing: Landing = yield _refresh(order, seen, desk, behind=False)
    except Exception:
        if not order.policy.stale_if_error:
            raise
        return {}
    return landing.values


def _refresh(order: Order, seen: Mapping[bytes, int], desk: LoadDesk, *, behind: bool) -> Fly:
    def work(mine: tuple[bytes, ...]) -> Flow[dict[bytes, Any]]:
        desk.tally.refreshes += behind
        desk.tend(mine, order.jobs[0].plan.ttl)
        values: Values = {}
        try:
            values = yield from load(order.of(mine, seen), desk, patient=False)
            return values
        except Exception as error:
            if behind or order.policy.stale_if_error:  # nobody is shown it
                desk.ledger.load_failed(order.name, error)
            raise
        finally:
            desk.tend(mine, 0.0 if values else _AGAIN)

    return Fly(tuple(seen), work, 0.0, order.policy.soft_timeout, behind)
