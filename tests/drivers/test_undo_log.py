"""The undo log: what is undone, when, by whom, and what is not."""

import gc
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import greenlet
import pytest

from shardcache.drivers import undo_log
from shardcache.drivers.undo_log import Entry, UndoLog
from shardcache.errors import ClientClosed
from tests.interruptions import Fault


class Broken(Exception):
    """What a signal handler raises."""


@pytest.fixture
def log() -> UndoLog:
    return UndoLog(time.monotonic)


@pytest.fixture
def undone() -> list[str]:
    return []


def call(log: UndoLog, undo: Callable[[], object], work: Callable[[], Any] = lambda: None) -> Any:
    """Make a call that does ``work``."""
    with Entry(log, {b"k"}, undo):
        return work()


def broken_off(log: UndoLog, undo: Callable[[], object]) -> None:
    """Make a call that is broken off before it undoes anything."""
    entry = Entry(log, {b"k"}, undo)
    entry.__enter__()


def test_a_call_that_ends_well_undoes_nothing(log, undone) -> None:
    assert call(log, lambda: undone.append("k"), lambda: 1) == 1
    log.recover()
    assert undone == []
    assert not log.entries


def test_a_call_that_raises_undoes_at_once(log, undone) -> None:
    with pytest.raises(ZeroDivisionError):
        call(log, lambda: undone.append("k"), lambda: 1 / 0)
    assert undone == ["k"]
    assert not log.entries


def test_the_next_call_undoes_what_is_left(log, undone) -> None:
    """Also while the frame of the one that was broken off is kept by a traceback."""
    kept = []

    def work() -> None:
        broken_off(log, lambda: undone.append("k"))
        kept.append(sys._getframe())
        raise Broken

    with pytest.raises(Broken) as caught:
        work()
    assert undone == []
    call(log, lambda: undone.append("another"))
    assert undone == ["k"]
    assert not log.entries
    assert caught.value.__traceback__ is not None
    assert kept


def test_calls_under_way_are_left_alone(log, undone) -> None:
    """Those around, those of other threads, and those of a greenlet that is suspended."""
    done = threading.Event()
    inside = threading.Event()

    def wait() -> None:
        inside.set()
        done.wait(20)

    thread = threading.Thread(
        target=call, args=(log, lambda: undone.append("thread"), wait), daemon=True
    )
    thread.start()
    assert inside.wait(20)
    main = greenlet.getcurrent()
    other = greenlet.greenlet(lambda: call(log, lambda: undone.append("greenlet"), main.switch))
    other.switch()

    def inner() -> None:
        log.recover()
        call(log, lambda: undone.append("inner"))

    call(log, lambda: undone.append("outer"), inner)
    assert len(log.entries) == 2
    other.switch()
    done.set()
    thread.join()
    assert not log.entries
    assert undone == []


def test_other_threads_undo_it_later(log, undone, monkeypatch) -> None:
    """At once in `recover`, and in any call when a second has passed."""
    thread = threading.Thread(target=broken_off, args=(log, lambda: undone.append("one")))
    thread.start()
    thread.join()
    log.recover()
    assert undone == ["one"]
    call(log, undone.clear)  # it has looked now
    thread = threading.Thread(target=broken_off, args=(log, lambda: undone.append("two")))
    thread.start()
    thread.join()
    monkeypatch.setattr(undo_log, "_LOOK", 3600.0)
    call(log, undone.clear)
    assert undone == ["one"]
    monkeypatch.setattr(undo_log, "_LOOK", -1.0)
    call(log, undone.clear)
    assert undone == ["one", "two"]


def test_interruptions_of_the_undoing(log, undone) -> None:
    """It is tried again, and what was raised last comes out in the end."""
    faults = [Fault("one"), Fault("two")]

    def undo() -> None:
        if faults:
            raise faults.pop()
        undone.append("k")

    with pytest.raises(Fault, match="one"):
        call(log, undo, lambda: 1 / 0)
    assert undone == ["k"]
    assert not log.entries


def test_many_interruptions_leave_it_to_the_next_call(log, undone) -> None:
    faults = [Fault()] * 15

    def undo() -> None:
        if faults:
            raise faults.pop()
        undone.append("k")

    with pytest.raises(Fault):
        call(log, undo, lambda: 1 / 0)
    assert undone == []
    with pytest.raises(Fault):
        call(log, lambda: undone.append("another"))
    assert undone == ["k"]
    assert not log.entries


def test_what_cannot_be_undone_stops_no_call_for_ever(log, undone) -> None:
    """A client that is closed is no fault; what always fails is given up."""

    def closed() -> None:
        undone.append("tried")
        raise ClientClosed("it is closed")

    broken_off(log, closed)
    assert call(log, undone.clear, lambda: 1) == 1
    assert undone == ["tried"]

    def fails() -> None:
        raise Broken

    broken_off(log, fails)
    for _ in range(5):
        with pytest.raises(Broken):
            call(log, undone.clear)
    assert call(log, undone.clear, lambda: 2) == 2


def test_a_hook_may_use_the_client_while_it_is_undone(log, undone) -> None:
    """The call inside of the undoing does not undo the same."""

    def undo() -> None:
        undone.append("k")
        call(log, lambda: undone.append("inner"))

    broken_off(log, undo)
    call(log, undone.clear)
    assert undone == ["k"]


def test_what_is_under_way(log) -> None:
    """Only calls of this thread count, and only those about the key."""
    assert log.is_under_way(b"k") is False
    found: list[bool] = []

    def look() -> None:
        found.append(log.is_under_way(b"k"))
        found.append(log.is_under_way(b"another"))
        (own,) = log.entries
        broken_off(log, list)  # in a signal handler
        found.append(log.is_under_way(b"k", own))
        thread = threading.Thread(target=lambda: found.append(log.is_under_way(b"k")))
        thread.start()
        thread.join()

    call(log, list, look)
    assert found == [True, False, False, False]


class Handle:
    """What a caller has."""


def test_handles(log, undone) -> None:
    """What a handle guards is undone when it goes, once, unless that is called off."""
    one, other = Handle(), Handle()
    log.guard(one, lambda: undone.append("one"))
    call_off = log.guard(other, lambda: undone.append("other"))
    call_off()
    del one, other
    assert undone == ["one"]


def test_what_cannot_be_undone_of_a_handle_stops_no_call_for_ever(log, undone, monkeypatch) -> None:
    handle = Handle()
    monkeypatch.setattr(UndoLog, "recover", lambda _: None)

    def fails() -> None:
        raise Broken

    log.guard(handle, fails)
    del handle
    for _ in range(5):
        with pytest.raises(Broken):
            call(log, undone.clear)
    assert call(log, undone.clear, lambda: 2) == 2


def test_a_handle_that_goes_while_it_is_interrupted(log, undone, monkeypatch) -> None:
    """The callback may be broken off before it does anything: the next call does it."""
    handle = Handle()
    monkeypatch.setattr(UndoLog, "recover", lambda _: None)
    log.guard(handle, lambda: undone.append("k"))
    handle.itself = handle
    del handle
    gc.collect()
    assert undone == []
    call(log, undone.clear)
    assert undone == ["k"]


def test_a_forked_child_undoes_nothing(log, undone) -> None:
    handle = Handle()
    log.guard(handle, lambda: undone.append("handle"))
    broken_off(log, lambda: undone.append("k"))
    log.forget()
    del handle
    log.recover()
    assert undone == []
