"""Many workers that call at once: threads, or tasks of an event loop; a lap is all their calls."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from shardcache.bench.race import Racer

__all__ = ("EventLoop", "Threads", "shares")

STARTS = 4  # different laps of a racer
Call = Callable[[Any], Any]


def shares(inputs: Sequence[Any], workers: int, turns: int) -> list[list[list[Any]]]:
    """Return some laps: for each worker the ``turns`` inputs that it calls with."""
    step = max(1, len(inputs) // STARTS)
    return [
        [
            [inputs[(start + worker * turns + turn) % len(inputs)] for turn in range(turns)]
            for worker in range(workers)
        ]
        for start in range(0, len(inputs), step)
    ]


class Threads:
    """Threads that stay, for a race between clients that many threads share.

    ``count``: how many.
    """

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count)

    def racer(self, name: str, call: Call, laps: Sequence[Any]) -> Racer:
        """Return a racer each of whose calls is one lap of `shares`."""

        def work(mine: list[Any]) -> None:
            for one in mine:
                call(one)

        def lap(each: list[list[Any]]) -> None:
            for _ in self._pool.map(work, each):
                pass

        return Racer(name, lap, laps)

    def close(self) -> None:
        self._pool.shutdown()


class EventLoop:
    """An event loop that laps run on, one after the other."""

    def __init__(
        self, make: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    ) -> None:
        self._loop = make()

    def run(self, awaited: Awaitable[Any]) -> Any:
        """Run until it is done; return what it returns."""
        return self._loop.run_until_complete(awaited)

    def racer(self, name: str, call: Call, laps: Sequence[Any]) -> Racer:
        """Return a racer each of whose calls is one lap of `shares`."""

        async def work(mine: list[Any]) -> None:
            for one in mine:
                await call(one)

        async def lap(each: list[list[Any]]) -> None:
            await asyncio.gather(*map(work, each))

        return Racer(name, lambda each: self.run(lap(each)), laps)

    def close(self) -> None:
        self.run(self._loop.shutdown_asyncgens())
        self._loop.close()
