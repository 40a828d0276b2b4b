"""How often a hot value is loaded: the load contexts of many processes in virtual time.

Each read is judged as `get_or_set` does it.
"""

import os
import random

import pytest

from shardcache import LoadPolicy, ShardCache
from shardcache.flows.context import ClientContext
from shardcache.flows.load import LoadContext
from shardcache.flows.lock.planner import LockPlanner
from shardcache.policy import Freshness
from shardcache.stats import LoadTally
from shardcache.topology.nodes import members

WIRE = b"hot"
TTL, DELTA, SECONDS = 1000, 100, 10_000  # milliseconds


def context(seed: int) -> LoadContext:
    """Return the load context of one process, whose chances are all of ``seed``."""
    chance = random.Random(seed)
    salt = chance.randbytes(16)
    context = ClientContext(
        members(["redis://one"]),
        namespace="",
        default_ttl=60,
        serializer="safe",
        compression=None,
        timeout=1.0,
        on_unavailable="degrade",
        options=None,
    )
    return LoadContext(
        codec=context.codec,
        reply_policy=context.reply_policy,
        planner=LockPlanner(context),
        clock=lambda: 0.0,
        random=chance.random,
        new_token=lambda kind: kind.encode(),
        version=lambda: bytes(16),
        tally=LoadTally(),
        timeout=1.0,
        batch=1000,
        salt=lambda: salt,
    )


def loads(policy: LoadPolicy, processes: int, readers: int, seed: int) -> int:
    """Return how often a value is loaded in ten seconds by readers that read each 10 ms.

    One loads at a time, as under the load lock, and one load takes a tenth of a second, more or
    less.
    """
    chance = random.Random(seed)
    contexts = [context(chance.randrange(2**32)) for _ in range(processes)]
    count, expires, raw = 0, 0, b""
    began, over = 0, None
    for now in range(0, SECONDS, 10):
        if over is not None and now >= over:
            took = over - began
            over = None
            raw = contexts[0].codec.encode_loaded(f"value {count}", WIRE, delta_ms=took)
            expires = now + TTL
        if over is not None:
            continue  # whoever looks now sees that somebody is at it, or waits
        left = expires - now
        early = left <= 0 or any(
            one.judge(raw, left, WIRE, policy)[1] is Freshness.EARLY
            for one in contexts
            for _ in range(readers)
        )
        if early:
            count += 1
            began, over = now, now + DELTA + chance.randrange(-3, 4)
    return count


@pytest.mark.parametrize(("processes", "readers"), [(1, 1), (1, 64), (8, 1), (8, 8), (64, 1)])
def test_a_hot_value_is_loaded_once_for_each_ttl(processes, readers) -> None:
    """With ttl 1 s and a loader of 0.1 s: 10 to 12 loads in 10 s, however many read."""
    found = [loads(LoadPolicy(), processes, readers, seed) for seed in range(3)]
    assert [count for count in found if not 10 <= count <= 12] == []


def test_where_nobody_is_kept_from_loading_each_read_draws() -> None:
    """Without protection that is what spreads the loads (XFetch): the more readers, the earlier."""
    few, many = (loads(LoadPolicy(protect="none"), 1, readers, 1) for readers in (1, 64))
    assert 10 <= few < 20 < many


def test_processes_that_do_not_wait_for_each_other_draw_for_themselves() -> None:
    """Else all of them would load at the same moment."""
    one, two = context(1), context(2)
    raw = one.codec.encode_loaded("value", WIRE, delta_ms=DELTA)

    def begins(which: LoadContext, policy: LoadPolicy) -> int:
        return next(
            left
            for left in range(TTL, 0, -1)
            if which.judge(raw, left, WIRE, policy)[1] is Freshness.EARLY
        )

    apart, together = LoadPolicy(protect="process"), LoadPolicy()
    assert begins(one, apart) == begins(one, apart) != begins(two, apart)
    assert begins(one, together) == begins(two, together)


# Forking with threads, which other tests may have left.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_draws_for_itself() -> None:
    """It is another process, though it has its parent's client."""
    with ShardCache(["redis://one"]) as cache:
        mine = cache._load_context.salt()
        assert (len(mine), cache._load_context.salt()) == (16, mine)
        reader, writer = os.pipe()
        if not (child := os.fork()):
            try:
                os.write(writer, cache._load_context.salt())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        theirs = os.read(reader, 16)
        os.close(reader)
        os.close(writer)
    assert (len(theirs), theirs != mine) == (16, True)
