"""The end of a client: closed, forgotten, or used on several event loops."""

import asyncio
import gc
import threading
import warnings
import weakref

import pytest

from shardcache import AsyncShardCache, errors
from shardcache.testing import FaultProxy, Stall

KEYS = [f"key-{number}" for number in range(50)]


def value_of(key: str) -> str:
    return f"<{key}>"


def test_aclose_ends_calls_in_flight(virtual, server, client) -> None:
    """Calls that wait for a reply, for room or for a connection all end with ClientClosed.

    So do later calls.
    """

    async def main() -> None:
        cache = client(max_in_flight=2)
        calls = [asyncio.create_task(cache.get("k")) for _ in range(5)]
        calls += [
            asyncio.create_task(cache.get_many(["k"])),
            asyncio.create_task(cache.set("k", "v" * 100_000)),
        ]
        await asyncio.sleep(0.1)
        calls.append(asyncio.create_task(cache.get("k")))
        await asyncio.sleep(0)
        await cache.aclose()
        await cache.aclose()
        found = await asyncio.gather(
            *calls, cache.get("k"), cache.get_many(["k"]), return_exceptions=True
        )
        assert {type(error) for error in found} == {errors.ClientClosed}
        assert server.live == []

    virtual(main())


def test_aclose_while_connecting(virtual, server, client) -> None:
    """A connection that is being made when the client closes is not made."""

    async def main() -> None:
        server.hangs = True
        cache = client()
        calls = [asyncio.create_task(cache.get("k")) for _ in range(3)]
        await asyncio.sleep(0.1)
        await cache.aclose()
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(error) for error in found} == {errors.ClientClosed}

    virtual(main())


@pytest.mark.parametrize("turns", range(8))
def test_aclose_in_any_turn(virtual, server, client, turns: int) -> None:
    """However far a call or connection has come when the client closes, nothing is left behind."""

    async def main() -> None:
        server.answer = lambda command: b"$1\r\n1\r\n"
        cache = client(max_in_flight=1)
        calls = [asyncio.create_task(cache.get("k")) for _ in range(20)]
        for _ in range(turns):
            await asyncio.sleep(0)
        await cache.aclose()
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert {1 if each == 1 else type(each) for each in found} <= {1, errors.ClientClosed}
        await asyncio.sleep(5)
        assert server.live == []

    virtual(main())


def test_aclose_while_the_shard_is_out(virtual, server, client) -> None:
    """The prober ends with the client."""

    async def main() -> None:
        server.refuses = ConnectionRefusedError("down")
        cache = client(failures=1)
        with pytest.raises(errors.ShardUnavailable):
            await cache.get("k")
        assert [task for task in asyncio.all_tasks() if "prober" in task.get_name()]
        await cache.aclose()

    virtual(main())


def test_unclosed_client_warns_once(run, shards) -> None:
    """A client that is forgotten with open connections warns, as asyncio's own objects do.

    It lets go of the connections.
    """

    async def main() -> None:
        cache = AsyncShardCache(shards.urls)
        await cache.get_many(KEYS)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            del cache
            gc.collect()
            await asyncio.sleep(0.05)
            gc.collect()
        assert [(one.category, str(one.message)) for one in said] == [
            (ResourceWarning, "unclosed AsyncShardCache(shard-1, shard-2)")
        ]

    run(main())


def test_closed_or_unused_client_says_nothing(run, shards) -> None:
    """Who closed, or never called, has nothing to be warned of."""

    async def main() -> None:
        unused = AsyncShardCache(shards.urls)
        closed = AsyncShardCache(shards.urls)
        await closed.get_many(KEYS)
        await closed.aclose()
        del unused, closed
        gc.collect()  # a warning is an error

    run(main())


@pytest.mark.parametrize("moment", ["connecting", "probing"])
def test_forgotten_client_without_connections(virtual, server, client, moment: str) -> None:
    """A client that is forgotten leaves no task behind.

    A connection is being made at that time, or its shard is out.
    """

    async def main() -> None:
        if moment == "connecting":
            server.hangs = True
        else:
            server.refuses = ConnectionRefusedError("down")
        cache = client(timeout=60, failures=1)
        call = asyncio.create_task(cache.get("k"))
        await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.wait([call])
        if not call.cancelled():
            call.exception()
        gone = weakref.ref(cache)
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            del cache, call
            gc.collect()
            await asyncio.sleep(0.1)
        assert gone() is None
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtual(main())


