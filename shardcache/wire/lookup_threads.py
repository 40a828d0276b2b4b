"""The threads of this process that look up host names: a bounded number, since each may hang.

No lock is held, because finalizers and signal handlers may come in between any two steps. A place
for a thread is taken and given back by single steps of a deque. Whoever gives one back looks once
more whether something has come meanwhile, so nothing is left lying.
"""

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from shardcache.events import Hook
from shardcache.system.threads import Worker

__all__ = ("LookupThreads",)

MOST = 32
Work = Callable[[], object]


class LookupThreads:
    """Runs pieces of work, each in one of ``most`` threads at the most; others wait their turn."""

    __slots__ = ("_places", "_waiting")

    def __init__(self, most: int = MOST) -> None:
        self._places = deque(range(most))
        self._waiting: deque[Work] = deque()

    @staticmethod
    def of_process() -> "LookupThreads":
        """Return the one that this process has."""
        me = os.getpid()
        found = _of_process.get(me)
        if found is None:  # after a fork: the threads of the parent do not run here
            found = _of_process.setdefault(me, LookupThreads())
            for other in _of_process.keys() - {me}:
                _of_process.pop(other, None)
        return found

    def run(self, work: Work, hook: Hook | None) -> None:
        """Have ``work``, which raises nothing, done in a thread.

        ``hook``: gets an event if the system gives no thread. Raises `ThreadNotStarted` then.
        """
        self._waiting.append(work)
        try:
            place = self._places.pop()
        except IndexError:
            return  # a thread that is at work does it afterwards
        Worker("name look-up", partial(self._work, place)).begin(
            hook, "connect", undo=partial(self._undo, place, work)
        )

    def _work(self, place: int) -> None:
        while True:
            with suppress(IndexError):
                while True:
                    self._waiting.popleft()()
            self._places.append(place)
            if not self._waiting:
                return
            try:
                place = self._places.pop()
            except IndexError:
                return

    def _undo(self, place: int, work: Work) -> None:
        self._places.append(place)
        with suppress(ValueError):
            self._waiting.remove(work)


_of_process: dict[int, LookupThreads] = {}
