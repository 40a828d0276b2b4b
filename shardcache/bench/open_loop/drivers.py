"""Make the calls of a window when they are due: by threads, or by tasks of an event loop."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from shardcache.bench.open_loop.latency import Served
from shardcache.bench.open_loop.mix import DueCall

__all__ = ("by_tasks", "by_threads")

GRACE = 10.0


def by_threads(
    calls: Sequence[DueCall], serve: Callable[[DueCall], bool], threads: int
) -> list[Served]:
    """Let a number of threads take the calls in their order; a call waits while all are busy.

    ``serve``: makes the call, returns whether it was served.
    """
    rest = iter(calls)
    lock = threading.Lock()
    begun = time.perf_counter()

    def work() -> list[Served]:
        found: list[Served] = []
        while True:
            with lock:
                call = next(rest, None)
            if call is None:
                return found
            wait = begun + call.due - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            fine = serve(call)
            found.append(Served(time.perf_counter() - begun - call.due, fine))

    with ThreadPoolExecutor(threads) as pool:
        return [
            one for each in [pool.submit(work) for _ in range(threads)] for one in each.result()
        ]


async def by_tasks(
    calls: Sequence[DueCall], serve: Callable[[DueCall], Awaitable[bool]]
) -> list[Served]:
    """Start a task for each call when it is due, as a server does for each request.

    A call that is not done `GRACE` seconds after the last one was due is cancelled: not served.
    """
    begun = time.perf_counter()

    async def work(call: DueCall) -> Served:
        fine = await serve(call)
        return Served(time.perf_counter() - begun - call.due, fine)

    tasks = []
    for call in calls:
        wait = begun + call.due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(work(call)))
    done, unfinished = await asyncio.wait(tasks, timeout=GRACE)
    for task in unfinished:
        task.cancel()
    ended = time.perf_counter() - begun
    return [
        task.result() if task in done else Served(ended - call.due, fine=False)
        for task, call in zip(tasks, calls, strict=True)
    ]
