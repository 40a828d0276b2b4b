"""One connection, fed by hand with what is no answer: it is ended."""

import asyncio

import pytest

from shardcache.errors import OutOfStep, ReplyTooLarge
from shardcache.wire.aio.pending_reply import ReplyBatch
from tests.aio.connection_bench import GET, TIMEOUT, Bench, outcome


@pytest.mark.parametrize(
    "extra", [b"+more\r\n", b"+mo", b"$5\r\nab", b"+", b"$", b"*1\r\n"], ids=repr
)
def test_leftovers_end_the_link(on_bench, extra: bytes) -> None:
    """More bytes than were asked for, whole replies or not: nobody shall inherit them."""

    async def scene(bench: Bench) -> None:
        future = bench.send()
        bench.feed(b"+1\r\n" + extra)
        assert (
            outcome(future),
            [type(error) for error in bench.ended],
            bench.connection.alive,
        ) == (
            b"1",
            [OutOfStep],
            False,
        )
        assert (bench.wire.aborted, outcome(bench.send())) == (1, OutOfStep)

    on_bench(scene)


@pytest.mark.parametrize("said", [b"+surprise\r\n", b"+", b">1\r\n+p\r\n$"], ids=repr)
def test_bytes_that_nobody_asked_for(on_bench, said: bytes) -> None:
    """An idle link that hears anything but a push is ended."""

    async def scene(bench: Bench) -> None:
        bench.feed(said)
        assert [type(error) for error in bench.ended] == [OutOfStep]

    on_bench(scene)


@pytest.mark.parametrize("garbage", [b"?\r\n", b"$x\r\n", b"*-5\r\n", b"\x00\xff\x00"], ids=repr)
def test_garbage_ends_everybody(on_bench, garbage: bytes) -> None:
    """What breaks the protocol ends every slot, each with an exception of its own."""

    async def scene(bench: Bench) -> None:
        futures = [bench.send(), bench.send(), bench.send(2)]
        bench.feed(b"+1\r\n", garbage)
        assert [outcome(future) for future in futures] == [b"1", OutOfStep, OutOfStep]
        assert futures[1].exception() is not futures[2].exception()

    on_bench(scene)


def test_marked_link_takes_its_own_replies_only(on_bench) -> None:
    """With an ECHO behind each exchange, a reply to another one ends the connection."""

    async def scene(bench: Bench) -> None:
        bench.connection.marked = True
        right, wrong = bench.send(), bench.send()
        await asyncio.sleep(0)
        [written] = bench.wire.written
        marks = [part for part in written.split(b"\r\n") if len(part) == 16]
        bench.feed(b"+1\r\n+" + marks[0] + b"\r\n")
        bench.feed(b"+1\r\n+" + marks[0] + b"\r\n")
        assert (outcome(right), outcome(wrong), bench.connection.alive) == (b"1", OutOfStep, False)

    on_bench(scene)


@pytest.mark.parametrize("marked", [False, True], ids=["plain", "marked"])
def test_reply_of_another_kind_ends_the_link(on_bench, marked: bool) -> None:
    """A reply that its command cannot have reaches nobody, and neither does any behind it."""

    async def scene(bench: Bench) -> None:
        bench.connection.marked = marked
        futures = [bench.ask() for _ in range(4)]
        await asyncio.sleep(0)
        marks = (
            [part for part in bench.wire.written[0].split(b"\r\n") if len(part) == 16]
            if marked
            else [b""] * 4
        )
        said = [b"+%s\r\n" % mark if mark else b"" for mark in marks]
        bench.feed(b"+mine\r\n" + said[0] + b":1\r\n" + said[1] + b"+yours\r\n" + said[2])
        assert [outcome(future) for future in futures] == [b"mine", None, None, None]
        assert ([type(error) for error in bench.lost], bench.connection.alive) == (
            [OutOfStep] * 3,
            False,
        )

    on_bench(scene)


def test_misfit_of_several_ends_the_link(on_bench) -> None:
    """Replies that do not fit their commands reach no caller, though their number is right."""

    async def scene(bench: Bench) -> None:
        futures = [bench.loop.create_future() for _ in range(2)]
        for future in futures:
            owed = ReplyBatch(2, lambda replies: replies == [b"1", b"2"])
            slot = (
                future,
                bench.loop.time() + TIMEOUT,
                GET * 2,
                owed,
                lambda slot, error: bench.lost.append(error),
            )
            bench.connection.put(slot)
        bench.feed(b"+1\r\n+2\r\n+2\r\n+1\r\n")
        assert [outcome(future) for future in futures] == [[b"1", b"2"], None]
        assert ([type(error) for error in bench.lost], bench.connection.alive) == (
            [OutOfStep],
            False,
        )

    on_bench(scene)


@pytest.mark.parametrize("cut", [1, 4, 100])
@pytest.mark.parametrize(
    "hostile",
    [b"*2000000000\r\n", b"*2\r\n+a\r\n>2000000000\r\n", b"%1\r\n+a\r\n~2000000000\r\n"],
    ids=repr,
)
def test_announcement_beyond_all_answers(on_bench, hostile: bytes, cut: int) -> None:
    """What announces more than can be an answer ends the connection, for whoever it came.

    Those before have their reply.
    """

    async def scene(bench: Bench) -> None:
        futures = [bench.send() for _ in range(3)]
        bench.feed(b"+1\r\n", *(hostile[at : at + cut] for at in range(0, len(hostile), cut)))
        assert ([outcome(future) for future in futures], bench.connection.alive) == (
            [b"1", ReplyTooLarge, ReplyTooLarge],
            False,
        )

    on_bench(scene)


def test_announcement_while_nobody_asks(on_bench) -> None:
    """A link at rest is no less careful."""

    async def scene(bench: Bench) -> None:
        bench.feed(b">2\r\n+a\r\n+b\r\n")
        assert bench.connection.alive
        bench.feed(b">2000000000\r\n")
        assert not bench.connection.alive

    on_bench(scene)


def test_stream_that_never_ends(on_bench) -> None:
    """Of a reply that goes on and on no more is taken than there can be in the answer."""

    async def scene(bench: Bench) -> None:
        first, second = bench.send(), bench.send()
        bench.feed(b"+1\r\n$200000000\r\n")
        fed = 0
        while bench.connection.alive:
            bench.feed(b"x" * 100_000)
            fed += 100_000
        assert (outcome(first), outcome(second), fed <= 400_000) == (b"1", ReplyTooLarge, True)

    on_bench(scene)


def test_long_replies_in_a_row_are_no_long_reply(on_bench) -> None:
    """The length is counted anew for each caller."""

    async def scene(bench: Bench) -> None:
        value = b"$200000\r\n" + b"v" * 200_000 + b"\r\n"
        futures = [bench.send() for _ in range(20)]
        for at in range(0, 20 * len(value), 70_000):
            bench.feed((value * 20)[at : at + 70_000])
        assert [outcome(future) == b"v" * 200_000 for future in futures] == [True] * 20

    on_bench(scene)
