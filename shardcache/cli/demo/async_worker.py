"""A worker process of the demo with the asyncio client: several tasks, one connection per shard."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

from shardcache.async_client import AsyncShardCache
from shardcache.cli.demo.worker import REPORT_EVERY, TOGETHER, Order, Reporter, Site, open_cache
from shardcache.cli.demo.workload import measure
from shardcache.near_cache import NearCache
from shardcache.options import Options

__all__ = ("VISITORS", "AsyncWorker")

VISITORS = 4  # tasks at once, each one visitor of the site


class AsyncWorker(Reporter):
    """A worker with the asyncio client.

    Computations run in a thread: in the event loop they would make every task miss its deadline.
    """

    def __init__(self, number: int, site: Site, pipe: "Connection[Any, Any]") -> None:
        super().__init__(number, site, pipe)
        options = Options(on_event=self._note)
        self._plain = self._cache = open_cache(AsyncShardCache, site, options)
        self._near = open_cache(AsyncShardCache, site, options, NearCache())
        # One thread only: CPython 3.11 counts the depth of a parse over all threads together, and
        # two parses at once may raise SystemError.
        self._thread = ThreadPoolExecutor(1)
        self._stopped = False

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        async with self._plain, self._near:
            self._send(done=True)  # ready
            while True:
                order = await asyncio.to_thread(self._pipe.recv)
                if isinstance(order, Order):  # else: a stop that came after the end
                    self._cache = self._near if order.near else self._plain
                    await self._carry_out(order)

    async def _carry_out(self, order: Order) -> None:
        keys = order.turns()
        self._stopped = False
        visitors = {asyncio.create_task(self._visit(keys, order.pause)) for _ in range(VISITORS)}
        while visitors:
            _, visitors = await asyncio.wait(visitors, timeout=REPORT_EVERY)
            # After a stop, each task still finishes the request that it is at.
            if not self._stopped:
                self._stopped = self._told_to_stop()
        self._send(done=True)

    async def _visit(self, keys: Iterator[str], pause: float) -> None:
        for number, key in enumerate(keys, 1):
            await self._answer(key)
            if self._stopped:
                return
            # What comes from memory gives no other task a turn, and a pause does.
            if pause and number % TOGETHER == 0:
                await asyncio.sleep(pause * VISITORS)

    async def _answer(self, key: str) -> None:
        """Do what a web application does: ask the cache; on a miss compute and store."""
        asked, start = time.monotonic(), time.perf_counter()
        try:
            value = await self._cache.get(key)
            self._report.waits.append(time.perf_counter() - start)
            if value is None:
                await self._cache.set(key, await self._measured(key))
            else:
                self._judge(key, value, asked)
        except Exception as error:  # noqa: BLE001  a visitor would have seen it, so it is counted
            self._failed(error)

    async def _measured(self, key: str) -> dict[str, Any]:
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, measure, self._site.root, key
        )
