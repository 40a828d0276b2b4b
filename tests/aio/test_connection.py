"""One connection, fed by hand: pieces, pushes, leftovers, slots that nobody waits for any more, and time."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from shardcache.errors import OutOfStep, ReplyTooLarge
from shardcache.resp import ErrorReply, Op
from shardcache.wire import pack
from shardcache.wire.aio.connection import AsyncConnection
from shardcache.wire.aio.pending_reply import ReplyBatch

GET = pack((b"GET", b"k"))
TIMEOUT = 1.0


class Wire(asyncio.Transport):
    """Takes down what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.aborted = 0

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        self.aborted += 1


class Bench:
    """A link on a fake transport, and what it reports."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.ended: list[BaseException] = []
        self.rooms: list[int] = []
        self.lost: list[Exception] = []
        self.wire = Wire()
        self.connection = AsyncConnection(
            "a", self.loop, TIMEOUT, lambda _, error: self.ended.append(error), self._room
        )
        self.connection.connection_made(self.wire)

    def _room(self, answers: int) -> None:
        self.rooms.append(answers)

    def send(self, owed: int = 1, seconds: float = TIMEOUT) -> "asyncio.Future[Any]":
        return self.connection.send(GET * owed, owed, self.loop.time() + seconds)

    def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.connection.data_received(piece)

    def ask(self, kinds: set[type] = {bytes, ErrorReply}) -> "asyncio.Future[Any]":  # noqa: B006  never changed
        """Send one command as a client's call does: what is lost, or an error reply, goes to ``lost``."""
        future = self.loop.create_future()
        op = Op(
            "get",
            idempotent=True,
            writes=False,
            degraded=None,
            read=lambda reply: reply,
            reply_types=frozenset(kinds),
        )
        self.connection.put(
            (
                future,
                self.loop.time() + TIMEOUT,
                GET,
                op,
                lambda slot, error: self.lost.append(error),
            )
        )
        return future

    def finish(self) -> None:
        """End the link, so that no timer is left."""
        self.connection.end(ConnectionError("the test is over"))


def outcome(future: "asyncio.Future[Any]") -> Any:
    """Return a future's result, or the type of its exception, or None while it is open."""
    if not future.done() or future.cancelled():
        return None
    return type(future.exception()) if future.exception() else future.result()


@pytest.fixture
def on_bench(virtual) -> Callable[[Callable[[Bench], Any]], None]:
    """Run a scene, a coroutine function, on a bench of its own."""

    def go(scene: Callable[[Bench], Any]) -> None:
        async def main() -> None:
            bench = Bench()
            try:
                await scene(bench)
            finally:
                bench.finish()

        virtual(main())

    return go


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
    """A caller that is owed three replies and gives up after the first leaves the other two to be drained."""

    async def scene(bench: Bench) -> None:
        first, second = bench.send(3), bench.send()
        bench.feed(b"+1\r\n+")
        first.cancel()
        bench.feed(b"2\r\n+3\r\n+mine\r\n")
        assert (outcome(second), bench.ended) == (b"mine", [])

    on_bench(scene)


def test_overdue_to_the_millisecond(on_bench) -> None:
    """A caller is let go at its deadline; its reply comes later and goes to nobody."""

    async def scene(bench: Bench) -> None:
        begun = bench.loop.time()
        first = bench.send()
        await asyncio.sleep(0.6)
        second = bench.send()
        with pytest.raises(TimeoutError):
            await first
        assert bench.loop.time() - begun == pytest.approx(TIMEOUT, abs=0.002)
        bench.feed(b"+late\r\n")
        bench.feed(b"+mine\r\n")
        assert (await second, bench.ended, bench.connection.alive) == (b"mine", [], True)

    on_bench(scene)


def test_each_at_its_own_deadline(on_bench) -> None:
    """Callers of one stalled link end one after the other, each within two milliseconds of its deadline."""

    async def scene(bench: Bench) -> None:
        due: list[float] = []
        ended: list[float] = []
        for _ in range(100):
            due.append(bench.loop.time() + TIMEOUT)
            bench.send().add_done_callback(
                lambda f: ended.append(bench.loop.time()) if f.exception() else None
            )
            await asyncio.sleep(0.005)
        await asyncio.sleep(TIMEOUT - 0.001)
        assert len(ended) == 100
        assert max(late - when for late, when in zip(ended, due, strict=True)) < 0.002
        assert min(late - when for late, when in zip(ended, due, strict=True)) > -1e-6

    on_bench(scene)