def test_one_client_on_several_loops(shards) -> None:
    """Threads with an event loop each share a client; each loop has connections of its own."""
    cache = AsyncShardCache(shards.urls, namespace="loops", timeout=60)
    wrong: list[object] = []
    barrier = threading.Barrier(4)

    async def work() -> None:
        assert await cache.set_many({key: value_of(key) for key in KEYS}) == []
        barrier.wait()
        for _ in range(5):
            found = await asyncio.gather(*map(cache.get, KEYS))
            wrong.extend(got for key, got in zip(KEYS, found, strict=True) if got != value_of(key))
            many = await cache.get_many(KEYS)
            wrong.extend(got for key, got in many.items() if got != value_of(key))
        runner = cache._runner
        shards_here = runner.shards()
        barrier.wait()
        await asyncio.gather(*(shard.close() for shard in shards_here))

    threads = [threading.Thread(target=asyncio.run, args=(work(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert [shard.connects for shard in cache.stats().shards.values()] == [4, 4]
    asyncio.run(cache.aclose())


def test_aclose_reaches_other_loops(shards) -> None:
    """Closing on one loop ends the calls and the connections of another."""
    ready, closed = threading.Event(), threading.Event()
    found: list[object] = []
    left: list[object] = []

    with FaultProxy(shards.servers[0].url) as proxy:
        cache = AsyncShardCache({"a": proxy.url}, timeout=60)

        async def wait() -> None:
            loop = asyncio.get_running_loop()
            await cache.get("warm")
            proxy.set(Stall())
            call = asyncio.create_task(cache.get("k"))
            await asyncio.sleep(0.01)
            ready.set()
            found.extend(await asyncio.gather(call, return_exceptions=True))
            await loop.run_in_executor(None, closed.wait)
            await asyncio.sleep(0.01)
            left.extend(asyncio.all_tasks() - {asyncio.current_task()})
            left.extend(range(len(loop._selector.get_map()) - 1))

        thread = threading.Thread(target=asyncio.run, args=(wait(),))
        thread.start()
        ready.wait()
        asyncio.run(cache.aclose())
        closed.set()
        thread.join()
    assert ([type(error) for error in found], left) == ([errors.ClientClosed], [])


def test_a_loop_after_the_other(shards) -> None:
    """A client that outlives its loops keeps none of them, and its counters go on."""
    cache = AsyncShardCache({"a": shards.servers[0].url}, namespace="after", timeout=60)
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def use(turn: int) -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        assert await cache.set("k", turn) is True
        assert await cache.get("k") == turn
        for shard in cache._runner.shards():
            await shard.close()

    for turn in range(5):
        asyncio.run(use(turn))
    gc.collect()
    assert [loop() is None for loop in loops[:-1]] == [True] * 4
    assert cache.stats().shards["a"].connects == 5
    asyncio.run(cache.aclose())


@pytest.mark.parametrize("fault", [None, Stall()], ids=["plain", "stalled"])
def test_uvloop(shards, fault) -> None:
    """The client works on uvloop as on the default loop: calls, batches, timeouts, closing."""
    uvloop = pytest.importorskip(
        "uvloop", reason="uvloop is not installed; it has no part in the client"
    )

    async def main(proxy: FaultProxy) -> None:
        async with AsyncShardCache({"a": proxy.url}, namespace="uv", timeout=30) as cache:
            assert await cache.set_many({key: value_of(key) for key in KEYS}) == []
            assert await asyncio.gather(*map(cache.get, KEYS)) == [value_of(key) for key in KEYS]
            assert await cache.get_many(KEYS) == {key: value_of(key) for key in KEYS}
            proxy.set(fault)
            calls = [asyncio.create_task(cache.get(key)) for key in KEYS]
            await asyncio.sleep(0.01)
            for call in calls[::2]:
                call.cancel()
            proxy.clear()
            assert await asyncio.gather(*calls[1::2]) == [value_of(key) for key in KEYS[1::2]]
            assert cache.stats().shards["a"].connects == 1
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with FaultProxy(shards.servers[0].url) as proxy:
        uvloop.run(main(proxy))
