"""Exchanges and broadcasts of the asyncio driver, in virtual time: what is waited for."""

import asyncio
from typing import Any

import pytest

from shardcache.errors import ClientClosed, OutOfStep, ShardTimeout
from shardcache.flows.steps import Batch, Broadcast, Exchange, Flow


def asked(number: int, **how: Any) -> Batch:
    """Return a batch of one command that is told apart by its number."""
    return Batch(0, [(b"GET", b"%d" % number)], True, **how)


def exchange(*batches: Batch) -> Flow[list[Any]]:
    return (yield Exchange(list(batches)))


def broadcast(found: dict[int, Any], enough: int, *batches: Batch, **how: Any) -> Flow[None]:
    """Put the outcomes into ``found`` until there are ``enough``."""

    def on_reply(place: int, outcome: Any, _run: Any) -> bool:
        found[place] = outcome
        return len(found) == enough

    yield Broadcast(batches, on_reply, 1.0, **how)


def echo(command: list[bytes]) -> bytes:
    """Answer a GET with its key."""
    return b"+%b\r\n" % command[-1]


def test_exchange_waits_for_all(virtual, server, client) -> None:
    """An exchange is over when the last answer has come; each outcome has its place."""

    async def main() -> None:
        async with client() as cache:
            call = asyncio.create_task(cache._run(exchange(*map(asked, range(3)))))
            await asyncio.sleep(0.1)
            server.peers[0].say(b"+0\r\n+1\r\n")
            await asyncio.sleep(0.1)
            assert not call.done()
            server.peers[0].say(b"-ERR no\r\n")
            first, second, third = await call
            assert (first, second, str(third[0])) == ([b"0"], [b"1"], "shard 'a': ERR no")

    virtual(main())


def test_no_question_has_no_answer(virtual, server, client) -> None:
    """An exchange or a broadcast of nothing is over at once, and opens no connection."""

    async def main() -> None:
        async with client() as cache:
            assert await cache._run(exchange()) == []
            await cache._run(broadcast({}, 1))
            assert server.dials == []

    virtual(main())


def test_broadcast_waits_for_enough(virtual, server, client) -> None:
    """It returns when enough is known; what comes later is read, and told to nobody."""

    async def main() -> None:
        async with client() as cache:
            found: dict[int, Any] = {}
            call = asyncio.create_task(cache._run(broadcast(found, 2, *map(asked, range(3)))))
            await asyncio.sleep(0.1)
            server.peers[0].say(b"+0\r\n+1\r\n+2\r\n")
            await call
            server.answer = echo
            assert (found, await cache._run(exchange(asked(7)))) == (
                {0: [b"0"], 1: [b"1"]},
                [[b"7"]],
            )

    virtual(main())


def test_limit(virtual, server, client) -> None:
    """When the limit is over, each that has not answered is overdue, but no shard is out for it."""

    async def main() -> None:
        async with client() as cache:
            found: dict[int, Any] = {}
            loop = asyncio.get_running_loop()
            begun = loop.time()
            call = asyncio.create_task(
                cache._run(broadcast(found, 3, *map(asked, range(3)), limit=0.3))
            )
            await asyncio.sleep(0.1)
            server.peers[0].say(b"+0\r\n")
            await call
            assert loop.time() - begun == pytest.approx(0.3, abs=0.01)
            assert (found[0], *map(type, (found[1], found[2]))) == (
                [b"0"],
                ShardTimeout,
                ShardTimeout,
            )
            server.peers[0].say(b"+1\r\n+2\r\n")
            await asyncio.sleep(0.1)
            assert (type(found[1]), cache.stats().shards["a"].failures) == (ShardTimeout, 0)

    virtual(main())


@pytest.mark.parametrize("kind", ["exchange", "broadcast"])
def test_batch_says_what_fits(virtual, server, client, kind: str) -> None:
    """A reply that the batch does not take for one to it ends the connection: out of step."""

    async def main() -> None:
        server.answer = echo
        batch = asked(1, validate=lambda replies: replies == [b"2"])
        async with client(max_out=0) as cache:
            found: dict[int, Any] = {}
            if kind == "exchange":
                [found[0]] = await cache._run(exchange(batch))
            else:
                await cache._run(broadcast(found, 1, batch))
            assert isinstance(found[0], OutOfStep)
            assert server.live == []

    virtual(main())


