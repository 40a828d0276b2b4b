"""An exchange with many connections at once: each ends with its own replies or its own error."""

import socket
import threading
import time
from contextlib import ExitStack
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.errors import OutOfStep
from shardcache.wire import Connection, Transfer, Turn, transfer

FAR = 20.0  # seconds that no test waits for


@pytest.fixture
def peers():
    """Make connections and their peers."""
    with ExitStack() as stack:

        def build(count: int):
            made = []
            for number in range(count):
                ours, theirs = map(stack.enter_context, socket.socketpair())
                made.append((Connection(str(number), ours, time.monotonic), theirs))
            return made

        yield build


def far() -> float:
    return time.monotonic() + FAR


def test_each_has_its_own_replies(peers) -> None:
    """Replies go to the turn whose connection they came by, in order, whichever peer is first."""
    made = peers(5)
    turns = [Turn(connection, b"ask", number + 1) for number, (connection, _) in enumerate(made)]
    for number, (_, peer) in reversed(list(enumerate(made))):
        peer.sendall(b"".join(b":%d\r\n" % (100 * number + at) for at in range(number + 1)))
    transfer(turns, far(), time.monotonic)
    assert [turn.replies for turn in turns] == [
        [100 * n + at for at in range(n + 1)] for n in range(5)
    ]
    assert ([turn.error for turn in turns], [peer.recv(10) for _, peer in made]) == (
        [None] * 5,
        [b"ask"] * 5,
    )


@given(st.lists(st.integers(0, 60), min_size=1, max_size=8))
def test_pieces_at_any_split(cuts) -> None:
    """Two shards' replies cut anywhere, and dealt in turn, arrive whole."""
    wires = [
        b"*2\r\n$1\r\na\r\n$-1\r\n:1\r\n$3\r\nx\r\n\r\n",
        b":2\r\n$12\r\nabcdefghijkl\r\n+OK\r\n",
    ]
    expected = [[[b"a", None], 1, b"x\r\n"], [2, b"abcdefghijkl", b"OK"]]
    pairs = [socket.socketpair() for _ in wires]
    edges = [0, *sorted(cuts), 60]

    def deal() -> None:
        for low, high in pairwise(edges):
            for wire, (_, peer) in zip(wires, pairs, strict=True):
                peer.sendall(wire[low:high])

    try:
        turns = [Turn(Connection("", ours, time.monotonic), b"", 3) for ours, _ in pairs]
        thread = threading.Thread(target=deal)
        thread.start()
        transfer(turns, far(), time.monotonic)
        thread.join()
    finally:
        for pair in pairs:
            for one in pair:
                one.close()
    assert [(turn.replies, turn.error) for turn in turns] == [
        (replies, None) for replies in expected
    ]


def test_one_trouble_each(peers) -> None:
    """A silent, an ended, a babbling and an overfull peer spoil their own turn only."""
    (
        (good, good_peer),
        (silent, _),
        (ended, ended_peer),
        (babble, babble_peer),
        (over, over_peer),
    ) = peers(5)
    turns = [Turn(connection, b"ask", 1) for connection in (good, silent, ended, babble, over)]
    good_peer.sendall(b":1\r\n")
    ended_peer.close()
    babble_peer.sendall(b"what?\r\n")
    over_peer.sendall(b":1\r\n:2\r\n")
    ticks = iter([0.0, 0.0, 0.0, 0.0, 0.0])
    transfer(turns, 1.0, lambda: next(ticks, 2.0))
    kinds = [type(turn.error) for turn in turns]
    assert kinds[0] is type(None)
    assert (kinds[1], issubclass(kinds[2], ConnectionError), kinds[3:]) == (
        TimeoutError,
        True,
        [OutOfStep, OutOfStep],
    )
    assert turns[0].replies == [1]


def test_big_payloads_both_ways(peers) -> None:
    """Payloads beyond every buffer pass, though the peers answer while they are being sent to."""
    made = peers(3)
    size = 4_000_000

    def echo(peer: socket.socket) -> None:
        peer.sendall(b"$%d\r\n" % size)
        left = size
        while left:
            data = peer.recv(65536)
            left -= len(data)
            peer.sendall(data)
        peer.sendall(b"\r\n")

    threads = [threading.Thread(target=echo, args=(peer,), daemon=True) for _, peer in made]
    for thread in threads:
        thread.start()
    turns = [
        Turn(connection, bytes([65 + number]) * size, 1, 1)
        for number, (connection, _) in enumerate(made)
    ]
    transfer(turns, far(), time.monotonic)
    assert [turn.error for turn in turns] == [None] * 3
    assert [turn.replies == [bytes([65 + number]) * size] for number, turn in enumerate(turns)] == [
        True
    ] * 3
    for thread in threads:
        thread.join()


