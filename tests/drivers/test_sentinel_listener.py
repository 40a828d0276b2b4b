"""Messages of Sentinels: each has the source polled; whatever ends the listening begins it anew."""

import gc
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from shardcache import Options
from shardcache.drivers import sentinel_listener
from shardcache.drivers.sentinel_listener import SentinelListener
from shardcache.events import Event
from shardcache.system.threads import Worker
from shardcache.wire import Dialer
from tests.hostile.sentinel import FakeSentinel
from tests.waiting import until

LONG = 20.0  # seconds: longer than anything takes
MASTERS = {"a": ("10.0.0.1", 1, 1)}


class Refreshes:
    """Counts the calls."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self) -> None:
        self.number += 1


@pytest.fixture
def refreshes() -> Refreshes:
    return Refreshes()


@pytest.fixture
def sentinels() -> Iterator[Callable[..., FakeSentinel]]:
    """Make Sentinels that are ended at the end."""
    with ExitStack() as stack:
        yield lambda **how: stack.enter_context(FakeSentinel(MASTERS, **how))


@pytest.fixture
def listening(refreshes: Refreshes) -> Iterator[Callable[..., SentinelListener]]:
    """Make listeners that are closed at the end."""
    with ExitStack() as stack:

        def build(*asked: FakeSentinel, **how: Any) -> SentinelListener:
            made = listener_of(refreshes, *asked, **how)
            stack.callback(made.close)
            made.check()
            return made

        yield build


def listener_of(
    refresh: Callable[[], object],
    *asked: FakeSentinel,
    timeout: float = LONG,
    hook: Any = None,
) -> SentinelListener:
    addresses = [one.address for one in asked]
    options = Options(protocol=2, max_value=1000)
    return SentinelListener(
        lambda: addresses,
        lambda address: Dialer("Sentinel", address, options, time.monotonic, "sentinel"),
        refresh,
        timeout=timeout,
        hook=hook,
        clock=time.monotonic,
        random=lambda: 0.0,
    )


@pytest.mark.parametrize(
    "channel", ["+switch-master", "+promoted-slave", "+config-update-from", "+reset-master"]
)
def test_message(sentinels: Any, listening: Any, refreshes: Refreshes, channel: str) -> None:
    """It asks when it begins to listen, and at each message that may tell of another master."""
    sentinel = sentinels()
    listening(sentinel)
    until(lambda: refreshes.number == 1)
    [subscribe] = [command for command in sentinel.asked if command[0] == b"SUBSCRIBE"]
    assert channel.encode() in subscribe
    sentinel.publish(channel)
    until(lambda: refreshes.number == 2)


def test_login(listening: Any, refreshes: Refreshes) -> None:
    """It logs in with the login of the Sentinels."""
    with FakeSentinel(MASTERS, login=("su", "secret")) as sentinel:
        sentinel.address = sentinel.address.__class__(
            "127.0.0.1", sentinel.address.port, username="su", password="secret"
        )
        listening(sentinel)
        until(lambda: refreshes.number)


def test_message_amid_the_confirmations(sentinels: Any, listening: Any) -> None:
    """A message that comes before all channels are confirmed breaks nothing."""
    sentinel = sentinels()
    say = sentinel._say
    early = b"*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$1\r\ny\r\n"

    def answer(command: tuple[bytes, ...]) -> Any:
        for piece in say(command):
            yield piece
            if command[0] == b"SUBSCRIBE":
                yield early

    sentinel.answer = answer
    listening(sentinel)
    until(lambda: sentinel.subscribers)
    sentinel.publish()
    time.sleep(0.05)
    assert sentinel.subscribers == 1


def test_hung_up(sentinels: Any, listening: Any, refreshes: Refreshes) -> None:
    """When a Sentinel goes, it listens to the next one, and asks for what it may have missed."""
    first, second = sentinels(), sentinels()
    listening(first, second)
    heard = until(lambda: [one for one in (first, second) if one.subscribers])[0]
    other = second if heard is first else first
    heard.__exit__()
    until(lambda: other.subscribers and refreshes.number >= 2)
    before = refreshes.number
    other.publish()
    until(lambda: refreshes.number > before)


def test_alone(sentinels: Any, listening: Any, refreshes: Refreshes) -> None:
    """A Sentinel that is the only one, and hangs up, is subscribed to again."""
    sentinel = sentinels()
    listening(sentinel)
    for number in range(1, 4):
        until(lambda number=number: sentinel.subscribers >= number)
        sentinel.hang_up()
    until(lambda: refreshes.number >= 3)


def test_silent(
    sentinels: Any, listening: Any, refreshes: Refreshes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is silent is asked for a sign of life; without that, it is left for the next one."""
    monkeypatch.setattr(sentinel_listener, "QUIET", 0.05)
    first, second = sentinels(), sentinels()
    listening(first, second, timeout=0.5)
    heard = until(lambda: [one for one in (first, second) if one.subscribers])[0]
    other = second if heard is first else first
    until(lambda: (b"PING",) in heard.asked)
    assert not other.subscribers
    heard.plays_dead = True
    until(lambda: other.subscribers)


