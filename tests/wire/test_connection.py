"""One connection against a peer on a socketpair: replies in pieces, in excess, or none."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from shardcache.errors import OutOfStep, ReplyTooLarge
from shardcache.flows.own_pause import longer
from shardcache.resp import ErrorReply
from shardcache.wire import Connection, pack
from shardcache.wire.sync.connection import Closed

GET = pack((b"GET", b"k"))
REPLIES = {
    "bulk": (b"$5\r\nv\r\n\x00x\r\n", b"v\r\n\x00x"),
    "empty": (b"$0\r\n\r\n", b""),
    "nil": (b"$-1\r\n", None),
    "nil-3": (b"_\r\n", None),
    "int": (b":-12\r\n", -12),
    "status": (b"+OK\r\n", b"OK"),
    "list": (b"*3\r\n$1\r\na\r\n$-1\r\n:7\r\n", [b"a", None, 7]),
    "nested": (b"*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n", [b"0", [b"a", b"b"]]),
    "map": (b"%1\r\n$1\r\na\r\n:1\r\n", {b"a": 1}),
    "push first": (b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n$1\r\nv\r\n", b"v"),
}
FAR = 20.0  # seconds that no test waits for


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    """A connection and its peer."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Connection("a", ours, time.monotonic), theirs


def far() -> float:
    return time.monotonic() + FAR


@pytest.mark.parametrize(("wire", "reply"), REPLIES.values(), ids=REPLIES)
def test_reply_in_pieces(pair, wire, reply) -> None:
    """A reply cut at any byte is put together, and the connection is in step for the next one."""
    connection, peer = pair
    for at in range(len(wire) + 1):
        peer.sendall(wire[:at])
        timer = threading.Timer(0 if at == len(wire) else 0.002, peer.sendall, (wire[at:],))
        timer.start()
        assert connection.call(GET, far()) == reply
        timer.join()
        assert peer.recv(1000) == GET


def test_reply_byte_by_byte(pair) -> None:
    """A reply may come in as many pieces as it has bytes."""
    connection, peer = pair
    wire, reply = REPLIES["nested"]

    def drip() -> None:
        for at in range(len(wire)):
            peer.sendall(wire[at : at + 1])

    thread = threading.Thread(target=drip)
    thread.start()
    assert connection.call(GET, far()) == reply
    thread.join()


def test_error_reply_is_data(pair) -> None:
    """An error reply is returned, and leaves the connection in step."""
    connection, peer = pair
    peer.sendall(b"-WRONGTYPE no\r\n")
    found = connection.call(GET, far())
    assert (type(found), str(found)) == (ErrorReply, "WRONGTYPE no")


@pytest.mark.parametrize("more", [b"$1\r\nw\r\n", b"$", b"\r\n", b"+", b":1\r\n:2\r\n"], ids=repr)
def test_leftovers(pair, more) -> None:
    """More than was asked for, even one byte, says that the connection cannot be trusted."""
    connection, peer = pair
    peer.sendall(b"$1\r\nv\r\n" + more)
    with pytest.raises(OutOfStep, match=r"'a'.*more"):
        connection.call(GET, far())


@pytest.mark.parametrize(
    "nonsense",
    [b"hello\r\n", b"$x\r\n", b"*-5\r\n", b"\x00\x00", b"$3\r\nabcde\r\n", b":\r\n"],
    ids=repr,
)
def test_nonsense(pair, nonsense) -> None:
    """What is no RESP is OutOfStep, with the cause."""
    connection, peer = pair
    peer.sendall(nonsense)
    with pytest.raises(OutOfStep):
        connection.call(GET, far())


def test_push_behind_a_reply(pair) -> None:
    """A push frame may come right behind a reply too: it answers nothing, and breaks nothing."""
    connection, peer = pair
    peer.sendall(b"$1\r\nv\r\n>2\r\n$1\r\na\r\n$1\r\nb\r\n")
    assert connection.call(GET, far()) == b"v"


