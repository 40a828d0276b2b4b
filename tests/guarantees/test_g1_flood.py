"""G1 on asyncio: thousands of tasks on one connection per shard, half of them cancelled, faults.

Every value carries its key. A reply that went to the next task in the queue would be seen at once.
"""

import asyncio
import gc
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from shardcache import AsyncShardCache, Options, ShardCache
from shardcache.embedded import LocalShards
from shardcache.testing import Delay, Drop, Fault, FaultProxy, Split, Stall

from .conftest import BROKEN, MARKED, NO_BREAKER, SCALE, Count, trouble, value_of

pytestmark = pytest.mark.long

TASKS = 10_000
SPAN = 1.0  # seconds over which the tasks begin
TIMEOUT = 0.05  # seconds: a stalled reply costs one
LONG_TIMEOUT = 60.0  # seconds: far more than any call may take
KEYS = [f"key-{i}" for i in range(48)]
Proxies = dict[str, FaultProxy]


@pytest.fixture
def urls(proxies: Proxies, servers: LocalShards) -> dict[str, str]:
    """The proxies' addresses; the keys are filled in past them."""
    with ShardCache(servers.urls, namespace="flood") as direct:
        assert direct.set_many({key: value_of(key) for key in KEYS}, ttl=None) == []
    return {name: proxy.url for name, proxy in proxies.items()}


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, None]], None]:
    """Run a coroutine; afterwards nothing is left on its loop, and asyncio has no complaint."""

    def go(main: Coroutine[Any, Any, None]) -> None:
        said: list[dict[str, Any]] = []

        async def whole() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: said.append(context))
            await main
            gc.collect()  # what was never retrieved says so now
            await asyncio.sleep(0.01)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert len(loop._selector.get_map()) == 1  # the loop's own pipe

        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(whole())
        gc.collect()
        assert said == []

    return go


@asynccontextmanager
async def client(
    urls: dict[str, str], options: Options, timeout: float
) -> AsyncIterator[AsyncShardCache]:
    async with AsyncShardCache(urls, namespace="flood", timeout=timeout, options=options) as cache:
        yield cache


async def visit(cache: AsyncShardCache, count: Count, rng: random.Random) -> None:
    """Make one call of a random kind and check what comes back."""
    kind, key = rng.random(), rng.choice(KEYS)
    if kind < 0.6:
        count.check(key, await cache.get(key))
    elif kind < 0.75:
        some = rng.sample(KEYS, 6)
        count.check_many(some, await cache.get_many(some))
    elif kind < 0.9:
        await cache.set(key, value_of(key), ttl=None)
        count.check(key, await cache.get(key))
    else:
        async with cache.pipeline() as pipe:
            pipe.get(key)
            pipe.contains(key)
            pipe.get(KEYS[0])
        count.check(key, pipe.results[0])
        count.check(KEYS[0], pipe.results[2])
        if pipe.results[1] not in (True, False):
            count.wrong.append((key, pipe.results[1]))


async def flood(
    cache: AsyncShardCache, count: Count, rng: random.Random, tasks: int
) -> tuple[int, int]:
    """Start tasks over `SPAN`, cancel half; return how many ended, and how many were cancelled."""
    loop = asyncio.get_running_loop()

    async def begin(at: float, seed: int) -> None:
        await asyncio.sleep(at)
        await visit(cache, count, random.Random(seed))

    running = []
    for number in range(tasks):
        at = rng.uniform(0, SPAN)
        task = loop.create_task(begin(at, rng.randrange(2**32)))
        running.append(task)
        if number % 2:
            loop.call_later(at + rng.choice((0, 0.001, 0.005, TIMEOUT)) * rng.random(), task.cancel)
    done, stuck = await asyncio.wait(running, timeout=LONG_TIMEOUT)
    assert stuck == set()
    cancelled = sum(task.cancelled() for task in done)
    errors = [error for task in done if not task.cancelled() and (error := task.exception())]
    assert errors == []
    return len(done) - cancelled, cancelled


@pytest.mark.parametrize(
    ("options", "broken"),
    [(NO_BREAKER, False), (MARKED, True), (Options(first_probe=0.01), False)],
    ids=["plain", "marked", "with breakers"],
)
def test_flood_under_faults(
    run, urls, proxies: Proxies, count: Count, options: Options, broken: bool
) -> None:
    """10,000 tasks, half of them cancelled, under every fault: nothing wrong, stuck or left."""

    def may(fault: Fault) -> bool:
        # A request that loses its middle is another request. No client can tell, and it could store
        # anything.
        lost = isinstance(fault, Drop) and fault.on == "request"
        return not lost and (broken or not isinstance(fault, BROKEN))

    async def main() -> None:
        async with client(urls, options, TIMEOUT) as cache:
            with trouble(proxies.values(), random.Random(8), 0.002, may):
                ended, cancelled = await flood(cache, count, random.Random(4), TASKS * SCALE)
            assert ended + cancelled == TASKS * SCALE
            assert cancelled > TASKS * SCALE // 10

    run(main())
    if broken:  # a flipped byte inside a value is for a signing key to notice: see the sync tests
        count.wrong = [
            (key, got) for key, got in count.wrong if not one_byte_off(got, value_of(key))
        ]
    assert count.wrong == []


def one_byte_off(got: object, right: str) -> bool:
    """Whether ``got`` is the right value but for one damaged character."""
    return isinstance(got, str) and len(got) == len(right) and sum(map(str.__ne__, got, right)) == 1


@pytest.mark.parametrize(
    "fault",
    [None, Delay(0.01), Split(tuple(range(1, 400, 7)), pause=0.0)],
    ids=["plain", "delays", "splits"],
)
def test_cancellation_costs_no_connection(
    run, urls, proxies: Proxies, count: Count, fault: Any
) -> None:
    """As long as replies come, cancelled tasks leave the one connection of each shard in use."""

    async def main() -> None:
        async with client(urls, Options(), LONG_TIMEOUT) as cache:
            await cache.get_many(KEYS)
            for proxy in proxies.values():
                proxy.set(fault)
            ended, cancelled = await flood(cache, count, random.Random(5), 2_000)
            assert ended + cancelled == 2_000
            shards = cache.stats().shards.values()
            assert [(s.connects, s.failures, s.retries) for s in shards] == [(1, 0, 0)] * len(
                proxies
            )
            assert await cache.get_many(KEYS) == {key: value_of(key) for key in KEYS}

    run(main())
    assert count.wrong == []


@pytest.mark.parametrize("options", [NO_BREAKER, Options()], ids=["plain", "with breakers"])
def test_timeouts_cost_no_connection(
    run, urls, proxies: Proxies, count: Count, options: Options
) -> None:
    """Replies after the deadline go to nobody, and the connection that they came over stays."""
    timeout = 0.5

    async def late(cache: AsyncShardCache) -> None:
        for proxy in proxies.values():
            proxy.set(Stall())
        for key, got in zip(KEYS, await asyncio.gather(*map(cache.get, KEYS)), strict=True):
            assert got is None
            count.check(key, got)
        for proxy in proxies.values():
            proxy.clear()

    async def main() -> None:
        async with client(urls, options, timeout) as cache:
            await cache.get_many(KEYS)
            await late(cache)
            for _ in range(500):  # out of service until a probe was answered
                if len(got := await cache.get_many(KEYS)) == len(KEYS):
                    break
                count.check_many(KEYS, got)
                await asyncio.sleep(0.01)
            assert await cache.get_many(KEYS) == {key: value_of(key) for key in KEYS}
            assert [shard.connects for shard in cache.stats().shards.values()] == [1] * len(proxies)

    run(main())
    assert count.wrong == []