def test_dripping(sentinels: Any, listening: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that never make a message are no sign of life."""
    monkeypatch.setattr(sentinel_listener, "QUIET", 0.05)
    first, second = sentinels(), sentinels()
    listening(first, second, timeout=0.3)
    heard = until(lambda: [one for one in (first, second) if one.subscribers])[0]
    other = second if heard is first else first
    heard.plays_dead = True
    heard.send(b"*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$100\r\n")

    def drip() -> bool:
        heard.send(b".")
        return other.subscribers > 0

    until(drip)


@pytest.mark.parametrize(
    "junk",
    [
        b"+hello\r\n",
        b"-ERR what\r\n",
        b"*1\r\n$3\r\nfoo\r\n",
        b"*0\r\n",
        b"*-1\r\n",
        b":1\r\n",
        b"*2000000000\r\n",
        b"$999999999\r\n" + b"." * 2_000_000,
        b"?!\r\n",
        b"*1\r\n*1\r\n$1\r\nx\r\n",
    ],
    ids=lambda junk: repr(junk[:8]),
)
def test_junk(sentinels: Any, listening: Any, junk: bytes) -> None:
    """What is no message ends that subscription, and another one begins."""
    sentinel = sentinels()
    listening(sentinel)
    until(lambda: sentinel.subscribers == 1)
    sentinel.send(junk)
    until(lambda: sentinel.subscribers == 2)


def test_flood(sentinels: Any, listening: Any, refreshes: Refreshes) -> None:
    """A flood of messages is taken in pieces, each for one refresh."""
    sentinel = sentinels()
    listening(sentinel)
    until(lambda: sentinel.subscribers)
    message = b"*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$1\r\ny\r\n"
    sentinel.send(message * 100_000)
    until(lambda: refreshes.number > 2)
    time.sleep(0.05)
    assert (sentinel.subscribers, refreshes.number < 10_000) == (1, True)


def test_refused_subscription(sentinels: Any, listening: Any, refreshes: Refreshes) -> None:
    """Where one may not subscribe, the next Sentinel is tried, and nothing is asked for."""
    refusing, good = sentinels(), sentinels()
    refusing.refuses.add((b"SUBSCRIBE",))
    listening(refusing, good)
    until(lambda: good.subscribers)
    until(lambda: refreshes.number == 1)


def test_close(sentinels: Any, listening: Any) -> None:
    """Closing ends thread and connection, however long the Sentinel has been silent."""
    sentinel = sentinels()
    listener = listening(sentinel)
    until(lambda: sentinel.subscribers)
    thread = listener._worker
    listener.close()
    until(lambda: not thread.is_alive())
    listener.check()
    assert listener._worker is thread


def test_forgotten(sentinels: Any, young: None) -> None:
    """A listener that nobody has any more goes, and its thread with it."""
    sentinel = sentinels()
    listener = listener_of(lambda: None, sentinel)
    listener.check()
    until(lambda: sentinel.subscribers)
    thread, gone = listener._worker, weakref.ref(listener)
    del listener
    gc.collect()
    until(lambda: gone() is None and not thread.is_alive())


def test_one_thread(sentinels: Any, listening: Any) -> None:
    """However often it is checked, there is one thread."""
    sentinel = sentinels()
    listener = listening(sentinel)
    until(lambda: sentinel.subscribers)
    thread = listener._worker
    for _ in range(10):
        listener.check()
    assert listener._worker is thread
    assert sentinel.subscribers == 1


def test_no_thread(
    sentinels: Any, listening: Any, refreshes: Refreshes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can be started an event tells; a later check tries again."""

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    events: list[Event] = []
    sentinel = sentinels()
    with monkeypatch.context() as patch:
        patch.setattr(Worker, "start", start)
        listener = listening(sentinel, hook=events.append)
    assert [(event.kind, event.operation) for event in events] == [("thread_not_started", "listen")]
    listener.check()
    until(lambda: refreshes.number)


def test_fork(sentinels: Any, listening: Any, refreshes: Refreshes) -> None:
    """A child listens by itself, and leaves the parent's connection alone."""
    sentinel = sentinels()
    listener = listening(sentinel)
    until(lambda: sentinel.subscribers == 1 and refreshes.number == 1)
    child = os.fork()
    if not child:
        try:
            listener.check()
            until(lambda: refreshes.number == 2)
            listener.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sentinel.subscribers == 2
    sentinel.publish()
    until(lambda: refreshes.number == 2)
