"""The one place that starts threads.

Under a limit on processes, "can't start new thread" is an ordinary error, so every caller must be
able to do without its thread. All follow the same rule. What was noted for the thread is undone, an
event tells of it (`thread_not_started`), and no call that has a good value raises because of it. A
later call tries again.
"""

import queue
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

from shardcache.errors import ThreadNotStarted
from shardcache.events import Event, Hook, emit

__all__ = ("Worker",)


def _nothing() -> None:
    """Undo nothing."""


class Worker(threading.Thread):
    """A thread that does one piece of work. While it pauses it can be told to end or to look again.

    ``name``: the name of the thread, behind "shardcache".
    ``work``: what it does.

    It is a daemon: an interpreter that ends does not wait for it.
    """

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        super().__init__(name=f"shardcache {name}", daemon=True)
        self._work = work
        # What became of it: both the thread and a caller that gives up its start write this, and
        # what was written first stays.
        self._fate: dict[str, str] = {}
        # True: the thread is to end. Unlike an Event, the queue may be filled from anywhere. It is
        # looked up in its module, because gevent may have patched that.
        self._news: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._ended = False

    def begin(
        self,
        hook: Hook | None,
        operation: str,
        *,
        shard: str = "",
        undo: Callable[[], object] = _nothing,
    ) -> None:
        """Start the thread.

        ``hook``: gets the event if the thread cannot be started.
        ``operation``: what the event says the thread was for.
        ``shard``: the shard that the event names.
        ``undo``: called if the thread does not run: it cannot be started, or a signal handler
            raised during the start.

        Raises `ThreadNotStarted` if the thread cannot be started.
        """
        before = sys.exc_info()[1]
        try:
            self.start()
        except (RuntimeError, MemoryError, OSError) as error:
            begun = not self.give_up()
            if not begun:
                undo()
            # What a signal handler raised while threading waited for the thread comes out of there
            # as "release unlocked lock".
            if error.__context__ is not before and error.__context__ is not None:
                raise error.__context__ from None
            if begun:
                raise
            failed = ThreadNotStarted(f"no thread for {self.name!r}: {error}")
            failed.__cause__ = error
            emit(hook, Event("thread_not_started", shard, operation, 1, failed))
            raise failed from error
        except BaseException:
            if self.give_up():
                undo()
            raise

    def run(self) -> None:
        """Do the work, unless the caller of `begin` was broken off and has undone the start."""
        if self._fate.setdefault("is", "begun") == "begun":
            self._work()

    def give_up(self) -> bool:
        """Let it never begin; return whether it has not begun. May be called again."""
        return self._fate.setdefault("is", "given up") == "given up"

    def end(self) -> None:
        """Tell it to end. What it is at is not waited for."""
        self._ended = True
        self._news.put(True)

    def look(self) -> None:
        """End its pause."""
        self._news.put(False)

    def pause(self, seconds: float) -> Literal["over", "look", "end"]:
        """Wait, for so long or until it is told to `look` or to `end`; return why it goes on."""
        looks = False
        with suppress(queue.Empty):
            looks = self._news.get(timeout=max(min(seconds, threading.TIMEOUT_MAX), 0.0)) is False
        return "end" if self._ended else "look" if looks else "over"
