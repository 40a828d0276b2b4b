"""A source of nodes whose answers a test sets, and who is told of them."""

import random
import threading
import time
from typing import Any

from shardcache import errors
from shardcache.drivers.node_watch import NodeWatch
from shardcache.events import Event

__all__ = ("LONG", "Client", "Source", "soon", "watch_of")


LONG = 20.0  # seconds: longer than anything takes


class Source:
    """A source whose answer a test sets; it hangs while ``free`` is not set."""

    def __init__(self, answer: Any = ("a",)) -> None:
        self.answer = answer
        self.times: list[float] = []  # when it was called
        self.at_once = 0  # most calls that were under way at the same time
        self._under_way = 0
        self.free = threading.Event()
        self.free.set()

    @property
    def calls(self) -> int:
        return len(self.times)

    def __call__(self) -> Any:
        self.times.append(time.monotonic())
        self._under_way += 1
        self.at_once = max(self.at_once, self._under_way)
        try:
            assert self.free.wait(LONG)
            if isinstance(self.answer, BaseException):
                raise self.answer
            return self.answer
        finally:
            self._under_way -= 1


class Client:
    """What applies the answers, and hears the events."""

    def __init__(self) -> None:
        self.applied: list[Any] = []
        self.events: list[Event] = []
        self.refuses: Any = None

    def apply(self, answer: Any) -> None:
        if answer == self.refuses:
            raise errors.InvalidNode("not that one")
        self.applied.append(answer)

    def hook(self, event: Event) -> None:
        self.events.append(event)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


def soon() -> float:
    return time.monotonic() + LONG


def watch_of(source: Any, client: Client, **settings: Any) -> NodeWatch[Any]:
    chosen: dict[str, Any] = {
        "interval": 0.01,
        "timeout": 600.0,
        "clock": time.monotonic,
        "name": "the source",
        **settings,
    }
    hook = chosen.pop("hook", client.hook)
    return NodeWatch(
        source,
        client.apply,
        hook=hook,
        random=random.random,
        **chosen,
    )