def test_answer_before_the_payload_is_read(peers) -> None:
    """A peer that answered in full before it read the payload is done once it has read it."""
    [(connection, peer)] = peers(1)
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10_000)
    peer.sendall(b":1\r\n")

    def swallow() -> None:
        left = 1_000_000
        while left:
            left -= len(peer.recv(left))

    thread = threading.Thread(target=swallow)
    thread.start()
    turn = Turn(connection, b"x" * 1_000_000, 1)
    transfer([turn], time.monotonic() + 3, time.monotonic)
    thread.join()
    assert (turn.replies, turn.error) == ([1], None)


def test_nothing_to_do() -> None:
    """No turns, no waiting."""
    transfer([], 0.0, lambda: 0.0)


def test_deadline_is_common(peers) -> None:
    """Every turn that is open at the deadline ends there; finished ones keep their replies."""
    made = peers(3)
    made[1][1].sendall(b":1\r\n")
    ticks = iter([0.0])
    turns = [Turn(connection, b"ask", 1) for connection, _ in made]
    transfer(turns, 1.0, lambda: next(ticks, 1.0))
    assert [type(turn.error) for turn in turns] == [TimeoutError, type(None), TimeoutError]


def test_dead_connection_is_told_at_once(peers) -> None:
    """A turn that cannot be sent has its error, is not under way, and does not stop the others."""
    (dead, _), (alive, peer) = peers(2)
    dead.close()
    under_way = Transfer(far(), time.monotonic)
    turns = [Turn(connection, b"ask", 1) for connection in (dead, alive)]
    assert [under_way.start(turn) for turn in turns] == [False, True]
    assert (isinstance(turns[0].error, OSError), list(under_way.open.values())) == (True, turns[1:])
    peer.sendall(b":1\r\n")
    assert (under_way.wait(), under_way.open) == ([turns[1]], {})


def test_turn_that_begins_while_others_wait(peers) -> None:
    """Further turns can be started between two waits; each comes back once, when it is over."""
    made = peers(3)
    under_way = Transfer(far(), time.monotonic)
    turns = [Turn(connection, b"ask", 1, place=at) for at, (connection, _) in enumerate(made)]
    under_way.start(turns[0])
    found = []
    for at, (_, peer) in enumerate(made):
        if at < 2:
            under_way.start(turns[at + 1])
        peer.sendall(b":%d\r\n" % at)
        found += [(turn.place, turn.replies) for turn in under_way.wait()]
    assert (found, under_way.open) == ([(0, [0]), (1, [1]), (2, [2])], {})


def test_what_is_owed_comes_first(peers) -> None:
    """Replies to earlier requests are left out, and not checked as if they were to this one."""
    [(connection, peer)] = peers(1)
    turn = Turn(connection, b"ask", 1, owed=2, validate=lambda replies: replies == [b"mine"])
    peer.sendall(b":1\r\n+OK\r\n$4\r\nmine\r\n")
    transfer([turn], far(), time.monotonic)
    assert (turn.replies, turn.error) == ([b"mine"], None)


@pytest.mark.parametrize(
    ("late", "paused", "answered"),
    [(0.0, False, False), (0.01, False, False), (5.0, True, True)],
    ids=["in time", "a timer is late", "paused"],
)
def test_pause_of_this_process(peers, late, paused, answered) -> None:
    """Who stood still beyond the deadline looks once more, for a moment, and says that he did."""
    [(connection, peer)] = peers(1)
    under_way = Transfer(1.0, iter([1.0 + late] * 3).__next__)
    turn = Turn(connection, b"ask", 1)
    under_way.start(turn)
    if answered:
        peer.sendall(b":1\r\n")
    assert under_way.wait() == ([turn] if answered else None)
    assert (under_way.paused, under_way.until > 1.0 + late) == (paused, paused)
    assert answered or under_way.wait() is None
