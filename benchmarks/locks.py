"""The quorum lock over five voters.

It is measured beside a bare loop and other libraries, under contention, and with voters that hang.
"""

import asyncio
import multiprocessing
import select
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from itertools import count, pairwise
from statistics import median, quantiles
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import redis
import redis.asyncio
from peers import Bare, BarePipe, pack

from shardcache import AsyncQuorumLock, AsyncShardCache, QuorumLock, ShardCache
from shardcache.bench.figure import Figure, against
from shardcache.bench.race import Laps, Race, Racer, Spread
from shardcache.embedded import LocalShards
from shardcache.flows.lock.scripts import ACQUIRE, RELEASE

VOTERS = 5
TTL = 10.0  # seconds
AT_ONCE = 500  # different locks
WAITERS = 100
SECTION = 0.001  # seconds
PROCESSES = 4
HUNG = 2
LONG_TIMEOUT = 60.0  # seconds: nobody is to fail for the sake of a busy machine
NAMES = [f"lock:{number}" for number in range(200)]
POLL_IN = select.POLLIN


class BareLoop:
    """The floor: the same two scripts to the same servers.

    It writes to all, then reads from all in the order in which they answer.
    """

    def __init__(self, urls: Mapping[str, str]) -> None:
        self.links = [Bare(url) for url in urls.values()]
        self.by_fd = {link.sock.fileno(): link for link in self.links}
        self.poll = select.poll()
        for link in self.links:
            self.poll.register(link.sock, POLL_IN)
        self.tokens = count()

    def __call__(self, name: str) -> None:
        for payload in bare_lock(name, b"%040d" % next(self.tokens)):
            self.ask(payload)

    def ask(self, payload: bytes) -> None:
        for link in self.links:
            link.send(payload)
        left = len(self.links)
        while left:
            for fd, _ in self.poll.poll():
                self.by_fd[fd].reply()
                left -= 1

    def close(self) -> None:
        for link in self.links:
            link.close()


def bare_lock(name: str, token: bytes) -> tuple[bytes, bytes]:
    """Return the packed scripts that take a lock and release it."""
    keys = [f"bare:{name}:{part}".encode() for part in ("lock", "fence", "waiting", "wake")]
    return (
        pack((b"EVAL", ACQUIRE, 3, *keys[:3], token, 10_000, 86_400_000, 1, 1000)),
        pack((b"EVAL", RELEASE, 4, *keys, token)),
    )


def figures(race: Race) -> Iterator[Figure]:
    """Race, then contend, then freeze voters."""
    yield from alone(race)
    yield from at_once(race)
    yield from contended(race)
    yield from hung(race)


def alone(race: Race) -> Iterator[Figure]:
    """Acquire and release a free lock, one call after the other."""
    with ExitStack() as stack:
        servers = stack.enter_context(LocalShards(VOTERS, tcp=True))
        first = next(iter(servers.urls.values()))
        cache = stack.enter_context(ShardCache(servers.urls))
        # Voters are agreed on by namespace.
        one = stack.enter_context(ShardCache({"one": first}, namespace="one"))
        client = stack.enter_context(redis.Redis.from_url(first))
        bare = BareLoop(servers.urls)
        stack.callback(bare.close)
        ours = {name: cache.lock(name, TTL) for name in NAMES}
        single = {name: one.lock(name, TTL) for name in NAMES}
        theirs = {name: client.lock(f"redis-py:{name}", TTL) for name in NAMES}

        def turn(locks: dict[str, Any]) -> Callable[[str], None]:
            def call(name: str) -> None:
                lock = locks[name]
                lock.acquire()
                lock.release()

            return call

        def new(name: str) -> None:
            with cache.lock(name, TTL):
                pass

        fast = race(
            [
                Racer("acquire + release", turn(ours), NAMES),
                Racer("`with` a new handle", new, NAMES),
                Racer("the same on 1 voter", turn(single), NAMES),
                Racer("bare loop, same scripts", bare, NAMES),
                Racer("redis-py Lock on 1 node", turn(theirs), NAMES),
            ]
        )
        yield against(fast, "acquire + release", "bare loop, same scripts", 1.25)
        yield against(fast, "acquire + release", "redis-py Lock on 1 node", 1.5)
        yield against(fast, "bare loop, same scripts", "redis-py Lock on 1 node")
        yield against(fast, "`with` a new handle", "acquire + release")
        yield against(fast, "the same on 1 voter", "redis-py Lock on 1 node")
        others = list(libraries(servers.urls))
        slow = race(
            [Racer("acquire + release", turn(ours), NAMES), *(racer for racer, _ in others)],
            share=0.3,
        )
        for racer, goal in others:
            yield against(slow, "acquire + release", racer.name, goal)


