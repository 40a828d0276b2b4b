"""Back-pressure: what is in flight on a connection is bounded.

Calls wait for room in order, within their deadlines.
"""

import asyncio
import os
import subprocess
import sys

import pytest

from shardcache import errors

pytestmark = pytest.mark.long

LONG_TIMEOUT = 60.0


async def turns(count: int = 10) -> None:
    """Let everything happen that is to happen now."""
    for _ in range(count):
        await asyncio.sleep(0)


def test_calls_in_flight_are_bounded(virtual, server, client) -> None:
    """No more than max_in_flight commands are owed; each reply lets the next one out, in order."""

    async def main() -> None:
        async with client(timeout=LONG_TIMEOUT, max_in_flight=3) as cache:
            tasks = [asyncio.create_task(cache.get(f"{number}")) for number in range(10)]
            await turns()
            [peer] = server.peers
            for answered in range(10):
                assert [command[1] for command in peer.asked] == [
                    b"%d" % n for n in range(min(answered + 3, 10))
                ]
                peer.say(b"$1\r\n%d\r\n" % answered)
                await turns()
            assert [task.result() for task in tasks] == list(range(10))

    virtual(main())


def test_waiting_ends_at_the_deadline(virtual, server, client) -> None:
    """A call that waits for room on a stalled shard ends at its deadline."""

    async def main() -> None:
        async with client(timeout=1.0, max_in_flight=2, max_out=0) as cache:
            begun = asyncio.get_running_loop().time()
            calls = [asyncio.create_task(cache.get(f"{number}")) for number in range(50)]
            await turns()
            server.hangs = True  # for whoever connects from now on, too
            found = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(error) for error in found} == {errors.ShardTimeout}
            assert asyncio.get_running_loop().time() - begun == pytest.approx(1.0, abs=0.003)
            assert len(server.asked) == 2

    virtual(main())


def test_let_in_late_keeps_its_deadline(virtual, server, client) -> None:
    """Room that comes shortly before a caller's deadline gives it the rest of its time, no more."""

    async def main() -> None:
        async with client(timeout=1.0, max_in_flight=1, max_out=0) as cache:
            loop = asyncio.get_running_loop()
            begun = loop.time()
            first, second = (asyncio.create_task(cache.get(key)) for key in ("1", "2"))
            await asyncio.sleep(0.9)
            server.peers[0].say(b"$1\r\n1\r\n")
            assert await first == 1
            with pytest.raises(errors.ShardTimeout):
                await second
            assert loop.time() - begun == pytest.approx(1.0, abs=0.003)

    virtual(main())


@pytest.mark.parametrize("given_up", range(4))
def test_room_of_who_gave_up_goes_to_the_next(virtual, server, client, given_up: int) -> None:
    """A caller that is cancelled in the turn in which it gets room leaves that to the next one."""

    async def main() -> None:
        async with client(timeout=LONG_TIMEOUT, max_in_flight=1) as cache:
            first = asyncio.create_task(cache.get("0"))
            await turns()
            [peer] = server.peers
            waiting = [asyncio.create_task(cache.get(f"{number}")) for number in range(1, 6)]
            await turns()
            peer.connection.data_received(b"$1\r\n0\r\n")
            for task in waiting[:given_up]:
                task.cancel()
            rest = waiting[given_up:]
            while not all(task.done() for task in rest):
                before = len(peer.asked)
                await turns()
                if len(peer.asked) > before or len(peer.connection):
                    peer.say(b"$1\r\n7\r\n")
                else:
                    # Nothing is in flight, and still somebody waits.
                    assert all(task.done() for task in rest)
            assert (await first, [task.result() for task in rest]) == (0, [7] * len(rest))

    virtual(main())


@pytest.mark.parametrize("size", [1_000, 100_000], ids=["main", "bulk"])
def test_bytes_in_flight_are_bounded(virtual, server, client, size: int) -> None:
    """Unanswered bytes never exceed the bound by more than one request.

    That is so as well when many wait and room comes at once.
    """
    bound = 4 * size

    async def main() -> None:
        async with client(timeout=LONG_TIMEOUT, max_bytes_in_flight=bound) as cache:
            tasks = [
                asyncio.create_task(cache.set(f"{number}", os.urandom(size)))
                for number in range(40)
            ]
            most = 0
            while not all(task.done() for task in tasks):
                await turns()
                [peer] = server.live
                most = max(most, peer.connection.bytes_owed)
                peer.say(b":0\r\n+OK\r\n" * len(peer.connection))
            assert all(task.result() for task in tasks)
            assert bound // 2 < most < bound + size + 200

    virtual(main())


def test_large_requests_have_a_connection_of_their_own(virtual, server, client) -> None:
    """A value of 10 MB, and a batch of 10,000 keys, never stand in front of a small get."""

    async def main() -> None:
        async with client(timeout=LONG_TIMEOUT, max_bytes_in_flight=2**40) as cache:
            big = [
                asyncio.create_task(cache.set("big", os.urandom(10_000_000))),
                asyncio.create_task(cache.get_many([f"{number}" for number in range(10_000)])),
                asyncio.create_task(
                    cache.set_many({f"{number}": number for number in range(10_000)})
                ),
                asyncio.create_task(cache.delete_many([f"{number}" for number in range(10_000)])),
            ]
            small = asyncio.create_task(cache.get("small"))
            await turns()
            assert len(server.live) == 2
            [main] = [peer for peer in server.live if peer.asked[0][0] == b"GET"]
            assert main.asked == [[b"GET", b"small"]]
            main.say(b"$1\r\n5\r\n")
            assert await small == 5
            for task in big:
                task.cancel()
            await asyncio.wait(big)

    virtual(main())


STALLED = """
import asyncio, sys, time, tracemalloc
from shardcache import AsyncShardCache, Options
from shardcache.testing import FaultProxy, Stall

TASKS = 50_000
LONG_TIMEOUT = 60.0
now = None

async def main(proxy):
    global now
    loop = asyncio.get_running_loop()
    # However long it takes to start them all: meanwhile the clock stands still, then all are late.
    loop.time = lambda: now or time.monotonic()
    cache = AsyncShardCache({"a": proxy.url}, timeout=LONG_TIMEOUT, on_unavailable="raise")
    async with cache:
        await cache.get("warm")
        proxy.set(Stall())
        now = time.monotonic()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        tasks = [loop.create_task(cache.get(f"key:{number}")) for number in range(TASKS)]
        while len(asyncio.all_tasks()) <= TASKS:
            await asyncio.sleep(0)
        for _ in range(10):  # turns, in which all that they do until they wait has been done
            await asyncio.sleep(0)
        held, _ = tracemalloc.get_traced_memory()
        assert not any(task.done() for task in tasks)
        tracemalloc.stop()
        late, now = now + LONG_TIMEOUT, None
        begun = time.monotonic()
        loop.time = lambda: late + time.monotonic() - begun
        found = await asyncio.gather(*tasks, return_exceptions=True)
        ended = {type(each).__name__ for each in found}
        proxy.clear()
    print(held - before, ",".join(sorted(ended)))

with FaultProxy(sys.argv[1]) as proxy:
    asyncio.run(main(proxy))
"""


def test_memory_of_50_000_waiting_tasks(shards) -> None:
    """On a stalled shard 50,000 waiting tasks hold less than 64 MB, tasks included.

    The options are the default ones.
    """
    command = [sys.executable, "-c", STALLED, shards.servers[0].url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    held, ended = done.stdout.split()
    assert set(ended.split(",")) <= {"ShardTimeout", "ShardOut"}
    assert int(held) < 64 * 1024 * 1024
