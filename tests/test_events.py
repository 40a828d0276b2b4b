"""Events: one frozen object for the hook, and a hook that cannot break a call."""

import dataclasses
import logging

import pytest

from shardcache.events import Event, emit


def test_tell() -> None:
    """The hook gets the very event."""
    heard = []
    event = Event("damaged", "a", "get", 1, ValueError("x"))
    emit(heard.append, event)
    emit(None, event)
    assert (len(heard), heard[0] is event) == (1, True)


def test_frozen() -> None:
    """A hook cannot change what the next one sees."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Event("shard_out", "a").shard = "b"  # type: ignore[misc]


def test_broken_hook(caplog) -> None:
    """What a hook raises is logged once with event and shard, and goes no further."""

    def hook(event: Event) -> None:
        raise ZeroDivisionError("observer")

    for _ in range(3):
        emit(hook, Event("degraded_read", "a"))
    [record] = caplog.records
    assert (record.name, record.levelno) == ("shardcache", logging.ERROR)
    assert record.getMessage() == "event hook failed on degraded_read of shard a"
    assert record.exc_info[0] is ZeroDivisionError


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_interrupt_goes_through(interrupt) -> None:
    """An interrupt that arrives inside a hook is not swallowed."""

    def hook(event: Event) -> None:
        raise interrupt

    with pytest.raises(interrupt):
        emit(hook, Event("shard_out", "a"))