def libraries(urls: Mapping[str, str]) -> Iterator[tuple[Racer, float]]:
    """Return the peers that are installed, with what ours may take of their time."""
    if find_spec("redlock"):
        from redlock import Redlock

        places = [urlsplit(url) for url in urls.values()]
        manager = Redlock(
            [{"host": place.hostname, "port": place.port, "db": 0} for place in places]
        )

        def redlock(name: str) -> None:
            manager.unlock(manager.lock(f"redlock-py:{name}", round(TTL * 1000)))

        yield Racer("redlock-py over the same", redlock, NAMES), 0.30
    if find_spec("pottery"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pottery
        masters = {redis.Redis.from_url(url) for url in urls.values()}

        def potter(name: str) -> None:
            lock = pottery.Redlock(key=f"pottery:{name}", masters=masters, auto_release_time=TTL)
            lock.acquire()
            lock.release()

        yield Racer("pottery Redlock over the same", potter, NAMES[:20]), 0.05


def at_once(race: Race) -> Iterator[Figure]:
    """Take many different locks at once on one event loop."""
    loop = asyncio.new_event_loop()
    with ExitStack() as stack:
        stack.callback(loop.close)
        servers = stack.enter_context(LocalShards(VOTERS, tcp=True))
        first = next(iter(servers.urls.values()))
        cache = AsyncShardCache(servers.urls, timeout=LONG_TIMEOUT)
        stack.callback(lambda: loop.run_until_complete(cache.aclose()))
        # Its default of 100 connections would refuse the rest; waiting for one of 100 is faster
        # than opening 500.
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            first, max_connections=100, timeout=LONG_TIMEOUT
        )
        client = redis.asyncio.Redis.from_pool(pool)
        stack.callback(lambda: loop.run_until_complete(client.aclose()))
        names = [f"lock:{number}" for number in range(AT_ONCE)]
        pipes = [loop.run_until_complete(BarePipe.to(url)) for url in servers.urls.values()]
        stack.callback(lambda: [pipe.transport.abort() for pipe in pipes])
        tokens = count()
        ours = [cache.lock(name, TTL, voter_timeout=TTL / 2) for name in names]
        theirs = [client.lock(f"redis-py:{name}", TTL) for name in names]

        async def turn(lock: Any) -> None:
            await lock.acquire()
            await lock.release()

        async def bare_turn(name: str) -> None:
            for payload in bare_lock(name, b"%040d" % next(tokens)):
                for reply in [pipe.send_packed(payload) for pipe in pipes]:
                    await reply

        async def crowd(locks: list[Any], turn: Callable[[Any], Any] = turn) -> None:
            await asyncio.gather(*map(turn, locks))

        laps = race(
            [
                Racer(
                    f"asyncio, {AT_ONCE} locks at once",
                    lambda _: loop.run_until_complete(crowd(ours)),
                    [0],
                ),
                Racer(
                    "bare pipelined Protocols, same scripts",
                    lambda _: loop.run_until_complete(crowd(names, bare_turn)),
                    [0],
                ),
                Racer(
                    "redis-py asyncio Lock, 1 node",
                    lambda _: loop.run_until_complete(crowd(theirs)),
                    [0],
                ),
            ],
            share=0.1,
        )
        ours_name, bare_name, redis_name = laps.seconds
        yield shared_out(laps, ours_name, bare_name, 1.5)
        yield shared_out(laps, ours_name, redis_name, 1 / 8)


def shared_out(laps: Laps, ours: str, theirs: str, goal: float) -> Figure:
    costs = f"{laps.micros(ours) / AT_ONCE:.0f} / {laps.micros(theirs) / AT_ONCE:.0f} µs each"
    return Figure(
        f"{ours} / {theirs}",
        laps.ratio(ours, theirs),
        goal,
        "",
        costs,
        laps.costs(ours, theirs, calls=AT_ONCE),
    )


class Contest(NamedTuple):
    """What came of many waiters for one lock: when each held it, and each wait in seconds."""

    held: list[tuple[float, float]]
    waits: list[float]

    @property
    def per_handover(self) -> float:
        return (max(end for _, end in self.held) - min(start for start, _ in self.held)) / len(
            self.held
        )

    @property
    def overlaps(self) -> int:
        ordered = sorted(self.held)
        return sum(later[0] < earlier[1] for earlier, later in pairwise(ordered))


