"""A shard that comes back lets a few calls out on trial; each gives back its place exactly once.

In virtual time. Other calls are on trial as well, so a place that is given back twice shows too.
"""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest

from shardcache import AsyncShardCache
from shardcache.drivers.aio.shard_call import ShardCall
from shardcache.errors import ClientClosed, ReplyTooLarge, ShardOut
from shardcache.flows.steps import Batch, Broadcast, Exchange, Flow, Listen
from shardcache.policy.breaker import State

OTHERS = 3  # calls that are on trial all the while
NO_VALUES = {b"MGET": b"*2\r\n$-1\r\n$-1\r\n", b"BLPOP": b"*-1\r\n", b"EVAL": b":1\r\n"}


def answer(command: list[bytes]) -> bytes:
    """Answer as an empty server does."""
    return NO_VALUES.get(command[0], b":0\r\n" if command[0] == b"UNLINK" else b"$-1\r\n")


def exchange() -> Flow[Any]:
    return (yield Exchange([Batch(0, [(b"GET", b"k")], True, reads=True)]))


def broadcast() -> Flow[list[Any]]:
    found: list[Any] = []

    def on_reply(_place: int, outcome: Any, _run: Any) -> bool:
        found.append(outcome)
        return True

    batch = Batch(0, [(b"EVAL", b"s")], False, lambda _: True)
    yield Broadcast([batch], on_reply, 1.0)
    return found


def listen() -> Flow[Any]:
    return (yield Listen(0, (b"BLPOP", b"k", b"1"), 1.0))


CALLS: dict[str, Callable[[AsyncShardCache], Awaitable[Any]]] = {
    "one command": lambda cache: cache.get("k"),
    "two commands": lambda cache: cache.delete("k"),
    "exchange": lambda cache: cache.get_many(["k", "l"]),
    "exchange of one command": lambda cache: cache._run(exchange()),
    "broadcast": lambda cache: cache._run(broadcast()),
    "listen": lambda cache: cache._run(listen()),
}
KINDS = list(CALLS.values())
every_call = pytest.mark.parametrize("kind", CALLS)


def on_trial(cache: AsyncShardCache) -> Any:
    """Put the shard on trial, with places left; return it."""
    [shard] = cache._runner.shards()
    shard.breaker.state, shard.breaker.allowance = State.HALF_OPEN, 8
    shard.breaker.new_period()
    shard.breaker.trials = OTHERS
    shard._tried_at = shard.clock()
    return shard


@every_call
@pytest.mark.parametrize("reply", [None, b"-ERR no\r\n"], ids=["reply", "error reply"])
def test_answered(virtual, server, client, kind: str, reply: bytes | None) -> None:
    """A reply gives the place back, and lets more calls out, also if it is an error."""

    async def main() -> None:
        server.answer = answer
        async with client(on_unavailable="degrade") as cache:
            await cache.get("first")
            shard = on_trial(cache)
            if reply is not None:
                server.answer = lambda _: reply
            await asyncio.gather(CALLS[kind](cache), return_exceptions=True)
            assert (shard.breaker.state, shard.breaker.trials) == (State.HALF_OPEN, OTHERS)
            assert shard.breaker.allowance == 16

    virtual(main())


@every_call
@pytest.mark.parametrize("turns", range(12))
def test_cancelled_in_any_turn(virtual, server, client, kind: str, turns: int) -> None:
    """However far a call has come when it is cancelled, its place is given back once."""

    async def main() -> None:
        server.answer = answer
        async with client(on_unavailable="degrade") as cache:
            await cache.get("first")
            shard = on_trial(cache)
            call = asyncio.ensure_future(CALLS[kind](cache))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
            await asyncio.sleep(0.01)
            assert (shard.breaker.state, shard.breaker.trials) == (State.HALF_OPEN, OTHERS)

    virtual(main())


@every_call
def test_reply_is_there_when_cancelled(virtual, server, client, kind: str) -> None:
    """The reply has come, but the task has not run since then, and is cancelled."""

    async def main() -> None:
        server.answer = answer
        async with client(on_unavailable="degrade") as cache:
            await cache.get("first")
            await cache._run(listen())  # so that this has its connection too
            shard = on_trial(cache)
            server.answer = lambda _: None
            call = asyncio.ensure_future(CALLS[kind](cache))
            await asyncio.sleep(0.01)
            [peer] = [peer for peer in server.live if peer.connection.queue]
            asked = peer.asked[-len(peer.connection.queue[0][2].split(b"*")[1:]) :]
            peer.connection.data_received(b"".join(map(answer, asked)))
            call.cancel()
            await asyncio.wait([call])
            assert call.cancelled()
            assert (shard.breaker.state, shard.breaker.trials) == (State.HALF_OPEN, OTHERS)

    virtual(main())


