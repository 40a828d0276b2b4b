"""`get_or_set`, one call at a time.

Measured are a hit, a reader during a refresh, a waiter after the fill, and the waits of a miss.
"""

import asyncio
import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from statistics import quantiles
from typing import Any

from caches import KEY, WAYS

from shardcache import AsyncShardCache, LoadPolicy, ShardCache
from shardcache.bench.figure import Figure, against
from shardcache.bench.race import Race, Racer, Spread
from shardcache.embedded import LocalShards


def figures(race: Race) -> Iterator[Figure]:
    for part in (hits, during_refresh, woken, round_trips):
        yield from part(race)


def hits(race: Race) -> Iterator[Figure]:
    """A hit through `get_or_set` beside a plain `get`, in both colours."""
    keys = [f"user:{number}:profile" for number in range(1000)]
    value = "v" * 100
    with LocalShards(1, tcp=True) as servers:
        with ShardCache(servers.urls) as cache:
            for key in keys:
                cache.get_or_set(key, value, 300)
            laps = race(
                [
                    Racer("get_or_set, a hit", lambda key: cache.get_or_set(key, value, 300), keys),
                    Racer("get of the same", cache.get, keys),
                ]
            )
            yield against(laps, "get_or_set, a hit", "get of the same", 1.35)
        loop = asyncio.new_event_loop()
        other = AsyncShardCache(servers.urls)

        async def crowd(ask: Callable[[str], Any], tasks: int) -> None:
            async def work(mine: Sequence[str]) -> None:
                for key in mine:
                    await ask(key)

            await asyncio.gather(*(work(keys[task * 10 : task * 10 + 10]) for task in range(tasks)))

        for tasks in (1, 64):
            laps = race(
                [
                    Racer(
                        f"asyncio, {tasks} at once: get_or_set, a hit",
                        lambda _, tasks=tasks: loop.run_until_complete(
                            crowd(lambda key: other.get_or_set(key, value, 300), tasks)
                        ),
                        [0],
                    ),
                    Racer(
                        "get",
                        lambda _, tasks=tasks: loop.run_until_complete(crowd(other.get, tasks)),
                        [0],
                    ),
                ],
                share=0.5,
            )
            yield against(laps, f"asyncio, {tasks} at once: get_or_set, a hit", "get", 1.35)
        loop.run_until_complete(other.aclose())
        loop.close()