def contended(race: Race) -> Iterator[Figure]:
    """Have many wait for one lock that is held for a millisecond each time."""
    turns = max(3, race.rounds // 10)
    ways: tuple[tuple[str, Callable[[Mapping[str, str], int], Contest]], ...] = (
        (f"{WAITERS} threads", threads),
        (f"{WAITERS} tasks", tasks),
        (f"{PROCESSES} processes x {WAITERS // PROCESSES} threads", processes),
    )
    for who, contest in ways:
        with LocalShards(VOTERS, tcp=True) as servers:
            found = contest(servers.urls, turns)
        gap = found.per_handover
        # Each has to wait for all others once, so that long is fair.
        cuts = quantiles(found.waits, n=100)
        fair = gap * WAITERS
        costs = (
            f"{1 / gap:.0f}/s; waits: median {median(found.waits):.2f}, p99 "
            f"{cuts[98]:.2f}, longest "
            f"{max(found.waits):.2f} s (all others once: {fair:.2f}); {found.overlaps} overlaps"
        )
        yield Figure(
            f"{who} on one lock, held 1 ms: per hand-over",
            Spread.of([gap * 1000]),
            3.33,
            " ms",
            costs,
        )


def threads(
    urls: Mapping[str, str], turns: int, waiters: int = WAITERS, ready: Any = None
) -> Contest:
    found = Contest([], [])
    start = threading.Barrier(waiters)
    with ShardCache(urls, timeout=2) as cache:
        cache.ping()

        def work() -> None:
            lock = cache.lock("one", TTL)
            if start.wait() == 0 and ready is not None:
                ready.wait()
            start.wait()
            for _ in range(turns):
                begun = time.monotonic()
                if not lock.acquire(timeout=LONG_TIMEOUT):
                    raise TimeoutError("a waiter starved")
                held = time.monotonic()
                time.sleep(SECTION)
                over = time.monotonic()
                lock.release()
                found.held.append((held, over))
                found.waits.append(held - begun)

        crowd = [threading.Thread(target=work) for _ in range(waiters)]
        for thread in crowd:
            thread.start()
        for thread in crowd:
            thread.join()
    return found


def tasks(urls: Mapping[str, str], turns: int) -> Contest:
    found = Contest([], [])

    async def work(cache: AsyncShardCache) -> None:
        lock: AsyncQuorumLock = cache.lock("one", TTL)
        for _ in range(turns):
            begun = time.monotonic()
            if not await lock.acquire(timeout=LONG_TIMEOUT):
                raise TimeoutError("a waiter starved")
            held = time.monotonic()
            await asyncio.sleep(SECTION)
            over = time.monotonic()
            await lock.release()
            found.held.append((held, over))
            found.waits.append(held - begun)

    async def main() -> None:
        async with AsyncShardCache(urls, timeout=2) as cache:
            await asyncio.gather(*(work(cache) for _ in range(WAITERS)))

    asyncio.run(main())
    return found


def processes(urls: Mapping[str, str], turns: int) -> Contest:
    fork = multiprocessing.get_context("fork")
    ready, answers = fork.Barrier(PROCESSES), fork.Queue()

    def share() -> None:
        answers.put(threads(urls, turns, WAITERS // PROCESSES, ready))

    crowd = [fork.Process(target=share) for _ in range(PROCESSES)]
    for one in crowd:
        one.start()
    parts = [answers.get(timeout=300) for _ in crowd]
    for one in crowd:
        one.join()
    return Contest(
        [one for part in parts for one in part.held], [one for part in parts for one in part.waits]
    )


def hung(race: Race) -> Iterator[Figure]:
    """Freeze a minority of the voters, and compare with what the same calls took before."""
    rounds = max(3, race.rounds // 20)
    calls = 100
    firsts, seconds, laters, healthies, slowest = [], [], [], [], []
    with LocalShards(VOTERS, tcp=True) as servers:
        for turn in range(rounds):
            # A client of its own for each round: the breakers of the last one may still be open.
            with ShardCache(servers.urls, timeout=0.5) as cache:
                lock = cache.lock("one", TTL)
                timed(lock, 10)
                healthy = median(timed(lock, calls))
                frozen = [servers.servers[(turn + at) % VOTERS] for at in range(HUNG)]
                for server in frozen:
                    server.pause()
                took = timed(lock, calls)
                for server in frozen:
                    server.resume()
            healthies.append(healthy)
            firsts.append(took[0] * 1000)
            seconds.append(took[1] / healthy)
            laters.append(median(took[1:]) / healthy)
            slowest.append(max(took[1:]) / healthy)
    label = f"{HUNG} of {VOTERS} voters frozen: "
    costs = f"healthy {median(healthies) * 1e6:.0f} µs, the voters' timeout is 500 ms"
    yield Figure(f"{label}first call", Spread.of(firsts), 500, " ms", costs)
    slow = f"the second {median(seconds):.2f}; the slowest of a round {median(slowest):.2f}"
    yield Figure(f"{label}call / healthy, from the second on", Spread.of(laters), 1.5, "", slow)


def timed(lock: QuorumLock, calls: int) -> list[float]:
    took = []
    for _ in range(calls):
        begun = time.perf_counter()
        lock.acquire()
        lock.release()
        took.append(time.perf_counter() - begun)
    return took