@every_call
@pytest.mark.parametrize("end", ["reply", "error reply", "cancelled", "too long"])
def test_let_out_in_service(virtual, server, client, kind: str, end: str) -> None:
    """A call from before has no place to give back: those of the others stay taken."""

    async def main() -> None:
        server.answer = answer
        async with client(on_unavailable="degrade") as cache:
            await cache.get("first")
            server.answer = lambda _: None
            call = asyncio.ensure_future(CALLS[kind](cache))
            await asyncio.sleep(0.01)
            shard = on_trial(cache)
            [peer] = [peer for peer in server.live if peer.connection.queue]
            asked = peer.asked[-len(peer.connection.queue[0][2].split(b"*")[1:]) :]
            if end == "cancelled":
                call.cancel()
            elif end == "too long":
                peer.say(b"*2000000000\r\n")
            else:
                peer.say(b"".join(b"-ERR no\r\n" if end != "reply" else answer(a) for a in asked))
            await asyncio.gather(call, return_exceptions=True)
            await asyncio.sleep(0.01)
            assert (shard.breaker.state, shard.breaker.trials) == (State.HALF_OPEN, OTHERS)

    virtual(main())


@every_call
def test_client_is_closed(virtual, server, client, kind: str) -> None:
    """A client that is closed meanwhile says nothing about its shard."""

    async def main() -> None:
        server.answer = answer
        cache = client()
        await cache.get("first")
        shard = on_trial(cache)
        server.answer = lambda _: None
        call = asyncio.ensure_future(CALLS[kind](cache))
        await asyncio.sleep(0.1)
        await cache.aclose()
        found = await asyncio.gather(call, return_exceptions=True)
        assert isinstance(found[0], ClientClosed)
        assert (shard.breaker.state, shard.breaker.trials) == (State.HALF_OPEN, OTHERS)

    virtual(main())


@every_call
def test_fault_of_the_credentials(virtual, server, client, kind: str) -> None:
    """No connection can be opened for a reason that is not the shard's: the caller gets it."""

    async def main() -> None:
        server.refuses = LookupError("no password today")
        async with client() as cache:
            shard = on_trial(cache)
            [found] = await asyncio.gather(CALLS[kind](cache), return_exceptions=True)
            assert isinstance(found, LookupError)
            assert (shard.breaker.state, shard.breaker.trials) == (State.HALF_OPEN, OTHERS)

    virtual(main())


@pytest.mark.parametrize("kind", [kind for kind in CALLS if kind not in ("broadcast", "listen")])
def test_sent_again(virtual, server, client, kind: str) -> None:
    """A call whose kept connection was dead keeps its place until the next one has answered."""

    async def main() -> None:
        server.answer = answer
        async with client() as cache:
            await cache.get("first")
            shard = on_trial(cache)
            server.answer = lambda _: None
            call = asyncio.ensure_future(CALLS[kind](cache))
            await asyncio.sleep(0.1)
            server.answer = answer
            server.peers[0].drop()
            assert shard.breaker.trials == OTHERS + 1
            await call
            assert (shard.breaker.state, shard.breaker.trials) == (State.HALF_OPEN, OTHERS)
            assert shard.tally.retries == 1

    virtual(main())


@every_call
@pytest.mark.parametrize("fault", ["hangs", "drops", "refuses"])
def test_failure_takes_the_shard_out(virtual, server, client, kind: str, fault: str) -> None:
    """A call on trial that fails ends the trial of all; the prober begins the next one."""

    async def main() -> None:
        server.answer = answer
        async with client(first_probe=0.1, max_probe=0.1) as cache:
            await cache.get("first")
            shard = on_trial(cache)
            server.answer = lambda _: None
            if fault == "refuses":
                server.peers[0].drop()
                server.refuses = ConnectionRefusedError("nobody there")
            call = asyncio.ensure_future(CALLS[kind](cache))
            await asyncio.sleep(0.2)
            if fault == "drops":
                for peer in server.live:
                    peer.drop()
                await asyncio.sleep(0.01)
                for peer in server.live:  # of those that are sent again
                    peer.drop()
            await asyncio.gather(call, return_exceptions=True)
            if kind == "listen" and fault == "hangs":  # silence is what a listener is used to
                assert (shard.breaker.state, shard.breaker.trials) == (State.HALF_OPEN, OTHERS)
                return
            assert shard.breaker.state is not State.CLOSED
            assert shard.tally.ejections == 1
            server.refuses, server.answer = None, answer
            await asyncio.sleep(0.5)
            assert (shard.breaker.state, shard.breaker.trials) == (State.HALF_OPEN, 0)

    virtual(main())


