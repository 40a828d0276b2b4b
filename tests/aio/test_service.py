"""Connections, the breaker and its prober on one loop, in virtual time."""

import asyncio

import pytest

from shardcache import errors
from shardcache.wire.sync.connection import Closed

PROBES = {"first_probe": 0.1, "max_probe": 0.1}


def state(cache) -> str:
    return cache.stats().shards["a"].state


async def settled(tasks) -> list[object]:
    """Wait for tasks; return each result, or the type of the error."""
    found = await asyncio.gather(*tasks, return_exceptions=True)
    return [type(each) if isinstance(each, BaseException) else each for each in found]


def test_no_connection_before_the_first_call(virtual, server, client) -> None:
    """A client that is made and closed has touched nothing.

    Thousands of first calls share one connection.
    """

    async def main() -> None:
        async with client():
            pass
        assert server.dials == []
        server.answer = lambda command: b"$1\r\n1\r\n"
        async with client() as cache:
            assert await settled([cache.get("k") for _ in range(3000)]) == [1] * 3000
            assert len(server.peers) == 1
            assert server.peers[0].writes == 1

    virtual(main())


def test_failed_connection_is_everybodys(virtual, server, client) -> None:
    """Who waits for a connection that cannot be made hears why, each with an error of its own."""

    async def main() -> None:
        server.refuses = ConnectionRefusedError("nobody there")
        async with client(max_out=0) as cache:
            found = await asyncio.gather(
                *(cache.get("k") for _ in range(5)), return_exceptions=True
            )
            assert [type(error) for error in found] == [errors.ShardUnavailable] * 5
            assert (len(set(map(id, found))), len(server.dials)) == (5, 1)

    virtual(main())


def test_hung_connection_costs_one_deadline(virtual, server, client) -> None:
    """A server that accepts and says nothing: the call ends on time and the shard is out."""

    async def main() -> None:
        server.hangs = True
        async with client(timeout=0.5) as cache:
            loop = asyncio.get_running_loop()
            begun = loop.time()
            with pytest.raises(errors.ShardTimeout):
                await cache.get("k")
            assert loop.time() - begun == pytest.approx(0.5, abs=0.003)
            with pytest.raises(errors.ShardOut):
                await cache.get("k")
            assert loop.time() - begun == pytest.approx(0.5, abs=0.003)

    virtual(main())


def test_cancelled_caller_does_not_cancel_the_connection(virtual, server, client) -> None:
    """The task that happened to be the first gives up.

    The connection that it asked for serves the others.
    """

    async def main() -> None:
        server.answer = lambda command: b"$1\r\n1\r\n"
        async with client() as cache:
            first, second = (asyncio.create_task(cache.get("k")) for _ in range(2))
            await asyncio.sleep(0)
            first.cancel()
            assert await settled([first, second]) == [asyncio.CancelledError, 1]
            assert (len(server.dials), len(server.peers)) == (1, 1)

    virtual(main())


@pytest.mark.parametrize("error", [None, ConnectionResetError("reset"), Closed("closed")], ids=repr)
def test_dead_kept_connection_is_replaced(virtual, server, client, error) -> None:
    """A connection that has served before and is found dead.

    What may be sent twice is, once; incr is not.
    """

    async def main() -> None:
        server.answer = lambda command: b":1\r\n" if command[0] == b"INCR" else b"$1\r\n1\r\n"
        async with client(failures=10) as cache:
            assert await cache.get("k") == 1
            server.answer = lambda command: None
            calls = [
                asyncio.create_task(call)
                for call in (cache.get("k"), cache.get_many(["k"]), cache.incr("k"))
            ]
            await asyncio.sleep(0.1)
            server.answer = lambda command: (
                b"*1\r\n$1\r\n1\r\n" if command[0] == b"MGET" else b"$1\r\n1\r\n"
            )
            server.peers[0].drop(error)
            assert await settled(calls) == [1, {"k": 1}, errors.ShardUnavailable]
            assert (len(server.peers), cache.stats().shards["a"].retries) == (2, 2)

    virtual(main())


