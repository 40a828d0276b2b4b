"""How much of a load is served by one shard that loses some requests.

``python benchmarks/lost_requests.py [--callers N …] [--lost SHARE …]``

A request is lost with its connection: it gets no answer, and nothing behind it does. Every caller
asks at a steady pace, so a breaker that is open costs the calls of its time. ``served``: the share
of calls that brought the value; ``waited``: the share of the callers' time that went into calls.
"""

import argparse
import asyncio
import multiprocessing
import random
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import hiredis

from shardcache import AsyncShardCache, ShardCache

TIMEOUT = 0.3  # seconds
PACE = 0.02  # seconds between two calls of one caller
GREETING = (
    b"%4\r\n+server\r\n+redis\r\n+proto\r\n:3\r\n+mode\r\n+standalone\r\n+role\r\n+master\r\n"
)
ABOUT = b"run_id:0\r\nuptime_in_seconds:9\r\n"


class Lossy(asyncio.Protocol):
    """Answers every GET with a value, until it loses one."""

    lost = 0.0

    def __init__(self) -> None:
        self.reader = hiredis.Reader()
        self.stands_still = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        while (command := self.reader.gets()) is not False:
            verb = command[0]
            self.stands_still |= verb == b"GET" and random.random() < self.lost
            if self.stands_still:
                continue
            if verb == b"HELLO":
                answer = GREETING
            elif verb == b"INFO":
                answer = b"$%d\r\n%b\r\n" % (len(ABOUT), ABOUT)
            else:
                answer = b"+PONG\r\n" if verb == b"PING" else b"$5\r\nvalue\r\n"
            self.transport.write(answer)


def serve(lost: float, tell: Connection) -> None:
    """Be that server, on a port that is told, until killed."""

    async def main() -> None:
        Lossy.lost = lost
        server = await asyncio.get_running_loop().create_server(Lossy, "127.0.0.1", 0)
        tell.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


class Tally:
    """What the callers of one run met."""

    def __init__(self) -> None:
        self.served = self.calls = 0
        self.waited = 0.0

    def note(self, found: object, seconds: float) -> None:
        self.calls += 1
        self.served += found is not None
        self.waited += seconds


def threads(url: str, callers: int, seconds: float, tally: Tally) -> int:
    """Ask from that many threads; return how often the shard was taken out of service."""
    with ShardCache([url], timeout=TIMEOUT) as cache:
        end = time.monotonic() + seconds

        def work() -> None:
            time.sleep(random.random() * PACE)
            while time.monotonic() < end:
                begin = time.monotonic()
                found = cache.get("key")
                took = time.monotonic() - begin
                tally.note(found, took)
                time.sleep(max(PACE - took, 0))

        crew = [threading.Thread(target=work) for _ in range(callers)]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()
        return sum(shard.ejections for shard in cache.stats().shards.values())


def tasks(url: str, callers: int, seconds: float, tally: Tally) -> int:
    """Ask from that many tasks of one loop; return how often the shard was taken out of service."""

    async def main() -> int:
        async with AsyncShardCache([url], timeout=TIMEOUT) as cache:
            end = time.monotonic() + seconds

            async def work() -> None:
                await asyncio.sleep(random.random() * PACE)
                while time.monotonic() < end:
                    begin = time.monotonic()
                    found = await cache.get("key")
                    took = time.monotonic() - begin
                    tally.note(found, took)
                    await asyncio.sleep(max(PACE - took, 0))

            await asyncio.gather(*(work() for _ in range(callers)))
            return sum(shard.ejections for shard in cache.stats().shards.values())

    return asyncio.run(main())


def measure(
    kind: Callable[[str, int, float, Tally], int], lost: float, callers: int, seconds: float
) -> str:
    """Return one line of the table."""
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(lost, there), daemon=True
    )
    server.start()
    try:
        tally = Tally()
        out = kind(f"redis://127.0.0.1:{here.recv()}", callers, seconds, tally)
    finally:
        server.kill()
        server.join()
    served = f"{tally.served / tally.calls:7.1%}"
    waited = f"{tally.waited / (callers * seconds):7.1%}"
    return f"{kind.__name__:8} {callers:7} {lost:6.1%} {served} {waited} {out:12}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument(
        "--lost", type=float, nargs="+", default=[0.01, 0.1], help="share of requests, from 0 to 1"
    )
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="of each line (default: %(default)s)"
    )
    said = parser.parse_args()
    print(f"timeout {TIMEOUT} s, a call every {PACE} s from each caller\n")
    print("kind     callers   lost  served  waited  out of service")
    for kind in (threads, tasks):
        for callers in said.callers:
            for lost in said.lost:
                print(measure(kind, lost, callers, said.seconds), flush=True)


if __name__ == "__main__":
    main()
