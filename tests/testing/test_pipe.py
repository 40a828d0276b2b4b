"""A pipe on its own: a sink that takes little, and a clock that the test moves."""

import math
import socket
from typing import cast

from shardcache.testing import Delay, Replay, Split, Stall
from shardcache.testing.connection import Pipe
from shardcache.testing.faults import Fault
from shardcache.testing.stream import Close


class Sink:
    """A socket that takes ``planner`` bytes at once and then no more."""

    def __init__(self, planner: int = 1000) -> None:
        self.planner = planner
        self.taken: list[bytes] = []

    def send(self, data: bytes) -> int:
        if self.planner == 0:
            raise BlockingIOError
        sent = min(self.planner, len(data))
        self.planner -= sent
        self.taken.append(data[:sent])
        return sent


class Setting:
    """A pipe with its sink and clock."""

    def __init__(self, fault: Fault | None = None, planner: int = 1000) -> None:
        self.now = 100.0
        self.sink = Sink(planner)
        self.pipe = Pipe("reply", cast("socket.socket", self.sink), lambda: self.now, lambda: None)
        self.pipe.stream.arm(fault)

    def pump(self) -> list[bytes]:
        """Pump, and return what the sink was sent by that."""
        self.sink.taken = []
        assert self.pipe.pump() is None
        return self.sink.taken


def test_partial_sends_lose_nothing():
    """What a sink does not take waits, in order, until there is room again."""
    setting = Setting(planner=4)
    setting.pipe.feed(b"0123456789")
    assert (setting.pump(), setting.pipe.blocked, setting.pipe.size) == ([b"0123"], True, 6)
    assert setting.pump() == []
    setting.sink.planner, setting.pipe.blocked = 100, False
    setting.pipe.feed(b"abc")
    assert (setting.pump(), setting.pipe.blocked, setting.pipe.size) == (
        [b"456789", b"abc"],
        False,
        0,
    )


def test_full_sink_is_tried_again():
    """A sink without any room loses nothing either."""
    setting = Setting(planner=0)
    setting.pipe.feed(b"abc")
    assert (setting.pump(), setting.pipe.blocked) == ([], True)
    setting.sink.planner, setting.pipe.blocked = 100, False
    assert setting.pump() == [b"abc"]


def test_split_waits_between_pieces():
    """Each piece goes out a pause after the one before it did, however late that was."""
    setting = Setting(Split((1, 2), pause=0.5))
    setting.pipe.feed(b"abc")
    assert (setting.pump(), setting.pipe.wake) == ([b"a"], 100.5)
    setting.now = 100.4
    assert setting.pump() == []
    setting.now = 107.0
    assert (setting.pump(), setting.pipe.wake) == ([b"b"], 107.5)
    setting.now = 107.5
    assert (setting.pump(), setting.pipe.wake) == ([b"c"], math.inf)


def test_delays_overlap():
    """Each chunk is late by the same time: a delay makes a stream late, not slow."""
    setting = Setting(Delay(1.0))
    setting.pipe.feed(b"a")
    setting.now = 100.9
    setting.pipe.feed(b"b")
    assert setting.pump() == []
    setting.now = 101.0
    assert setting.pump() == [b"a"]
    setting.now = 101.9
    assert setting.pump() == [b"b"]


def test_replay_holds_nothing_up():
    """The copy comes at its time, behind what came in between."""
    setting = Setting(Replay(1.0))
    setting.pipe.feed(b"a")
    setting.pipe.feed(b"b")
    assert (setting.pump(), setting.pipe.wake) == ([b"a", b"b"], 101.0)
    setting.now = 101.0
    assert setting.pump() == [b"a"]
    assert setting.pump() == []


def test_end_waits_behind_a_hold():
    """A server that closes does not end what is still held back."""
    setting = Setting(Stall(1))
    setting.pipe.feed(b"abc")
    setting.pipe.put(Close())
    assert setting.pump() == [b"a"]
    setting.pipe.resume()
    assert (setting.pipe.pump(), setting.sink.taken) == (Close(), [b"a", b"bc"])
