"""One request is lost on the connection that all tasks share.

Who else is served, what is sent again, and what keeps its order. In virtual time.
"""

import asyncio
import random

import pytest

from shardcache import AsyncShardCache, Options, errors
from shardcache.testing import FaultProxy, Stall
from tests.aio.losing_server import VALUE, answer, ask_in_order, losing, shard


@pytest.mark.parametrize("lost", [0, 3, 7])
def test_everybody_else_is_served(play, server, lost: int) -> None:
    """Of eight reads one is lost.

    All are served, that one too, over one more connection; the first one is closed.
    """

    async def scene(cache: AsyncShardCache) -> None:
        server.loses = losing(b"%d" % lost)
        calls = [cache.get(f"{number}") for number in range(6)] + [
            cache.get_many(["6"]),
            cache.fetch_many(["7"]),
        ]
        found = await asyncio.gather(*calls)
        assert found[:7] == [1] * 6 + [{"6": 1}]
        assert (shard(cache).state, shard(cache).timeouts, shard(cache).ejections) == (
            "closed",
            0,
            0,
        )
        assert (len(server.peers), len(server.live)) == (2, 1)
        assert await cache.get("more") == 1

    play(scene)


def test_a_pipeline_of_reads_is_sent_again_and_one_that_writes_is_not(play, server) -> None:
    """What changes anything is sent once, be it safe to repeat or not.

    It may still be carried out where it was sent first.
    """

    async def scene(cache: AsyncShardCache) -> None:
        server.loses = losing(b"lost")
        reads, writes = cache.pipeline(), cache.pipeline()
        for pipe in (reads, writes):
            pipe.get("k")
            pipe.get("l")
        writes.incr("n", initial=None)
        calls = [
            asyncio.create_task(call)
            for call in (cache.get("lost"), reads.execute(), writes.execute())
        ]
        calls += [
            asyncio.create_task(call) for call in (cache.incr("m", initial=None), cache.delete("d"))
        ]
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert found[:2] == [1, [1, 1]]
        assert [type(error) for error in found[2:]] == [errors.ShardTimeout] * 3
        asked = [tuple(command) for command in server.asked]
        counted = [
            sum(key in command for command in asked)
            for key in (b"k", b"l", b"n", b"m", b"d", b"lost")
        ]
        assert counted == [3, 3, 1, 1, 1, 2]

    play(scene, void_loads=False)


def test_writes_wait_for_their_own_deadline_and_nobody_is_blamed(play, server) -> None:
    """Many writes stand behind the lost request, others go over the new connection.

    The shard has answered those, and stays in service.
    """

    async def scene(cache: AsyncShardCache) -> None:
        server.loses = losing(b"lost")
        loop = asyncio.get_running_loop()
        begun = loop.time()
        behind = [asyncio.create_task(cache.set(f"{number}", 1)) for number in range(10)]
        assert (await cache.get("lost"), loop.time() - begun < 0.3) == (1, True)
        assert (
            await asyncio.gather(*(cache.set(f"{number}", 1) for number in range(10, 20)))
            == [True] * 10
        )
        assert (len(server.live), not any(call.done() for call in behind)) == (2, True)
        while not behind[0].done():
            assert await cache.get("k") == 1
            await asyncio.sleep(0.02)
        found = await asyncio.gather(*behind, return_exceptions=True)
        assert {type(error) for error in found} == {errors.ShardTimeout}
        assert loop.time() - begun == pytest.approx(1.0, abs=0.05)
        assert (shard(cache).state, shard(cache).timeouts, len(server.live)) == (
            "closed",
            10,
            1,
        )

    play(scene)


def test_late_replies_reach_who_waits(play, server) -> None:
    """The old connection comes back.

    Its writes are answered there, and it is closed when it owes nothing.
    """

    async def scene(cache: AsyncShardCache) -> None:
        [old] = server.peers
        old.stands_still = True
        write = asyncio.create_task(cache.set("x", 1))
        await asyncio.sleep(0.5)
        assert (await cache.get("k"), len(server.live)) == (1, 2)
        old.resume()
        assert await write is True
        await asyncio.sleep(0.01)
        assert (old.closed, shard(cache).failures, await cache.get("k")) == (True, 0, 1)

    play(scene)


