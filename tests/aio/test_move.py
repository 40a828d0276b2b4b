"""A shard that gets another address while it is used, on one loop, in virtual time."""

import asyncio
import threading
from functools import partial
from typing import Any

import pytest

from shardcache import AsyncShardCache, Event, errors
from shardcache.urls import Address
from tests.aio.losing_server import VALUE, answer, ask_in_order, shard

HERE = Address("127.0.0.1", 1)
THERE = Address("127.0.0.2", 1)


def live(cache: AsyncShardCache) -> Any:
    """Return the shard itself, on the running loop."""
    [found] = cache._driver.shards()
    return found


def asked(peer: Any) -> list[bytes]:
    return [command[0] for command in peer.asked]


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def test_idle_connection_is_closed(play, server) -> None:
    """The next call goes to the new address, and the hook hears of the move, once."""
    events: list[Event] = []

    async def scene(cache: AsyncShardCache) -> None:
        for _ in range(2):
            live(cache).move(THERE)
        await turns()
        assert server.live == []
        assert await cache.get("k") == 1
        assert [peer.address for peer in server.peers] == [HERE, THERE]
        assert [event.kind for event in events] == ["shard_moved"]
        assert (shard(cache).moves, shard(cache).failures) == (1, 0)

    play(scene, on_event=events.append)


def test_what_was_sent_is_waited_for(play, server) -> None:
    """Reads are sent again, to the new address; a write is answered where it was sent.

    Then the old connection is closed.
    """

    async def scene(cache: AsyncShardCache) -> None:
        [old] = server.peers
        old.stands_still = True
        read = asyncio.create_task(cache.get("k"))
        write = asyncio.create_task(cache.set("n", 1))
        await turns()
        live(cache).move(THERE)
        assert await read == 1
        new = server.peers[1]
        assert (asked(new), await cache.get("l"), old.closed) == ([b"GET"], 1, False)
        old.resume()
        assert await write is True
        await turns()
        assert (old.closed, server.live, asked(new)) == (True, [new], [b"GET", b"GET"])
        assert shard(cache).failures == 0

    play(scene)


def test_former_server_hangs(play, server) -> None:
    """What was sent to it ends by its deadline, and does not weigh on the new address."""

    async def scene(cache: AsyncShardCache) -> None:
        [old] = server.peers
        old.stands_still = True
        writes = [asyncio.create_task(cache.incr("n")) for _ in range(5)]
        await asyncio.sleep(0.05)
        live(cache).move(THERE)
        found = await asyncio.gather(*writes, return_exceptions=True)
        assert [type(error) for error in found] == [errors.ShardTimeout] * 5
        assert (shard(cache).state, shard(cache).timeouts) == ("closed", 5)
        assert live(cache).breaker.failures == 0
        assert await cache.get("k") == 1

    play(scene, failures=2)


def test_former_server_dies(play, server) -> None:
    """What may be sent twice is sent again, to the new address."""

    async def scene(cache: AsyncShardCache) -> None:
        [old] = server.peers
        old.stands_still = True
        tasks = [asyncio.create_task(call) for call in (cache.touch("k", ttl=5), cache.incr("n"))]
        await turns()
        live(cache).move(THERE)
        await turns()
        old.drop(ConnectionResetError())
        touched, counted = await asyncio.gather(*tasks, return_exceptions=True)
        assert (touched, type(counted)) == (True, errors.ShardUnavailable)
        assert (shard(cache).state, live(cache).breaker.failures) == ("closed", 0)
        assert [peer.address for peer in server.live] == [THERE]

    play(scene, failures=2)


def test_connection_that_is_being_opened(virtual, server, client) -> None:
    """Who waits for one to the former address has one to the new address instead."""

    async def main() -> None:
        server.answer = answer
        async with client() as cache:
            server.hangs = True
            waiting = asyncio.create_task(cache.get("k"))
            await asyncio.sleep(0.1)
            server.hangs = False
            live(cache).move(THERE)
            begun = asyncio.get_running_loop().time()
            assert await waiting == 1
            assert asyncio.get_running_loop().time() - begun < 0.1
            assert [peer.address for peer in server.peers] == [THERE]

    virtual(main())


@pytest.mark.parametrize("probed", [False, True])
def test_shard_that_is_out(virtual, server, client, probed) -> None:
    """It is on trial at once: the first call goes to the new address, and no probe is waited for.

    Whether a probe of the former address is under way or not.
    """

    async def main() -> None:
        server.hangs, server.answer = True, answer
        async with client(first_probe=0.1, max_probe=100.0) as cache:
            with pytest.raises(errors.ShardTimeout):
                await cache.get("k")
            with pytest.raises(errors.ShardOut):
                await cache.get("k")
            if probed:
                await asyncio.sleep(0.5)
            assert shard(cache).probes == int(probed)
            server.hangs = False
            live(cache).move(THERE)
            assert await cache.get("k") == 1
            assert [peer.address for peer in server.peers] == [THERE]
            await asyncio.sleep(300)
            assert (shard(cache).probes, len(server.peers)) == (int(probed), 1)

    virtual(main())