@pytest.mark.parametrize("sent", [b"", b"$5\r\nab", b"*2\r\n$1\r\na\r\n"], ids=repr)
def test_end_of_stream(pair, sent) -> None:
    """A connection that ends before the reply does raises Closed, whatever came."""
    connection, peer = pair
    peer.sendall(sent)
    peer.close()
    with pytest.raises(OSError, match=r"closed|Broken pipe|reset"):
        connection.call(GET, far())


def test_end_of_stream_is_closed(pair) -> None:
    """The peer's orderly end is told apart from a break."""
    connection, peer = pair
    peer.shutdown(socket.SHUT_WR)
    with pytest.raises(Closed):
        connection.call(GET, far())


@pytest.mark.parametrize("pieces", [1, 3, 10])
def test_deadline_is_of_the_whole(pieces) -> None:
    """However many pieces a reply comes in, the call ends at its deadline, no read later."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ticks = iter(range(1000))

        def clock() -> float:
            now = next(ticks)
            theirs.send(b"x" if now else b"$100\r\nx")
            return float(now)

        connection = Connection("a", ours, clock)
        with pytest.raises(TimeoutError):
            connection.call(GET, float(pieces))
        # One reading of the clock for each piece, and two for the last look.
        assert next(ticks) == pieces + 3


def late(seconds: float) -> Callable[[], float]:
    """A clock of a process that finds itself so late, and goes on from there."""
    begin = time.monotonic()
    return lambda: time.monotonic() - begin + seconds


@pytest.mark.parametrize("seconds", [0.01, 5.0], ids=["just now", "long ago"])
@pytest.mark.parametrize("many", [False, True])
def test_reply_that_lies_there_when_the_time_is_over(seconds, many) -> None:
    """Past its deadline a call reads once more: a reply that came during a pause is taken."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection("a", ours, late(seconds))
        theirs.sendall(b"$1\r\nv\r\n")
        assert (connection.call_many(GET, 1, 0.0) if many else [connection.call(GET, 0.0)]) == [
            b"v"
        ]


@pytest.mark.parametrize("many", [False, True])
def test_reply_just_after_a_pause(many, monkeypatch) -> None:
    """A process that was paused gives a request that it sent around then a moment more."""
    monkeypatch.setattr(
        "shardcache.wire.sync.connection.longer", lambda now, deadline: 1000 * longer(now, deadline)
    )
    ours, theirs = socket.socketpair()
    with ours, theirs:
        looks = iter(range(1000))

        def clock() -> float:
            if next(looks) == 1:
                threading.Timer(0.002, theirs.sendall, (b"$1\r\nv\r\n",)).start()
            return 5.0

        connection = Connection("a", ours, clock)
        assert (connection.call_many(GET, 1, 0.0) if many else [connection.call(GET, 0.0)]) == [
            b"v"
        ]


def test_last_look_is_the_last(pair) -> None:
    """A server that sends byte by byte does not hold up a call for longer than that read."""
    connection, peer = pair
    for ago in (0.001, 5.0):
        peer.sendall(b"$100\r\nx")
        with pytest.raises(TimeoutError):
            connection.call(GET, time.monotonic() - ago)
        connection = Connection("a", connection.sock, time.monotonic)


def test_peer_that_takes_nothing(pair) -> None:
    """A request that the peer does not take ends at the deadline."""
    connection, _ = pair
    with pytest.raises(TimeoutError, match="sent"):
        connection.call(b"x" * 20_000_000, time.monotonic() + 0.02)


def test_big_request_and_reply(pair) -> None:
    """A request and a reply beyond every buffer pass, also if the peer answers while it reads."""
    connection, peer = pair
    size = 8_000_000
    request = b"x" * size
    heard = []

    def echo() -> None:
        peer.sendall(b"$%d\r\n" % size)
        left = size
        while left:
            data = peer.recv(65536)
            left -= len(data)
            heard.append(len(data))
            peer.sendall(data)
        peer.sendall(b"\r\n")

    thread = threading.Thread(target=echo, daemon=True)
    thread.start()
    assert connection.call(request, far(), values=1) == request
    thread.join()
    assert sum(heard) == size