@pytest.mark.parametrize("came", [0, 1, 2])
def test_half_answered_batch_is_asked_again_whole(virtual, server, client, came: int) -> None:
    """Replies that came before the connection died count for nothing.

    None is taken for another command's.
    """
    values = {b"k": b"$1\r\n1\r\n", b"l": b"$1\r\n2\r\n", b"m": b"$1\r\n3\r\n"}

    async def main() -> None:
        server.answer = lambda command: values[command[1]]
        async with client(failures=10) as cache:
            assert await cache.get("k") == 1
            server.answer = lambda command: None
            async with asyncio.TaskGroup() as group:
                pipe = cache.pipeline()
                for key in ("k", "l", "m"):
                    pipe.get(key)
                call = group.create_task(pipe.execute())
                single = group.create_task(cache.get("l"))
                await asyncio.sleep(0.1)
                server.peers[0].connection.data_received(b"".join(list(values.values())[:came]))
                server.answer = lambda command: values[command[1]]
                server.peers[0].drop()
            assert (call.result(), single.result()) == ([1, 2, 3], 2)

    virtual(main())


def test_fresh_connection_that_breaks_is_a_failure(virtual, server, client) -> None:
    """A connection that never answered is not replaced and tried again: the server is not well."""

    async def main() -> None:
        async with client(max_out=0) as cache:
            call = asyncio.create_task(cache.get("k"))
            await asyncio.sleep(0.1)
            server.peers[0].drop()
            assert await settled([call]) == [errors.ShardUnavailable]
            assert len(server.peers) == 1

    virtual(main())


def test_second_death_is_the_last(virtual, server, client) -> None:
    """What was sent again once is not sent a third time."""

    async def main() -> None:
        server.answer = lambda command: b"$1\r\n1\r\n"
        async with client(max_out=0) as cache:
            await cache.get("k")
            server.answer = lambda command: None
            call = asyncio.create_task(cache.get("k"))
            for at in (0, 1):
                await asyncio.sleep(0.1)
                server.peers[at].drop()
            assert await settled([call]) == [errors.ShardUnavailable]
            assert [command[1] for command in server.asked] == [b"k"] * 3

    virtual(main())


def test_retry_keeps_the_deadline(virtual, server, client) -> None:
    """A retry spends what is left of the call's time, also behind calls that began later."""

    async def main() -> None:
        server.answer = lambda command: b"$1\r\n1\r\n"
        async with client(timeout=1.0, max_out=0) as cache:
            await cache.get("k")
            server.answer = lambda command: None
            loop = asyncio.get_running_loop()
            begun = loop.time()
            call = asyncio.create_task(cache.get("k"))
            await asyncio.sleep(0.8)
            server.hangs = True
            server.peers[0].drop()
            later = [asyncio.create_task(cache.get("k")) for _ in range(3)]
            assert await settled([call]) == [errors.ShardTimeout]
            assert loop.time() - begun == pytest.approx(1.0, abs=0.003)
            assert await settled(later) == [errors.ShardTimeout] * 3
            assert loop.time() - begun == pytest.approx(1.8, abs=0.003)

    virtual(main())


def test_timeout_ejects_and_the_prober_brings_back(virtual, server, client) -> None:
    """One timeout takes the shard out.

    The prober asks until it answers; then calls are let in again.
    """

    async def main() -> None:
        server.answer = lambda command: b"$1\r\n1\r\n"
        async with client(timeout=1.0, **PROBES) as cache:
            await cache.get("k")
            server.answer = lambda command: None
            with pytest.raises(errors.ShardTimeout):
                await cache.get("k")
            assert state(cache) == "open"
            server.refuses = ConnectionRefusedError("down")
            server.peers[0].drop()
            await asyncio.sleep(1)
            assert (state(cache), cache.stats().shards["a"].probes > 5) == ("open", True)
            server.refuses = None
            server.answer = lambda command: b"$1\r\n1\r\n"
            await asyncio.sleep(0.2)
            assert state(cache) == "half-open"
            assert await settled([cache.get("k") for _ in range(1)]) == [1]
            for _ in range(6):
                await cache.get("k")
            assert state(cache) == "closed"

    virtual(main())


