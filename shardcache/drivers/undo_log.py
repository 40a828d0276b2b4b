"""An undo log: what calls under way have to undo if they are broken off.

Theory
------
A signal handler may raise between any two steps of the main thread, also in an `except` or
`finally` clause that is tidying up. So no clause alone can promise to undo anything. As in a
database, what is to be undone is written down before anything is done:

- `Entry.__enter__` puts an entry into the log before the call takes or sends anything. The entry
  has the frame of the call.
- A call that ends well commits: its entry leaves the log. What it has taken counts from that step
  on, and not before: until then it may be undone. So a handle of a lock asks `is_in_log`.
- A call that raises undoes at once. If that is interrupted it tries again, a few times.
- An entry that is still in the log when its frame has ended belongs to a call that was broken off
  in all of these steps. The next call of the same thread undoes it first; so does any call of the
  client that comes a second later, and `UndoLog.recover`.

Whether a frame has ended is asked by `frame.clear`, which refuses to clear one that is executing,
or suspended, in whatever thread or greenlet. The answer does not depend on who keeps a traceback.

Everything that is noted here may be undone twice. A release compares the holder token; to end a
flight or to give back a permit again has no effect.

The entries whose frames have not ended are those of outer calls. An inner call of the same thread,
of a finalizer or a signal handler that came in between, learns from them what it must not wait for:
the outer call cannot go on before the inner one ends.
"""

import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Container
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

from shardcache.errors import ShardCacheError

__all__ = ("Entry", "UndoLog")

_TRIES = 10  # faults in a row after which the undoing is left to the next call
_MOST = 50  # faults after which it is given up: it fails by itself, and must not stop all calls
_LOOK = 1.0  # seconds between two looks at the entries of all threads


class Entry:
    """One call under way, as a context manager.

    ``keys``: the locks, and the keys of loads, that another call of this thread must not wait for.
    ``undo``: undoes whatever the call has done so far. It may be called at any moment, and again.
    """

    __slots__ = ("__weakref__", "_faults", "_frame", "_log", "_pid", "_undo", "keys", "thread")

    def __init__(self, log: "UndoLog", keys: Container[bytes], undo: Callable[[], object]) -> None:
        self._log = log
        self._undo = undo
        self._faults = 0
        self._frame: FrameType | None = None
        self._pid = os.getpid()
        self.thread = threading.get_ident()
        self.keys = keys

    def __enter__(self) -> Self:
        self._frame = sys._getframe(1)  # noqa: SLF001  documented, under this name
        self._log.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.commit()
        else:
            self.roll_back()

    def commit(self) -> None:
        """Leave the log: there is nothing to be undone any more."""
        self._frame = None  # which refers to this entry
        # No call of a function from here on, at whose end a signal handler could run: so a call
        # that has committed also returns what it has taken.
        entries = self._log.entries
        try:
            del entries[self]
        except KeyError:  # by another thread, or in a forked child
            return

    def is_in_log(self) -> bool:
        """Whether the call has not ended well so far."""
        return self in self._log.entries

    def is_broken_off(self) -> bool:
        """Whether the call has ended without leaving the log."""
        frame = self._frame
        if frame is None:
            return False
        try:
            frame.clear()
        except RuntimeError:  # it is executing
            return False
        # Looked at last: a call that ended well had left the log before its frame ended.
        return self.is_in_log()

    def is_given_up(self) -> bool:
        """Whether undoing has failed so often that it is not tried any more."""
        return self._faults >= _MOST

    def roll_back(self) -> None:
        """Undo, and leave the log. What a signal handler raises meanwhile is raised at the end.

        In a forked child it only leaves the log: the parent goes on with the call.
        """
        if self._pid != os.getpid():
            self.commit()
            return
        # As long as this runs, no other call undoes the same.
        self._frame = sys._getframe()  # noqa: SLF001  as above
        raised: BaseException | None = None
        done = False
        for _ in range(_TRIES):
            try:
                with suppress(ShardCacheError):  # a client that is closed, say: the ttl ends it
                    self._undo()
            except BaseException as error:  # noqa: BLE001  raised below
                self._faults += 1
                raised = error
            else:
                done = True
                break
        if done or self.is_given_up():
            self.commit()
        if raised is not None:
            try:
                raise raised
            finally:
                del raised  # or it would keep this frame alive, and the frame keeps it


class _HandleEntry(weakref.ref[Any]):
    """An entry that is due when nobody has a handle any more."""

    __slots__ = ("entry",)

    entry: Entry

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


class UndoLog:
    """The calls under way of one client. ``clock``: returns seconds."""

    __slots__ = ("__weakref__", "_clock", "_due", "_handles", "_looked", "entries")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.entries: dict[Entry, None] = {}
        self._handles: dict[_HandleEntry, None] = {}
        self._due: deque[_HandleEntry] = deque()
        self._looked = 0.0

    def add(self, entry: Entry) -> None:
        """Put in an entry, after undoing what broken off calls of this thread have left."""
        now = self._clock()
        if now - self._looked > _LOOK:
            self._looked = now
            self.recover()
        if self._due:
            self._undo_due()
        if self.entries:
            for other in self._around():
                if other.is_broken_off():
                    other.roll_back()
        self.entries[entry] = None

    def _around(self) -> list[Entry]:
        me = threading.get_ident()
        return [entry for entry in self.entries.copy() if entry.thread == me]

    def is_under_way(self, key: bytes, own: Entry | None = None) -> bool:
        """Whether a call of this thread is at ``key``.

        ``own``: the entry of the caller, which is left out. It need not be the newest: a call in a
            signal handler may have been broken off since.
        """
        return any(
            key in entry.keys and not entry.is_broken_off()
            for entry in self._around()
            if entry is not own
        )

    def guard(self, handle: Any, undo: Callable[[], object]) -> Callable[[], None]:
        """Have ``undo`` called when nobody has ``handle`` any more; return what calls that off.

        Not by a `__del__`: what a signal handler raises in one is lost, and every handle would pay
        for it.
        """
        # Weak references call back newest first. So `gone` puts itself into `_due`, in one step
        # that cannot be interrupted, before the finalizer runs `recover`, which can be.
        finalizer = weakref.finalize(handle, self.recover)
        finalizer.atexit = False
        gone = _HandleEntry(handle, self._due.append)
        gone.entry = Entry(self, (), undo)
        self._handles[gone] = None

        def call_off() -> None:
            self._handles.pop(gone, None)
            finalizer.detach()

        return call_off

    def _undo_due(self) -> None:
        for gone in tuple(self._due):
            try:
                if gone in self._handles:
                    gone.entry.roll_back()
            except BaseException:
                if gone.entry.is_given_up():
                    self._is_done(gone)
                raise  # it was interrupted, and is still due
            self._is_done(gone)

    def _is_done(self, gone: _HandleEntry) -> None:
        self._handles.pop(gone, None)
        with suppress(ValueError):
            self._due.remove(gone)

    def recover(self) -> None:
        """Undo what broken off calls of all threads have left, and handles that are gone."""
        self._undo_due()
        for entry in self.entries.copy():
            if entry.is_broken_off():
                entry.roll_back()

    def forget(self) -> None:
        """In a forked child: what is under way is the parent's, and the parent undoes it."""
        self.entries.clear()
        self._handles.clear()
        self._due.clear()