def test_answer_before_the_request_is_read(pair) -> None:
    """A server that refuses a request before it has read it all is understood, not waited for."""
    connection, peer = pair
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10_000)
    peer.sendall(b"-ERR too big\r\n")

    def swallow() -> None:
        left = 1_000_000
        while left:
            left -= len(peer.recv(left))

    thread = threading.Thread(target=swallow)
    thread.start()
    try:
        assert str(connection.call(b"x" * 1_000_000, time.monotonic() + 3)) == "ERR too big"
    finally:
        thread.join()


def test_stale(pair) -> None:
    """An idle connection is not stale; one with unasked bytes is, and one that ended is."""
    connection, peer = pair
    fresh = connection.stale()
    peer.sendall(b"+OK\r\n")
    assert (fresh, connection.stale()) == (False, True)


def test_stale_after_the_end(pair) -> None:
    """A connection that the server ended is stale."""
    connection, peer = pair
    peer.close()
    assert connection.stale() is True


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_link_is_not_reusable_by_itself_after_an_interrupt(error) -> None:
    """An interrupt is raised as it is: the caller must close the connection."""
    ours, theirs = socket.socketpair()

    def clock() -> float:
        raise error

    with ours, theirs, pytest.raises(error):
        Connection("a", ours, clock).call(GET, 1.0)


@pytest.mark.parametrize(
    "hostile",
    [b"*2000000000\r\n", b"$1\r\nv\r\n>2000000000\r\n", b"$600000000\r\n" + b"x" * 5000],
    ids=lambda text: repr(text[:30]),
)
def test_announcement_beyond_all_answers(pair, hostile) -> None:
    """What announces more than can be an answer is refused at once, before or behind the reply."""
    connection, peer = pair
    peer.sendall(hostile)
    with pytest.raises(OutOfStep, match="more"):
        connection.call(GET, far(), values=1)


@pytest.mark.parametrize("begin", [b"$60000000\r\n", b"+", b">2\r\n+a\r\n+b\r\n"], ids=repr)
def test_stream_that_never_ends(begin) -> None:
    """Of an endless reply no more is read than an answer can have, and the deadline holds."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        looks = 0

        def clock() -> float:
            nonlocal looks
            looks += 1
            with suppress(BlockingIOError):
                theirs.send(
                    begin * 1000 if begin[0] == 62 else begin if looks == 1 else b"x" * 100_000
                )
            return 0.0

        connection = Connection("a", ours, clock, max_value=1_000_000)
        with pytest.raises(ReplyTooLarge):
            connection.call(GET, 1.0)
        assert connection.got < 2 * 1024 * 1024
        assert looks >= connection.got // (1024 * 1024)


def test_stream_that_is_faster_than_we_are_ends_at_the_deadline() -> None:
    """Reads that are always full do not keep a call from looking at the clock."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        ticks = iter(range(100))

        class Socket:
            """Has always more to read than anybody takes."""

            def __getattr__(self, name):
                return getattr(ours, name)

            def recv(self, size: int) -> bytes:
                return b"$9000000\r\n".ljust(size, b"x") if self.first() else b"x" * size

            def first(self) -> bool:
                first, self.begun = not self.__dict__.get("begun"), True
                return first

        theirs.send(b"x")
        with pytest.raises(TimeoutError):
            Connection("a", Socket(), lambda: float(next(ticks)), max_value=50_000_000).call(
                GET, 5.0, values=1
            )
        assert next(ticks) < 10


def test_finish(pair) -> None:
    """The peer gets all that was sent, and then the end; what it still sends is thrown away."""
    connection, peer = pair
    connection.send_some(GET)
    connection.finish()
    assert not connection.is_finished(time.monotonic())
    peer.sendall(b"$1\r\nv\r\n")
    assert not connection.is_finished(time.monotonic())
    assert (peer.recv(1000), peer.recv(1000)) == (GET, b"")
    peer.close()
    assert connection.is_finished(far())
    connection.finish()  # nothing is left to be finished
    assert connection.is_finished(far())


def test_finish_of_a_connection_that_is_broken(pair) -> None:
    """There is nothing to wait for."""
    connection, peer = pair
    connection.send_some(GET)
    peer.close()
    connection.finish()
    assert connection.is_finished(far())