def test_late_but_alive_keeps_its_connection(virtual, server, client) -> None:
    """The reply came after the deadline.

    The prober finds the connection in order and no other is opened.
    """

    async def main() -> None:
        server.answer = lambda command: b"$1\r\n1\r\n"
        async with client(timeout=1.0, **PROBES) as cache:
            await cache.get("k")
            server.answer = lambda command: None
            server.hangs = True
            with pytest.raises(errors.ShardTimeout):
                await cache.get("k")
            server.answer = lambda command: b"$1\r\n1\r\n"
            server.peers[0].say(b"$1\r\n9\r\n")
            await asyncio.sleep(0.2)
            assert (state(cache), await cache.get("k")) == ("half-open", 1)
            assert (len(server.peers), cache.stats().shards["a"].connects) == (1, 1)

    virtual(main())


@pytest.mark.parametrize("kind", ["get", "get_many", "pipeline", "set_many"])
@pytest.mark.parametrize(
    "moment", ["before its first step", "waiting for its reply", "reply is there"]
)
def test_trial_place_is_given_back(virtual, server, client, kind: str, moment: str) -> None:
    """A call on trial that is cancelled at any moment leaves its place.

    The shard comes back all the same.
    """

    async def call(cache) -> object:
        match kind:
            case "get":
                return await cache.get("k")
            case "get_many":
                return await cache.get_many(["k", "l"])
            case "set_many":
                return await cache.set_many({"k": 1, "l": 2})
        async with cache.pipeline() as pipe:
            pipe.get("k")
        return pipe.results

    value = b"$1\r\n1\r\n"
    replies = {"get_many": b"*2\r\n" + value * 2, "set_many": b"+OK\r\n" * 2}.get(kind, value)

    async def main() -> None:
        server.refuses = ConnectionRefusedError("down")
        async with client(timeout=5.0, failures=1, void_loads=False, **PROBES) as cache:
            with pytest.raises(errors.ShardUnavailable):
                await cache.get("k")
            server.refuses = None
            await asyncio.sleep(0.3)
            assert state(cache) == "half-open"
            task = asyncio.create_task(call(cache))
            if moment != "before its first step":
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            if moment == "reply is there":
                server.live[0].connection.data_received(replies)
            task.cancel()
            assert await settled([task]) == [asyncio.CancelledError]
            if moment == "waiting for its reply":  # nobody waits for it any more
                server.live[0].say(replies)
                await asyncio.sleep(0.01)
            server.answer = lambda command: b"$1\r\n1\r\n"
            for _ in range(8):
                assert await cache.get("k") == 1
            assert state(cache) == "closed"

    virtual(main())


def test_one_prober_per_shard(virtual, server, client) -> None:
    """However many calls fail at once, one task probes."""

    async def main() -> None:
        server.hangs = True
        async with client(timeout=1.0, **PROBES) as cache:
            await settled([cache.get("k") for _ in range(20)])
            probers = [task for task in asyncio.all_tasks() if "prober" in task.get_name()]
            assert len(probers) == 1

    virtual(main())


def test_batch_ends_by_its_deadline(virtual, server, client) -> None:
    """A get_many whose shard stalls ends on time, like a get."""

    async def main() -> None:
        async with client(timeout=0.7, max_out=0) as cache:
            loop = asyncio.get_running_loop()
            begun = loop.time()
            with pytest.raises(errors.ShardTimeout):
                await cache.get_many(["k", "l"])
            assert loop.time() - begun == pytest.approx(0.7, abs=0.003)

    virtual(main())
