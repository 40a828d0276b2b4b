"""A pause of the client's own process, at any reading of the clock, blames no server.

The pause is a jump of the clock: from one reading to the next it goes on by more than a call may
take. By then the servers have answered everything that they were sent, as they do while a client's
process is stopped.
"""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from time import monotonic
from typing import Any

import pytest
import redis

from shardcache import AsyncShardCache, ShardCache
from shardcache.drivers.sync.runner import Runner
from shardcache.embedded import LocalShards
from shardcache.errors import LockError
from shardcache.testing import Delay, FaultProxy

TIMEOUT = 3.0  # seconds, by that clock: servers are late on a busy machine
PAUSE = 2.5 * TIMEOUT
# Seconds that one server takes to answer: more than a call waits after a pause, and much less than
# a call may take.
SLOW = 0.025
KEYS = [str(number) for number in range(20)]


class PausedClock:
    """A clock that jumps at its reading number ``at``.

    ``settle`` is called then, so that the servers carry out what they were sent.
    """

    def __init__(self, settle: Callable[[], None]) -> None:
        self._settle = settle
        self._gone = 0.0
        self._looks = 0
        self._at = 0

    def __call__(self) -> float:
        self._looks += 1
        if self._looks == self._at:
            self._settle()
            self._gone += PAUSE
        return monotonic() + self._gone

    def arm(self, at: int) -> None:
        self._looks, self._at = 0, at

    @property
    def struck(self) -> bool:
        """Whether there was a pause since it was armed."""
        return self._looks >= self._at


class PausedLoop(asyncio.SelectorEventLoop):
    """An event loop that lives by such a clock."""

    clock: PausedClock

    def time(self) -> float:
        return self.clock() if hasattr(self, "clock") else super().time()


async def done(result: Any) -> Any:
    return await result if inspect.isawaitable(result) else result


async def get(cache: Any) -> None:
    await done(cache.get("1"))


async def get_many(cache: Any) -> None:
    await done(cache.get_many(KEYS))


async def lock(cache: Any) -> None:
    one = cache.lock("l", ttl=60)
    with suppress(LockError):  # what is sent after a pause may be answered too late
        await done(one.acquire(blocking=False))
    with suppress(LockError):
        await done(one.release())


async def locks(cache: Any) -> None:
    """Of a lock that somebody else has: the waiter listens, and asks again."""
    held, other = cache.lock("h", ttl=60), cache.lock("h", ttl=60)
    with suppress(LockError):
        await done(held.acquire(blocking=False))
        await done(other.acquire(timeout=0.05))
    with suppress(LockError):
        await done(held.release())


pytestmark = pytest.mark.long  # it asks the library at each look of the clock, not the interpreter

CASES = [
    (get, False),
    (get_many, False),
    (get_many, True),
    (lock, True),
    (locks, False),
]  # the work, and whether by a new client


@pytest.fixture(scope="module")
def servers() -> Iterator[LocalShards]:
    with LocalShards(3) as shards:
        yield shards


@pytest.fixture
def urls(servers: LocalShards) -> Iterator[dict[str, str]]:
    """Two servers, and one that takes its time."""
    with FaultProxy(servers.urls["shard-3"]) as proxy:
        proxy.set(Delay(SLOW))
        yield {**servers.urls, "shard-3": proxy.url}


@pytest.fixture
def clock(urls: dict[str, str]) -> Iterator[PausedClock]:
    with ExitStack() as stack:
        plain = [stack.enter_context(redis.Redis.from_url(url)) for url in urls.values()]
        for server in plain:
            server.ping()
        # Twice: what the proxy passes on in one turn has no order.
        yield PausedClock(lambda: [server.ping() for server in plain * 2])


async def pause_everywhere(
    make: Callable[[], Any], clock: PausedClock, work: Any, *, fresh: bool
) -> list[Any]:
    """Do the work again and again, each time with the pause one reading of the clock later.

    ``fresh``: with a new client each time, which has no connection yet.

    Return the readings after which a shard was out. Each of these is tried twice more: a fault of
    the code shows each time, a machine that is late by itself does not.
    """
    blamed: list[Any] = []
    cache = make()
    at, tries = 1, 0
    while True:
        if not fresh:
            await done(cache.set_many(dict.fromkeys(KEYS, "v")))
            await done(cache.get_many(KEYS))
        clock.arm(at)
        await work(cache)
        struck = clock.struck
        clock.arm(0)
        if not fresh:
            await done(cache.get_many(KEYS))
        out = [name for name, shard in cache.stats().shards.items() if shard.ejections]
        tries = tries + 1 if out else 0
        if out or fresh or not struck:
            await done(cache.close())
            cache = make()
        if tries in (1, 2):
            continue
        if out:
            blamed.append((at, out))
        if not struck:
            break
        at, tries = at + 1, 0
    await done(cache.close())
    return blamed


@pytest.mark.parametrize(("work", "fresh"), CASES)
def test_sync(urls, clock, monkeypatch, work, fresh) -> None:
    """Whatever a sync client does, no shard is out after a pause."""
    made = Runner.of
    monkeypatch.setattr(Runner, "of", lambda context: made(context, clock))
    with pytest.raises(StopIteration) as end:
        pause_everywhere(lambda: ShardCache(urls, timeout=TIMEOUT), clock, work, fresh=fresh).send(
            None
        )
    assert end.value.value == []


@pytest.mark.parametrize(("work", "fresh"), CASES)
def test_async(urls, clock, work, fresh) -> None:
    """Whatever an asyncio client does, no shard is out after a pause."""

    def factory() -> PausedLoop:
        loop = PausedLoop()
        loop.clock = clock
        return loop

    with asyncio.Runner(loop_factory=factory) as runner:
        run = pause_everywhere(
            lambda: AsyncShardCache(urls, timeout=TIMEOUT), clock, work, fresh=fresh
        )
        assert runner.run(run) == []