def test_less_time_left_than_the_one_before(on_bench) -> None:
    """A command that was sent after waiting for room has its own deadline, not that of the one before it."""

    async def scene(bench: Bench) -> None:
        begun = bench.loop.time()
        long, short = bench.send(seconds=TIMEOUT), bench.send(seconds=0.1)
        with pytest.raises(TimeoutError):
            await short
        assert (bench.loop.time() - begun, long.done()) == (pytest.approx(0.1, abs=0.002), False)
        long.cancel()

    on_bench(scene)


def test_hung_link_is_given_up(on_bench) -> None:
    """Overdue for a whole further deadline: the server hangs, and what was sent meanwhile ends with the link."""

    async def scene(bench: Bench) -> None:
        begun = bench.loop.time()
        first = bench.send()
        await asyncio.sleep(1.8 * TIMEOUT)
        second = bench.send()
        with pytest.raises(TimeoutError):
            await second
        assert bench.loop.time() - begun == pytest.approx(2 * TIMEOUT, abs=0.002)
        assert (outcome(first), [type(error) for error in bench.ended]) == (
            TimeoutError,
            [TimeoutError],
        )

    on_bench(scene)


def test_an_answered_link_lives_on(on_bench) -> None:
    """Timers follow the head of the queue: a link that answers in time has no reason to end, however long it is used."""

    async def scene(bench: Bench) -> None:
        for number in range(50):
            future = bench.send()
            await asyncio.sleep(0.9 * TIMEOUT)
            bench.feed(b"+%d\r\n" % number)
            assert await future == b"%d" % number
        await asyncio.sleep(5 * TIMEOUT)
        assert (bench.ended, bench.connection.alive) == ([], True)

    on_bench(scene)


def test_end_of_the_connection(on_bench) -> None:
    """The server hangs up: every slot ends, in order, once; whoever sends later hears why."""

    async def scene(bench: Bench) -> None:
        order: list[int] = []
        futures = [bench.send() for _ in range(3)]
        for at, future in enumerate(futures):
            future.add_done_callback(lambda f, at=at: order.append(at) if f.exception() else None)
        bench.connection.connection_lost(None)
        bench.connection.connection_lost(None)
        await asyncio.sleep(0)
        assert (order, len(bench.ended)) == ([0, 1, 2], 1)
        assert [outcome(future) for future in [*futures, bench.send()]] == [ConnectionError] * 4
        bench.feed(b"+late\r\n")

    on_bench(scene)


def test_wait_closed(on_bench) -> None:
    """Whoever waits for the socket to be gone is told when the transport has let go of it."""

    async def scene(bench: Bench) -> None:
        bench.finish()
        waiting = asyncio.ensure_future(bench.connection.wait_closed())
        await asyncio.sleep(0)
        assert (waiting.done(), bench.wire.aborted) == (False, 1)
        bench.connection.connection_lost(None)
        await waiting

    on_bench(scene)


def test_marked_link_takes_its_own_replies_only(on_bench) -> None:
    """With an ECHO behind each exchange, a reply that belongs to another one ends the link instead of being used."""

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


def test_error_reply_goes_to_who_can_name_it(on_bench) -> None:
    """An error reply is no answer; those who were answered are counted once per piece of the stream."""

    async def scene(bench: Bench) -> None:
        futures = [bench.ask() for _ in range(4)]
        futures[2].cancel()
        bench.feed(b"+1\r\n-LOADING wait\r\n+3\r\n", b"+4\r\n")
        assert [outcome(future) for future in futures] == [b"1", None, None, b"4"]
        assert ([str(error) for error in bench.lost], bench.rooms) == (["LOADING wait"], [1, 1])

    on_bench(scene)


def test_misfit_of_several_ends_the_link(on_bench) -> None:
    """Replies that do not fit their commands reach nobody, though there are as many as were asked for."""

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


def test_who_asks_again_at_once_is_written_in_the_same_turn(on_bench) -> None:
    """Callers that wake up by one piece of the stream and ask again share the next write, a turn sooner."""

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


@pytest.mark.parametrize("cut", [1, 4, 100])
@pytest.mark.parametrize(
    "hostile",
    [b"*2000000000\r\n", b"*2\r\n+a\r\n>2000000000\r\n", b"%1\r\n+a\r\n~2000000000\r\n"],
    ids=repr,
)
def test_announcement_beyond_all_answers(on_bench, hostile: bytes, cut: int) -> None:
    """What announces more than can be an answer ends the link, for whoever it came; those before have their reply."""

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


@pytest.mark.parametrize("marked", [False, True])
def test_what_is_handed_over_is_answered_by_either(on_bench, marked: bool) -> None:
    """Reads that somebody waits for are given away; the places of all stay, and each reply goes where it belongs."""

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
