"""The one place that starts threads, those in which the wire waits for what takes no deadline (`SharedCall`) among them.

"can't start new thread" is ordinary under a limit on processes, so whoever starts one must be able to do without. The rule is the
same for all: what had been noted for the thread is undone, an event tells of it (`thread_not_started`), and no call that has a good
value raises because of it. What is begun later tries again.
"""

import queue
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
    """A thread that does one piece of work, and can be told to end, or to look again, while it pauses.

    It is a daemon: an interpreter that ends does not wait for it.
    """

    def __init__(self, name: str, work: Callable[[], object]) -> None:
        super().__init__(name=f"shardcache {name}", daemon=True)
        self._work = work
        self._ticket = [
            None
        ]  # of two who take it, the thread and whoever gives up starting it, one gets it
        # True: it is to end. Unlike an Event, it may be told from anywhere. By its module's name, which gevent may have patched.
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
        """Start. Raise `ThreadNotStarted`, after ``undo`` and an event for ``operation``, if that cannot be done.

        ``undo`` is called as well if something else breaks the start off (a signal handler that raises), unless the thread runs.
        """
        try:
            self.start()
        except (RuntimeError, MemoryError, OSError) as error:
            undo()
            failed = ThreadNotStarted(f"no thread for {self.name!r}: {error}")
            failed.__cause__ = error
            emit(hook, Event("thread_not_started", shard, operation, 1, failed))
            raise failed from error
        except BaseException:
            if self._take():
                undo()
            raise

    def run(self) -> None:
        """Do the work, unless whoever started it was broken off, and has undone what it was for."""
        if self._take():
            self._work()

    def give_up(self) -> bool:
        """Let it never begin; return whether it has not begun yet."""
        return self._take()

    def _take(self) -> bool:
        try:
            self._ticket.pop()
        except IndexError:
            return False
        return True

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