def test_undoing_is_checked_too(virtual, server, client) -> None:
    """What is sent to a shard that is out, to undo something, has to be answered as it can be."""

    async def main() -> None:
        async with client(timeout=1.0, first_probe=5.0, max_probe=5.0) as cache:
            late = asyncio.create_task(cache.get("k"))
            await asyncio.sleep(0.1)
            [shard] = cache._runner.shards()
            for _ in range(3):
                shard.record_failure(ConnectionError(), dialled=False)
            found: dict[int, Any] = {}
            undo = asked(1, compensates=True, validate=lambda replies: replies == [b"2"])
            await cache._run(broadcast(found, 1, undo))
            await asyncio.sleep(0.1)
            server.peers[0].say(b"+late\r\n+1\r\n")
            await asyncio.wait([late])
            await asyncio.sleep(0.1)
            assert (server.asked[1:], server.live) == ([[b"GET", b"1"]], [])

    virtual(main())


@pytest.mark.parametrize("kind", ["exchange", "broadcast"])
def test_cancelled_before_it_is_sent(virtual, server, client, kind: str) -> None:
    """What waits for room goes with its caller, but not a broadcast: a later step undoes that."""

    async def main() -> None:
        server.answer = lambda command: None
        async with client(max_in_flight=1) as cache:
            first = asyncio.create_task(cache._run(exchange(asked(0))))
            flow = exchange(asked(1)) if kind == "exchange" else broadcast({}, 1, asked(1))
            waiting = asyncio.create_task(cache._run(flow))
            await asyncio.sleep(0.1)
            waiting.cancel()
            await asyncio.wait([waiting])
            server.answer = echo
            server.peers[0].say(b"+0\r\n")
            assert await first == [[b"0"]]
            assert await cache._run(exchange(asked(2))) == [[b"2"]]
            sent = [int(command[1]) for command in server.asked]
            assert sent == ([0, 2] if kind == "exchange" else [0, 1, 2])

    virtual(main())


@pytest.mark.parametrize("kind", ["exchange", "broadcast"])
@pytest.mark.parametrize("turns", range(8))
def test_cancelled_in_any_turn(virtual, server, client, kind: str, turns: int) -> None:
    """However far it has come, its replies go to nobody else."""

    async def main() -> None:
        server.answer = echo
        async with client() as cache:
            found: dict[int, Any] = {}
            batches = list(map(asked, range(3)))
            flow = exchange(*batches) if kind == "exchange" else broadcast(found, 3, *batches)
            call = asyncio.create_task(cache._run(flow))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
            heard = dict(found)
            others = [cache._run(exchange(asked(number))) for number in range(10, 20)]
            assert await asyncio.gather(*others) == [[[b"%d" % at]] for at in range(10, 20)]
            assert found == heard

    virtual(main())


def test_closed_and_cancelled_in_one_turn(virtual, server, client) -> None:
    """The client is closed, and the caller cancelled before it hears of that: no complaint."""

    async def main() -> None:
        cache = client()
        calls = [
            asyncio.create_task(cache._run(flow))
            for flow in (exchange(asked(1)), broadcast({}, 1, asked(2)))
        ]
        await asyncio.sleep(0.1)
        [shard] = cache._runner.shards()
        shard.close_soon()
        for call in calls:
            call.cancel()
        calls.append(asyncio.create_task(cache._run(exchange(asked(1)))))
        await asyncio.sleep(0)
        calls[2].cancel()  # it has heard of the close, but has not been told to go on
        await asyncio.wait(calls)
        assert [call.cancelled() for call in calls] == [True, True, True]
        await cache.aclose()
        with pytest.raises(ClientClosed):
            await cache._run(exchange(asked(1)))

    virtual(main())


def test_fault_of_a_flow(virtual, server, client) -> None:
    """An error in `on_reply` is raised in its flow; other callers of the connection go on."""

    async def main() -> None:
        server.answer = echo

        def on_reply(*_: Any) -> bool:
            raise LookupError("a fault")

        def faulty() -> Flow[None]:
            yield Broadcast([asked(1), asked(2)], on_reply, 1.0)

        async with client() as cache:
            found = await asyncio.gather(
                cache._run(faulty()), cache._run(exchange(asked(3))), return_exceptions=True
            )
            assert (type(found[0]), found[1]) == (LookupError, [[b"3"]])
            assert len(server.live) == 1

    virtual(main())
