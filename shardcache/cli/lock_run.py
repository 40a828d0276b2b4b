"""``lock run``: a command under a lock, and what happens to each when the other ends."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from types import FrameType

from shardcache.cli.exit_codes import Exit
from shardcache.errors import LockLost, QuorumUnavailable, ThreadNotStarted
from shardcache.locks import QuorumLock
from shardcache.system.threads import Worker

__all__ = ("Guarded",)

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
LOOK = 1.0  # seconds, at most, between two looks at the lease: a machine that slept must not go on waiting
ATTEMPTS = 20  # that may end with nobody holding the lock
ENDED = 0  # among the events; the others are signals


class Guarded:
    """Runs ``command`` as long as ``lock`` is held; the lock must renew itself, and is not used again.

    ``grace``: seconds between SIGTERM and SIGKILL when the lock is lost. ``at_least``: seconds for which the lock stays taken,
    from when it was acquired.

    The command leads a session of its own, so that all that it starts can be ended with it, unless that leaves
    the session's process group. If this process is killed or stopped itself, nobody ends the command: then its fencing token is all there is.
    """

    def __init__(
        self, lock: QuorumLock, command: Sequence[str], *, grace: float, at_least: float
    ) -> None:
        self._lock = lock
        self._command = command
        self._grace = grace
        self._at_least = at_least
        self._events: SimpleQueue[int] = SimpleQueue()
        self._started = False
        self._ending = False

    def run(self, timeout: float) -> int | None:
        """Return the exit code; None if somebody else held the lock for all of ``timeout`` seconds.

        Raises `QuorumUnavailable`.
        """
        with self._signals():
            if not self._acquire(timeout):
                return None
            begun = time.monotonic()
            self._started = True
            try:
                code = self._guard()
            except OSError as error:
                print(
                    f"shardcache: cannot run {self._command[0]!r}: {error.strerror}",
                    file=sys.stderr,
                )
                code = Exit.NOT_FOUND if isinstance(error, FileNotFoundError) else Exit.CANNOT_RUN
                begun -= self._at_least  # nothing was run: the next one may try
            return self._let_go(code, begun + self._at_least - time.monotonic())

    def _acquire(self, timeout: float) -> bool:
        if timeout:
            return self._lock.acquire(timeout=timeout)
        for _ in range(ATTEMPTS):
            if self._lock.acquire(blocking=False):
                return True
            # Of several that come in the same moment each may get some voters and none a majority: that is no holder.
            if self._lock.locked():
                return False
            time.sleep(0.05 * random.random())
        return False

    def _guard(self) -> int:
        """Run the command; return its exit code, or end it when the lock ends."""
        lock = self._lock
        environ = {
            "SHARDCACHE_FENCING_TOKEN": str(lock.fencing_token),
            "SHARDCACHE_LOCK_NAME": lock.name,
        }
        process = subprocess.Popen(
            self._command, env={**os.environ, **environ}, start_new_session=True
        )
        with suppress(ThreadNotStarted):  # then the command is looked at now and then
            Worker(f"command {process.pid}", lambda: self._await(process)).begin(None, "wait")
        # A lease that cannot be renewed ends at a known time: the command should be gone by then.
        early = min(self._grace, lock.ttl / 3)
        while (left := lock.remaining() - early) > 0:
            try:
                event: int | None = self._events.get(timeout=min(left, LOOK))
            except Empty:
                event = ENDED if process.poll() is not None else None
            if event == ENDED:
                return _code(process.returncode)
            if event is not None:
                _send(process.pid, event)
        self._end(process, lock.remaining() or self._grace)
        return Exit.LOST

    def _await(self, process: "subprocess.Popen[bytes]") -> None:
        process.wait()
        self._events.put(ENDED)

    def _end(self, process: "subprocess.Popen[bytes]", seconds: float) -> None:
        """End the command and its group: SIGTERM, and if that does not within ``seconds``, SIGKILL."""
        print(
            f"shardcache: lock {self._lock.name!r} is lost: ending {self._command[0]!r} (process {process.pid})",
            file=sys.stderr,
            flush=True,
        )
        deadline = time.monotonic() + seconds
        # A stopped process would not notice the first without the second.
        there = _send(process.pid, signal.SIGTERM) and _send(process.pid, signal.SIGCONT)
        while there and time.monotonic() < deadline:
            time.sleep(0.01)
            there = _send(process.pid, 0)
        if there:
            _send(process.pid, signal.SIGKILL)
        process.wait()

    def _let_go(self, code: int, still: float) -> int:
        """Release the lock, or leave it to its ttl after ``still`` seconds; return the exit code."""
        lock = self._lock
        try:
            if still > 0 and code != Exit.LOST:
                if not lock.extend(
                    max(still, 1.0)
                ):  # less might be over before the voters have answered
                    print(
                        f"shardcache: lock {lock.name!r} may end before --at-least", file=sys.stderr
                    )
                lock.handover()
            else:
                lock.release()
        except LockLost:
            if code != Exit.LOST:
                print(
                    f"shardcache: lock {lock.name!r} was lost before the command was done",
                    file=sys.stderr,
                )
            return Exit.LOST
        except QuorumUnavailable as error:  # the command is done, and the ttl ends the lease
            print(f"shardcache: {error}", file=sys.stderr)
        return code

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Until the lock is held, signals end the waiting for it; then they are events."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (*FORWARDED, signal.SIGTSTP)}
        try:
            for number, handler in before.items():
                if (
                    handler is not signal.SIG_IGN
                ):  # by nohup, or a shell for what runs in the background
                    signal.signal(number, self._on)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _on(self, number: int, _: FrameType | None) -> None:
        # Ctrl-Z would stop the renewal and not the command, which has a session of its own: it does nothing.
        if number != signal.SIGTSTP:
            if not (self._started or self._lock.held):
                if (
                    not self._ending
                ):  # a second one would break off the giving back of what the first one stopped
                    self._ending = True
                    raise SystemExit(128 + number)
            else:
                self._events.put(number)


def _send(group: int, number: int) -> bool:
    """Send a signal to a process group; return whether anybody was there."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except (
        PermissionError
    ):  # macOS says so of a group of zombies; elsewhere of one that has become another user's
        return number != 0
    return True


def _code(returncode: int) -> int:
    return 128 - returncode if returncode < 0 else returncode