def test_the_first_reply_is_taken(play, server) -> None:
    """A read that was sent again is answered by the old connection after all.

    The second reply is nobody's, and shifts none.
    """

    async def scene(cache: AsyncShardCache) -> None:
        server.answer = lambda command: None
        calls = [asyncio.create_task(cache.get(f"{number}")) for number in range(3)]
        await asyncio.sleep(0.3)
        old, new = server.peers
        old.say(b"$1\r\n7\r\n$1\r\n8\r\n")
        new.say(b"$1\r\n1\r\n$1\r\n2\r\n$1\r\n9\r\n")
        assert await asyncio.gather(*calls) == [7, 8, 9]
        assert (await asyncio.sleep(0.01), old.closed, new.closed) == (None, True, False)
        last = asyncio.create_task(cache.get("last"))
        await asyncio.sleep(0.01)
        new.say(b"$1\r\n4\r\n")
        assert await last == 4

    play(scene)


def test_an_error_on_the_old_connection_is_nobodys(play, server) -> None:
    """A read that was sent again waits for the new connection, whatever becomes of the old one."""

    async def scene(cache: AsyncShardCache) -> None:
        server.answer = lambda command: None
        calls = [asyncio.create_task(cache.get(f"{number}")) for number in range(3)]
        await asyncio.sleep(0.3)
        old, new = server.peers
        old.say(b"-LOADING later\r\n")
        await asyncio.sleep(0.01)
        old.drop(ConnectionResetError())
        await asyncio.sleep(0.01)
        assert not any(call.done() for call in calls)
        new.say(VALUE * 3)
        assert (await asyncio.gather(*calls), shard(cache).failures) == ([1, 1, 1], 0)

    play(scene)


def test_a_server_that_is_only_slow_keeps_its_connection(play, server) -> None:
    """It stops for all its clients, so it answers no handshake either.

    Nothing is sent twice, and it is not dialled at every pause.
    """

    async def scene(cache: AsyncShardCache) -> None:
        server.answer, server.takes = lambda command: None, 0.5
        for _ in range(3):
            call = asyncio.create_task(cache.get("k"))
            await asyncio.sleep(0.3)
            server.peers[0].say(VALUE)
            assert await call == 1
        await asyncio.sleep(1.0)
        assert (len(server.dials), len(server.live)) == (2, 1)
        assert [command[1] for command in server.asked] == [b"first", b"k", b"k", b"k"]

    play(scene)


@pytest.mark.parametrize("kind", ["get", "set", "both"])
def test_a_server_that_greets_and_says_nothing_else_is_taken_out(play, server, kind: str) -> None:
    """Handshakes are no answers.

    The calls end at their deadline, the shard is out from then on, and no more than four
    connections are open.
    """

    async def scene(cache: AsyncShardCache) -> None:
        server.loses = lambda command: True
        loop = asyncio.get_running_loop()
        begun = loop.time()
        calls = []
        while loop.time() < begun + 0.99:
            if kind != "set":
                calls.append(asyncio.create_task(cache.get("k")))
            if kind != "get":
                calls.append(asyncio.create_task(cache.set("k", 1)))
            await asyncio.sleep(0.01)
            assert len(server.live) <= 4
        await asyncio.sleep(0.02)
        with pytest.raises(errors.ShardOut):
            await cache.get("k")
        assert loop.time() - begun == pytest.approx(1.0, abs=0.05)
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(error) for error in found} == {errors.ShardTimeout}
        assert loop.time() - begun == pytest.approx(2.0, abs=0.05)

    play(scene)


