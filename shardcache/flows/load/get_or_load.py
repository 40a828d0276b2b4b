"""From a look to a value: who waits, who loads, what stale value is served. One decision for one key and for many, in every colour."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from shardcache.errors import DamagedPayload, TooManyLoaders
from shardcache.flows.load.chunks import chunked
from shardcache.flows.load.context import LoadContext
from shardcache.flows.load.load_once import (
    Values,
    load_once_flow,
    load_unprotected,
    wait_timeout_error,
)
from shardcache.flows.load.request import LoadRequest
from shardcache.flows.steps import FlightResult, Flow, LoaderEnded, SingleFlight

__all__ = ("get_or_load_flow", "refresh_behind", "refresh_first")

Found = dict[bytes, Any]
"""Values by wire key; for a remembered refusal its negative `Loaded`."""

_AGAIN = 0.05  # seconds until a refresh is tried again that somebody else was at, or that failed


def get_or_load_flow(request: LoadRequest, context: LoadContext) -> Flow[Found]:
    """Return the values of keys that are missing. What a loader of many leaves out is left out.

    Who joined a load of this process gets an object of his own. A load that was overtaken by a write or delete gives him nothing: he may
    have asked after that, so he looks again. All waiting together ends by ``policy.wait``.
    """
    policy = request.policy
    if policy.protect == "none":
        return _plain((yield from load_once_flow(request, context, patient=True)))
    found: Found = {}
    left = request.wires
    end = context.clock() + policy.wait
    while left:
        taken: set[bytes] = set()

        def work(mine: tuple[bytes, ...], taken: set[bytes] = taken) -> Flow[Values]:
            taken.update(mine)
            return (yield from load_once_flow(request.of(mine), context, patient=True, end=end))

        wait = max(end - context.clock(), 0.0)
        landing: FlightResult = yield SingleFlight(
            left, work, wait, joined=context.joined, budget=request.budget
        )
        for wire, brought in landing.values.items():
            if wire in taken:
                found[wire] = brought.value
            elif not brought.superseded:
                try:
                    found[wire] = context.own(brought, wire).value
                except DamagedPayload as error:  # it would be a miss in the cache too
                    context.reply_policy.damaged(
                        context.planner.placement.owner_index(wire), request.name, error
                    )
        if landing.timed_out:
            rest = request.of(landing.timed_out)
            if policy.on_wait_over == "raise":
                raise wait_timeout_error(rest, rest.load_keys[0])
            found |= _plain((yield from load_unprotected(rest, context)))
        # Of the flights of others some bring nothing: a refresh that found another process at it, or a load that was broken off.
        left = tuple(
            wire
            for wire in left
            if wire not in found and wire not in taken and wire not in landing.timed_out
        )
    return found


def refresh_behind(
    request: LoadRequest, seen: Mapping[bytes, int], context: LoadContext
) -> Flow[None]:
    """Refresh what was seen with these PTTLs behind the caller's back, unless somebody is at it."""
    try:
        yield _refresh(replace(request, budget=context.budget()), seen, context, behind=True)
    except TooManyLoaders as error:
        context.tally.skipped += len(seen)
        context.tend(seen, _AGAIN)
        context.reply_policy.load_failed(request.name, error)


def refresh_first(
    request: LoadRequest, seen: Mapping[bytes, int], context: LoadContext
) -> Flow[Found]:
    """Refresh before returning, if nobody is at it; return what has come in time. Stale values make up for the rest."""
    try:
        landing: FlightResult = yield _refresh(request, seen, context, behind=False)
    except Exception:
        if not request.policy.stale_if_error:
            raise
        return {}
    return _plain(landing.values)


def _plain(values: Values) -> Found:
    return {wire: brought.value for wire, brought in values.items()}


def _refresh(
    request: LoadRequest, seen: Mapping[bytes, int], context: LoadContext, *, behind: bool
) -> SingleFlight:
    request = replace(request, background=behind or request.policy.soft_timeout is not None)

    def work(mine: tuple[bytes, ...]) -> Flow[Values]:
        context.tally.refreshes += behind
        context.tend(mine, request.load_keys[0].plan.ttl)
        values: Values = {}
        try:
            for number, part in enumerate(chunked(mine, context.batch)):
                if number:  # the first one has what is left of the call's own deadline
                    request.budget.renew()
                values |= yield from load_once_flow(
                    request.of(tuple(part), seen), context, patient=False
                )
            return values
        except Exception as error:
            if behind or request.policy.stale_if_error:  # nobody is shown it
                context.reply_policy.load_failed(
                    request.name, error.error if isinstance(error, LoaderEnded) else error
                )
            raise
        finally:
            context.tend(mine, 0.0 if values else _AGAIN)

    return SingleFlight(
        tuple(seen), work, 0.0, request.policy.soft_timeout, behind, budget=request.budget
    )