def test_probe_that_ends_when_it_moves(virtual, server, client) -> None:
    """A connection that a probe has just made to the former address is not used."""

    async def main() -> None:
        server.hangs, server.answer = True, answer
        async with client(first_probe=0.1, max_probe=0.1) as cache:
            with pytest.raises(errors.ShardTimeout):
                await cache.get("k")
            server.hangs = False
            probed = asyncio.Event()
            server.on_command = lambda peer, command: probed.set()
            await probed.wait()
            live(cache).move(THERE)
            assert await cache.get("k") == 1
            assert [peer.address for peer in server.live] == [THERE]

    virtual(main())


def test_life_of_the_server_is_unknown_meanwhile(play, server) -> None:
    """While both addresses may answer, no vote is taken as one of a known life of its server."""

    async def scene(cache: AsyncShardCache) -> None:
        [old] = server.peers
        old.connection.run_id = b"former"
        old.stands_still = True
        vote = asyncio.create_task(cache._run(ask_in_order(1)))
        await turns()
        live(cache).move(THERE)
        assert await cache.get("k") == 1
        new = server.peers[1]
        new.connection.run_id = b"new"
        assert live(cache).run is None
        later = asyncio.create_task(cache._run(ask_in_order(2)))
        await later
        assert (asked(old), asked(new)) == ([b"GET", b"EVAL"], [b"GET", b"EVAL"])
        old.resume()
        await vote
        await turns()
        assert (old.closed, live(cache).run.id) == (True, b"new")

    play(scene)


@pytest.mark.parametrize("kept", [False, True])
def test_listening_connection(play, server, kept: bool) -> None:
    """One that lies idle is closed; one that listens is closed when it comes back."""

    async def scene(cache: AsyncShardCache) -> None:
        command = (b"BLPOP", b"l", b"1")
        server.answer = lambda command: b"*-1\r\n" if command[0] == b"BLPOP" else VALUE
        server.loses = lambda command: command[0] == b"BLPOP" and not kept
        listening = asyncio.create_task(live(cache).listen(command, 0.5))
        await turns()
        if kept:
            await listening
        listener = server.peers[1]
        live(cache).move(THERE)
        await turns()
        assert listener.closed is kept
        if not kept:
            listener.resume()
            assert await listening is None
            await turns()
            assert listener.closed
        server.loses = lambda command: False
        assert await live(cache).listen(command, 0.5) is None
        assert [peer.address for peer in server.live] == [THERE]

    play(scene)


@pytest.mark.parametrize("out", [False, True])
def test_close_behind_a_move(virtual, server, client, out: bool) -> None:
    """What the move has broken off has ended when `close` returns."""

    async def main() -> None:
        server.hangs = True
        cache = client(first_probe=0.1)
        waiting = asyncio.create_task(cache.get("k"))
        await asyncio.sleep(1.5 if out else 0.1)
        found = live(cache)
        found.move(THERE)
        await cache.close()
        found.move(HERE)
        assert asyncio.all_tasks() - {asyncio.current_task(), waiting} == set()
        with pytest.raises((errors.ClientClosed, errors.ShardTimeout)):
            await waiting

    virtual(main())


@pytest.mark.parametrize("forked", [False, True])
def test_name_that_moved(play, server, forked: bool) -> None:
    """It is heard in the thread of a look-up; a forked child does not touch the parent's loop."""

    async def scene(cache: AsyncShardCache) -> None:
        found = live(cache)
        if forked:
            found._process = -1
        for told in (found.on_name_moved, partial(found.on_lookup, OSError("no"))):
            thread = threading.Thread(target=told)
            thread.start()
            thread.join()
        await turns()
        assert (len(server.live), shard(cache).moves) == ((1, 0) if forked else (0, 1))
        assert shard(cache).failed_lookups == int(not forked)
        assert await cache.get("k") == 1

    play(scene)


def test_name_that_moved_after_the_end(play, server) -> None:
    """What a look-up says of a closed client or an ended loop is nobody's."""
    kept: list[Any] = []

    async def scene(cache: AsyncShardCache) -> None:
        kept.append(live(cache))
        await cache.close()
        kept[0].on_name_moved()
        await turns()

    play(scene)
    kept[0].on_name_moved()
    assert (kept[0].stats().moves, len(server.peers)) == (0, 1)