def during_refresh(race: Race) -> Iterator[Figure]:
    """p99 of readers while a stale value is refreshed in the background, beside p99 of hits."""
    rounds = max(5, race.rounds // 5)
    policy = LoadPolicy.swr(60)
    ratios, stale, plain = [], [], []
    with LocalShards(3, tcp=True) as servers, ShardCache(servers.urls) as cache:
        for _ in range(rounds):
            over = threading.Event()

            def slow(over: threading.Event = over) -> str:
                time.sleep(0.1)
                over.set()
                return "new"

            cache.get_or_set("fresh", lambda: "value", 300, policy=policy)
            cache.get_or_set("old", lambda: "value", 0.02, policy=policy)
            time.sleep(0.03)
            old: list[float] = []
            fresh: list[float] = []
            while not over.is_set():
                # Taking turns: the machine's moods are both sides' alike.
                begun = time.perf_counter()
                cache.get_or_set("old", slow, 300, policy=policy)
                between = time.perf_counter()
                cache.get_or_set("fresh", slow, 300, policy=policy)
                fresh.append(time.perf_counter() - between)
                old.append(between - begun)
            cache.delete("old")
            one, other = (quantiles(column, n=100)[98] for column in (old, fresh))
            ratios.append(one / other)
            stale.append(one)
            plain.append(other)
    costs = f"{Spread.of(stale).middle * 1e6:.0f} / {Spread.of(plain).middle * 1e6:.0f} µs"
    yield Figure(
        "swr: p99 of readers during a refresh / of plain hits", Spread.of(ratios), 1.2, "", costs
    )


def woken(race: Race) -> Iterator[Figure]:
    """How long after the loader's end each waiter has the value: 4 processes, 8 waiters each."""
    for name, readers in (("shardcache, threads", 8), ("shardcache, tasks", 8)):
        rounds = max(3, race.rounds // 10)
        lags: list[float] = []
        for _ in range(rounds):
            lags += lag(name, readers)
        cuts = quantiles(lags, n=20)
        costs = (
            f"median {Spread.of(lags).middle * 1000:.1f}, longest "
            f"{max(lags) * 1000:.1f} ms, {len(lags)} waits"
        )
        yield Figure(
            f"{name}: waiters have the value after the fill, p95",
            Spread.of([cuts[18] * 1000]),
            15,
            " ms",
            costs,
        )


def lag(name: str, readers: int, processes: int = 4) -> list[float]:
    fork = multiprocessing.get_context("fork")
    with LocalShards(3, tcp=True) as servers:
        gate, answers = fork.Barrier(processes), fork.Queue()
        crowd = [
            fork.Process(target=wait_for_it, args=(name, servers.urls, readers, gate, answers))
            for _ in range(processes)
        ]
        for one in crowd:
            one.start()
        rows = [answers.get(timeout=60) for _ in crowd]
        for one in crowd:
            one.join()
    ((ended,),) = [row[0] for row in rows if row[0]]
    return [came - ended for _, times in rows for came in times]


def wait_for_it(name: str, urls: Mapping[str, str], readers: int, gate: Any, answers: Any) -> None:
    ended: list[float] = []
    came: list[float] = []

    def load() -> str:
        time.sleep(0.2)
        ended.append(time.monotonic())
        return "value"

    async def aload() -> str:
        await asyncio.sleep(0.2)
        ended.append(time.monotonic())
        return "value"

    if WAYS[name][1]:

        async def main() -> None:
            async with AsyncShardCache(urls, timeout=5) as cache:
                await cache.ping()
                gate.wait()

                async def work() -> None:
                    await cache.get_or_set(KEY, aload, 60)
                    came.append(time.monotonic())

                await asyncio.gather(*(work() for _ in range(readers)))

        asyncio.run(main())
    else:
        with ShardCache(urls, timeout=5) as cache:
            cache.ping()
            gate.wait()

            def work() -> None:
                cache.get_or_set(KEY, load, 60)
                came.append(time.monotonic())

            threads = [threading.Thread(target=work) for _ in range(readers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    answers.put((ended, came))


class Far:
    """A server whose answers take ``seconds`` longer.

    ``asked``: when it was asked something.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, url: str, seconds: float, asked: list[float]
    ) -> None:
        self.asked = asked
        self.loop = loop
        self.host, _, self.port = url.split("//")[1].split("/", maxsplit=1)[0].partition(":")
        self.seconds = seconds

    async def listen(self) -> str:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        return f"redis://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/0"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up, down = await asyncio.open_connection(self.host, int(self.port))

        async def requests() -> None:
            while data := await reader.read(65536):
                self.asked.append(time.monotonic())
                down.write(data)
            down.close()

        task = self.loop.create_task(requests())
        while data := await up.read(65536):
            self.loop.call_later(self.seconds, writer.write, data)
        await task
        writer.close()


def round_trips(_: Race) -> Iterator[Figure]:
    """How many times a miss with a free lock asks three voters and waits.

    What is asked while no answer can have come counts once.
    """
    away = 0.04
    asked: list[float] = []
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    with LocalShards(3, tcp=True) as servers:
        far = {
            name: asyncio.run_coroutine_threadsafe(
                Far(loop, url, away, asked).listen(), loop
            ).result()
            for name, url in servers.urls.items()
        }
        with ShardCache(far, timeout=5) as cache:
            cache.ping()
            cache.get_or_set("first", lambda: 1, 60)  # opens the connections
            trips: dict[bool, list[int]] = {False: [], True: []}
            met: set[tuple[str, ...]] = set()
            for number in range(30):
                # The first load under voters in this order also looks them up in the register of
                # restarts.
                voters = cache.explain(f"key:{number}").successors
                time.sleep(away * 2)  # for the last one's late answers
                asked.clear()
                cache.get_or_set(f"key:{number}", lambda: 1, 60)
                times = sorted(asked)
                trips[voters in met].append(
                    1 + sum(later - one > away * 0.75 for one, later in pairwise(times))
                )
                met.add(voters)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    for again, goal in ((True, 4), (False, None)):
        when = "" if again else ", first under its voters"
        costs = f"of {len(trips[again])} misses: {dict(sorted(Counter(trips[again]).items()))}"
        yield Figure(
            f"a miss, free lock, 3 voters: round trips{when}",
            Spread.of(trips[again]),
            goal,
            "",
            costs,
        )