@every_call
def test_too_long(virtual, server, client, kind: str) -> None:
    """A reply that is too long says nothing about how the shard is."""

    async def main() -> None:
        server.answer = answer
        async with client() as cache:
            await cache.get("first")
            shard = on_trial(cache)
            server.answer = lambda _: b"*2000000000\r\n"
            [found] = await asyncio.gather(CALLS[kind](cache), return_exceptions=True)
            assert isinstance(found[0] if isinstance(found, list) else found, ReplyTooLarge)
            assert (shard.breaker.state, shard.breaker.trials) == (State.HALF_OPEN, OTHERS)

    virtual(main())


@every_call
def test_no_place_is_left(virtual, server, client, kind: str) -> None:
    """Where all places are taken nothing is sent, and none is given back."""

    async def main() -> None:
        server.answer = answer
        async with client() as cache:
            await cache.get("first")
            shard = on_trial(cache)
            shard.breaker.allowance = OTHERS
            [found] = await asyncio.gather(CALLS[kind](cache), return_exceptions=True)
            assert isinstance(found[0] if isinstance(found, list) else found, ShardOut)
            assert (shard.breaker.trials, len(server.asked)) == (OTHERS, 1)

    virtual(main())


def test_no_room_behind_what_must_come_first(virtual, server, client) -> None:
    """A broadcast that may not overtake another one finds no room behind that: refused."""

    async def main() -> None:
        server.answer = answer
        async with client(max_in_flight=1) as cache:
            await cache.get("first")
            [old] = server.peers
            old.stands_still = True
            first = asyncio.ensure_future(cache._run(broadcast()))
            await asyncio.sleep(0.5)
            assert len(server.live) == 2  # the connection was replaced
            shard = on_trial(cache)
            [found] = await cache._run(broadcast())
            assert isinstance(found, ShardOut)
            assert (shard.breaker.state, shard.breaker.trials) == (State.HALF_OPEN, OTHERS)
            old.resume()
            await first

    virtual(main())


def test_given_back_once(virtual, server, client) -> None:
    """A call that gives its place back early has none left at its end."""

    async def main() -> None:
        async with client() as cache:
            shard = on_trial(cache)
            with ShardCall(shard) as call:
                assert shard.breaker.trials == OTHERS + 1
                call.give_back()
                call.give_back()
            assert shard.breaker.trials == OTHERS

    virtual(main())


@pytest.mark.parametrize("seed", range(16))
def test_whatever_goes_wrong(virtual, server, client, seed: int) -> None:
    """Requests are lost, connections drop, none can be opened, tasks are cancelled: for a while.

    When the server is well again, the shard comes back, and no place on trial is left taken.
    """

    async def main() -> None:
        random = Random(seed)
        server.answer = answer
        async with client(
            timeout=0.5, first_probe=0.1, max_probe=0.2, max_in_flight=random.choice([2, 4096])
        ) as cache:
            await cache.get("first")
            [shard] = cache._runner.shards()
            states: set[State] = set()
            calls: list[asyncio.Future[Any]] = []
            server.loses = lambda _: random.random() < 0.02
            for _ in range(300):
                match random.randrange(12):
                    case 0 if calls:
                        random.choice(calls).cancel()
                    case 1 if server.live:
                        random.choice(server.live).drop(random.choice([None, OSError("gone")]))
                    case 2:
                        server.refuses = random.choice([None, None, OSError("nobody there")])
                    case 3:
                        server.hangs = random.random() < 0.1
                    case 4 if server.live and random.random() < 0.1:
                        random.choice(server.live).say(b"*2000000000\r\n")
                    case _:
                        calls.append(asyncio.ensure_future(random.choice(KINDS)(cache)))
                states.add(shard.breaker.state)
                await asyncio.sleep(random.choice([0, 0, 0, 0.01, 0.05, 0.2]))
            server.refuses, server.hangs, server.loses = None, False, lambda _: False
            await asyncio.gather(*calls, return_exceptions=True)
            await asyncio.sleep(5)
            assert (states, shard.breaker.trials) == (set(State), 0)
            for _ in range(10):
                await asyncio.gather(cache.get("k"), return_exceptions=True)
                await asyncio.sleep(0.5)
            assert (shard.breaker.state, shard.breaker.trials) == (State.CLOSED, 0)

    virtual(main())
