"""What follows a read that found no fresh value: wait, load, or serve a stale value.

The decision is the same for one key and for many, and in both colours.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from shardcache.errors import DamagedPayload, TooManyLoaders
from shardcache.flows.load.context import LoadContext
from shardcache.flows.load.load_once import (
    Values,
    load_once_flow,
    load_unprotected,
    wait_timeout_error,
)
from shardcache.flows.load.request import LoadRequest, chunked
from shardcache.flows.steps import FlightResult, Flow, LoaderEnded, SingleFlight

__all__ = ("get_or_load_flow", "refresh_behind", "refresh_first")

Found = dict[bytes, Any]
"""Values by wire key; for a negative result its negative `Loaded`."""

# Seconds until the next try of a refresh that failed, or that another process was doing.
_AGAIN = 0.05


def get_or_load_flow(request: LoadRequest, context: LoadContext) -> Flow[Found]:
    """Return the values of missing keys. A key that a loader of many leaves out is left out.

    A caller that joined a load of this process gets a copy of the value. It does not use a load
    that was superseded by a write or delete: the call may have begun after that, so it tries
    again. All waiting together takes ``policy.wait`` at most.
    """
    policy = request.policy
    if policy.protect == "none":
        return _plain((yield from load_once_flow(request, context, patient=True)))
    found: Found = {}
    left = request.wires
    end = request.budget.until(context.clock() + policy.wait)
    while left:
        taken: set[bytes] = set()

        def work(mine: tuple[bytes, ...], taken: set[bytes] = taken) -> Flow[Values]:
            taken.update(mine)
            return (yield from load_once_flow(request.of(mine), context, patient=True, end=end))

        # One flight for each key in this process: this call loads what no other flight loads.
        wait = max(end - context.clock(), 0.0)
        result: FlightResult = yield SingleFlight(
            left, work, wait, joined=context.joined, budget=request.budget
        )
        for wire, brought in result.values.items():
            if wire in taken:
                found[wire] = brought.value
            elif not brought.superseded:
                try:
                    found[wire] = context.own(brought, wire).value
                except DamagedPayload as error:  # it would be a miss in the cache too
                    context.reply_policy.damaged(
                        context.planner.topology.owner_index(wire), request.name, error
                    )
        # The time for waiting is over: the policy says whether to raise, or to load regardless.
        if result.timed_out:
            rest = request.of(result.timed_out)
            if policy.on_wait_over == "raise":
                raise wait_timeout_error(rest, rest.load_keys[0])
            found |= _plain((yield from load_unprotected(rest, context)))
        # Some flights of other calls bring nothing: a load that was cancelled, or a refresh that
        # another process was doing already. Those keys are tried again.
        left = tuple(
            wire
            for wire in left
            if wire not in found and wire not in taken and wire not in result.timed_out
        )
    return found


def refresh_behind(
    request: LoadRequest, seen: Mapping[bytes, int], context: LoadContext
) -> Flow[None]:
    """Refresh values in the background, unless a refresh of them is running.

    ``seen``: the PTTL in ms with which each value was read.
    """
    try:
        yield _refresh(request, seen, context, behind=True)
    except TooManyLoaders as error:
        context.tally.skipped += len(seen)
        context.tend(seen, _AGAIN)
        context.reply_policy.load_failed(request.name, error)


def refresh_first(
    request: LoadRequest, seen: Mapping[bytes, int], context: LoadContext
) -> Flow[Found]:
    """Refresh values before returning, unless a refresh is running; return those that came in time.

    The caller serves stale values for the others.

    ``seen``: the PTTL in ms with which each value was read.
    """
    try:
        result: FlightResult = yield _refresh(request, seen, context, behind=False)
    except Exception:
        if not request.policy.stale_if_error:
            raise
        return {}
    return _plain(result.values)


def _plain(values: Values) -> Found:
    return {wire: brought.value for wire, brought in values.items()}


def _refresh(
    request: LoadRequest, seen: Mapping[bytes, int], context: LoadContext, *, behind: bool
) -> SingleFlight:
    # The caller waits until its own `deadline` at most.
    now, soft = context.clock(), request.policy.soft_timeout
    if soft is not None:
        soft = max(request.budget.until(now + soft) - now, 0.0)
    # In the background it is a load of its own, which the call that began it does not undo.
    if behind or soft is not None:
        budget = context.budget(background=True)
        request = replace(request, background=True, claimed={}, budget=budget)

    def work(mine: tuple[bytes, ...]) -> Flow[Values]:
        context.tally.refreshes += behind
        context.tend(mine, request.load_keys[0].plan.ttl)
        values: Values = {}
        try:
            # A large refresh is done in batches, as a large load is.
            for number, part in enumerate(chunked(mine, context.batch)):
                if number:  # the first one has what is left of the call's own deadline
                    request.budget.renew()
                values |= yield from load_once_flow(
                    request.of(tuple(part), seen), context, patient=False
                )
            return values
        except Exception as error:
            # The caller does not see this error, so the hook is told of it.
            if behind or request.policy.stale_if_error:
                context.reply_policy.load_failed(
                    request.name, error.error if isinstance(error, LoaderEnded) else error
                )
            raise
        finally:
            context.tend(mine, 0.0 if values else _AGAIN)
            context.written(mine)

    return SingleFlight(tuple(seen), work, 0.0, soft, behind, budget=request.budget)
