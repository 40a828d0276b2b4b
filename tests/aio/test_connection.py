"""One connection, fed by hand: pieces, pushes, and callers that have given up."""

import asyncio
from typing import Any

import pytest

from shardcache.resp import ErrorReply
from shardcache.wire import pack
from shardcache.wire.aio.pending_reply import ReplyBatch
from tests.aio.connection_bench import GET, TIMEOUT, Bench, outcome

REPLIES = b"$3\r\none\r\n" + b"*2\r\n:1\r\n$-1\r\n" + b"-ERR no\r\n" + b"_\r\n"


@pytest.mark.parametrize("at", range(1, len(REPLIES)))
def test_replies_split_anywhere(on_bench, at: int) -> None:
    """Replies resolve in order, wherever the stream is cut into two pieces."""

    async def scene(bench: Bench) -> None:
        futures = [bench.send() for _ in range(4)]
        bench.feed(REPLIES[:at], REPLIES[at:])
        one, two, three, four = map(outcome, futures)
        assert (one, two, four) == (b"one", [1, None], None)
        assert (type(three), str(three)) == (ErrorReply, "ERR no")
        assert (
            futures[3].done(),
            bench.ended,
            len(bench.connection),
            bench.connection.bytes_owed,
        ) == (True, [], 0, 0)

    on_bench(scene)


def test_replies_byte_by_byte(on_bench) -> None:
    """A server that sends one byte at a time is slow, not wrong."""

    async def scene(bench: Bench) -> None:
        futures = [bench.send(), bench.send(3)]
        bench.feed(*[bytes([byte]) for byte in REPLIES])
        assert outcome(futures[0]) == b"one"
        [array, refused, nil] = outcome(futures[1])
        assert (array, str(refused), nil) == ([1, None], "ERR no", None)

    on_bench(scene)


def test_one_turn_is_one_write(on_bench) -> None:
    """What is sent in one turn of the loop goes out together, in order, at its end."""

    async def scene(bench: Bench) -> None:
        keys = (b"a", b"b", b"c")
        futures = [
            bench.connection.send(pack((b"GET", key)), 1, bench.loop.time() + 1) for key in keys
        ]
        assert bench.wire.written == []
        await asyncio.sleep(0)
        assert bench.wire.written == [b"".join(pack((b"GET", key)) for key in keys)]
        futures.append(bench.send())
        await asyncio.sleep(0)
        assert len(bench.wire.written) == 2
        bench.feed(b"+1\r\n+2\r\n+3\r\n+4\r\n")
        assert [outcome(future) for future in futures] == [b"1", b"2", b"3", b"4"]

    on_bench(scene)


def test_push_frames_are_nobodys(on_bench) -> None:
    """A push message of RESP3 before, between and behind replies answers no command."""
    push = b">2\r\n$7\r\nmessage\r\n$2\r\nhi\r\n"

    async def scene(bench: Bench) -> None:
        futures = [bench.send(), bench.send()]
        bench.feed(push + b"+1\r\n" + push + b"+2\r\n" + push, push)
        assert [*map(outcome, futures), bench.ended] == [b"1", b"2", []]

    on_bench(scene)


def test_cancelled_slots_are_drained(on_bench) -> None:
    """Every other caller gives up; each of the rest gets its own reply, and the link stays."""

    async def scene(bench: Bench) -> None:
        futures = [bench.send() for _ in range(20)]
        for future in futures[::2]:
            future.cancel()
        bench.feed(b"".join(b"+%d\r\n" % number for number in range(20)))
        assert [outcome(future) for future in futures[1::2]] == [
            b"%d" % number for number in range(1, 20, 2)
        ]
        assert (bench.ended, len(bench.connection), bench.connection.bytes_owed, bench.rooms) == (
            [],
            0,
            0,
            [0],
        )

    on_bench(scene)


def test_cancelled_in_the_middle_of_its_replies(on_bench) -> None:
    """A caller that gives up after the first of three replies leaves the others to be drained."""

    async def scene(bench: Bench) -> None:
        first, second = bench.send(3), bench.send()
        bench.feed(b"+1\r\n+")
        first.cancel()
        bench.feed(b"2\r\n+3\r\n+mine\r\n")
        assert (outcome(second), bench.ended) == (b"mine", [])

    on_bench(scene)


def test_error_reply_goes_to_who_can_name_it(on_bench) -> None:
    """An error reply is no answer.

    Those who were answered are counted once per piece of the stream.
    """

    async def scene(bench: Bench) -> None:
        futures = [bench.ask() for _ in range(4)]
        futures[2].cancel()
        bench.feed(b"+1\r\n-LOADING wait\r\n+3\r\n", b"+4\r\n")
        assert [outcome(future) for future in futures] == [b"1", None, None, b"4"]
        assert ([str(error) for error in bench.lost], bench.rooms) == (["LOADING wait"], [1, 1])

    on_bench(scene)


def test_who_asks_again_at_once_is_written_in_the_same_turn(on_bench) -> None:
    """Callers that wake up by one piece of the stream and ask again share the next write.

    It goes out in the same turn of the loop.
    """

    async def scene(bench: Bench) -> None:
        async def idempotent() -> None:
            await bench.ask()
            await bench.ask()

        tasks = [asyncio.create_task(idempotent()) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert bench.wire.written == [GET * 3]
        bench.feed(b"+1\r\n" * 3)
        await asyncio.sleep(0)
        assert bench.wire.written == [GET * 3] * 2
        bench.feed(b"+2\r\n" * 3)
        await asyncio.gather(*tasks)

    on_bench(scene)


@pytest.mark.parametrize("marked", [False, True])
def test_what_is_handed_over_is_answered_by_either(on_bench, marked: bool) -> None:
    """Reads that somebody waits for are given away.

    The places of all stay, and each reply goes where it belongs.
    """

    async def scene(bench: Bench) -> None:
        def put(*, reads: bool) -> "asyncio.Future[Any]":
            future = bench.loop.create_future()
            owed = ReplyBatch(2, reads=reads)
            told = lambda slot, error: bench.lost.append(error)  # noqa: E731
            bench.connection.put((future, bench.loop.time() + TIMEOUT, GET * 2, owed, told))
            return future

        bench.connection.marked = marked
        write, gone, other, read = (
            put(reads=False),
            put(reads=True),
            put(reads=True),
            put(reads=True),
        )
        await asyncio.sleep(0)
        gone.cancel()
        stranded: list[Exception] = []
        taken = bench.connection.hand_over(lambda lost, slot, error: stranded.append(error))
        assert [(slot[0], slot[2]) for slot in taken] == [(other, GET * 2), (read, GET * 2)]
        other.set_result("elsewhere")
        echoes = b"".join(bench.wire.written).split(b"$16\r\n")[1:]
        for at in range(4):
            bench.feed(b"$1\r\n%d\r\n" % at * 2 + (b"$16\r\n" + echoes[at][:18] if marked else b""))
        assert [outcome(future) for future in (write, gone, other, read)] == [
            [b"0"] * 2,
            None,
            "elsewhere",
            [b"3"] * 2,
        ]
        again, last = put(reads=False), put(reads=True)
        bench.connection.hand_over(lambda lost, slot, error: stranded.append(error))
        bench.connection.end(ConnectionResetError())
        assert (list(map(type, stranded)), bench.lost) == ([ConnectionResetError], [])
        assert [again.done(), last.done()] == [False, False]

    on_bench(scene)