def test_cancelled_calls_leave_nothing(play, server) -> None:
    """All who waited for a connection that stands still are gone.

    No second one is kept, nothing is sent again, nothing is left at the end.
    """

    async def scene(cache: AsyncShardCache) -> None:
        for _ in range(5):
            server.live[-1].stands_still = True
            calls = [
                asyncio.create_task(call)
                for call in (*(cache.get("k") for _ in range(20)), cache.set("k", 1))
            ]
            await asyncio.sleep(0.05)
            for call in calls:
                call.cancel()
            await asyncio.sleep(0.3)
            assert (len(server.live), shard(cache).retries) == (1, 0)
        assert await cache.get("k") == 1

    play(scene)


def test_a_successor_that_cannot_be_opened_is_nobodys_failure(play, server) -> None:
    """Who waits for room on a connection that stands still does not hear of it.

    That connection may come back.
    """

    async def scene(cache: AsyncShardCache) -> None:
        server.refuses = ConnectionRefusedError("nobody there")
        server.peers[0].stands_still = True
        calls = [asyncio.create_task(cache.get("k")) for _ in range(3)]
        await asyncio.sleep(0.5)
        server.peers[0].resume()
        assert await asyncio.gather(*calls) == [1] * 3
        assert (len(server.dials), shard(cache).failures) == (2, 0)

    play(scene, max_in_flight=1)


def test_two_lives_at_once_are_not_told_apart(play, server) -> None:
    """Behind a proxy the old connection may lead to another process than the new one.

    Then nobody is said to have answered.
    """

    async def scene(cache: AsyncShardCache) -> None:
        [own] = cache._runner.shards()
        server.peers[0].connection.run_id = b"old"
        assert own.run is not None
        server.peers[0].stands_still = True
        call = asyncio.create_task(cache._run(ask_in_order(1)))
        await asyncio.sleep(0.5)
        server.live[1].connection.run_id = b"new"
        assert (len(server.live), own.run) == (2, None)
        server.peers[0].resume()
        await call
        await asyncio.sleep(0.01)
        assert (len(server.live), own.run.id) == (1, b"new")

    play(scene)


@pytest.mark.parametrize("echo_check", [False, True])
def test_through_a_proxy(run, shards, echo_check: bool) -> None:
    """A proxy keeps back what one connection of a real server says.

    Twenty callers are served over another.
    """

    async def main() -> None:
        with FaultProxy(shards.servers[0].url) as proxy:
            options = Options(echo_check=echo_check)
            async with AsyncShardCache(
                [proxy.url], timeout=4.0, options=options, on_unavailable="raise"
            ) as cache:
                assert await cache.set_many({f"{number}": number for number in range(20)}) == []
                proxy.arm(Stall(0))
                found = await asyncio.gather(*(cache.get(f"{number}") for number in range(20)))
                assert found == list(range(20))
                assert await cache.set("0", 7) is True
                assert await cache.get("0") == 7
                [counted] = cache.stats().shards.values()
                assert (counted.state, counted.timeouts, counted.ejections) == ("closed", 0, 0)

    run(main())


@pytest.mark.parametrize(("lost", "least"), [(0.01, 0.95), (0.1, 0.75)])
@pytest.mark.parametrize("seed", range(4))
def test_most_calls_are_served(
    virtual, server, client, seed: int, lost: float, least: float
) -> None:
    """Eight callers ask steadily; one request in a hundred, or in ten, is lost with its connection.

    The shard stays in service.
    """

    async def main() -> None:
        rng = random.Random(seed)
        server.answer = answer
        server.loses = lambda command: rng.random() < lost
        async with client(timeout=0.3, on_unavailable="degrade") as cache:
            loop = asyncio.get_running_loop()
            found: list[object] = []

            async def work() -> None:
                await asyncio.sleep(rng.random() * 0.02)
                end = loop.time() + 6.0
                while loop.time() < end:
                    begun = loop.time()
                    found.append(await cache.get("k"))
                    await asyncio.sleep(max(0.02 - (loop.time() - begun), 0.0))

            await asyncio.gather(*(work() for _ in range(8)))
            assert found.count(1) > least * len(found)
            assert shard(cache).ejections == 0

    virtual(main())
