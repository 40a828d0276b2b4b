"""What counts the reads of a client's keys, if it has a use for that; empty in a forked child."""

import random
from math import ceil

from shardcache.flows.context import ClientContext
from shardcache.near_cache import NearCache
from shardcache.policy.hot_keys import HotKeyCounter
from shardcache.system.clock import boottime
from shardcache.system.forked import ForkedObjects

__all__ = ("hot_keys_of",)

_forked = ForkedObjects()


def hot_keys_of(context: ClientContext, near: NearCache | None) -> HotKeyCounter | None:
    """Return the counter of a client; None if neither its options nor its near cache want one.

    ``context``: that of the client. Its near values leave memory when their keys cool.
    ``near``: the settings of its near cache.
    """
    share = 0.0 if near is None else near.min_share
    # Twice as many counters as there can be hot keys: an error is half of their share at most.
    capacity = max(context.options.hot_keys, ceil(2 / share) if share else 0)
    if not capacity:
        return None
    sample = context.options.hot_keys_sample
    counter = HotKeyCounter(capacity, share, sample, clock=boottime, random=random.random)
    if share and context.near is not None:
        context.near.hot_keys = counter
        counter.cooled = context.near.drop
    _forked.add(counter)
    return counter
