"""``lock run``: runs a command under a lock; when one of the two ends, it ends the other."""

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
# Seconds at most between two looks at the lease: after a machine has slept, the lease may be over.
LOOK = 1.0
ATTEMPTS = 20  # how often a try may fail although nobody holds the lock
ENDED = 0  # the event "the command has ended"; all other events are numbers of signals


class Guarded:
    """Runs a command as long as a lock is held.

    ``lock``: made with ``auto_renew=True``, and not used again afterwards.
    ``command``: the program and its arguments.
    ``grace``: seconds between SIGTERM and SIGKILL when the lock is lost.
    ``at_least``: seconds from the acquisition for which the lock stays taken.

    The command leads a session of its own. So all processes that it starts can be ended with it,
    unless they leave the session's process group. If this process itself is killed or stopped,
    nothing ends the command: then only its fencing token keeps it from doing harm.
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
        """Acquire the lock, run the command, release the lock.

        ``timeout``: seconds to wait for the lock; 0 does not wait.

        Returns the exit code, or None if another holder had the lock all the time. Raises
        `QuorumUnavailable` if too few voters answer.
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
                begun -= self._at_least  # nothing was run: another machine may try at once
            return self._let_go(code, begun + self._at_least - time.monotonic())

    def _acquire(self, timeout: float) -> bool:
        if timeout:
            return self._lock.acquire(timeout=timeout)
        for _ in range(ATTEMPTS):
            if self._lock.acquire(blocking=False):
                return True
            # Of several callers in one moment each may get some voters, and none a majority. Then
            # nobody holds the lock, and the next try may succeed.
            if self._lock.locked():
                return False
            time.sleep(0.05 * random.random())
        return False

    def _guard(self) -> int:
        """Run the command; return its exit code, or end it when the lock ends."""
        # Start the command, and a thread that waits for its end.
        lock = self._lock
        environ = {
            "SHARDCACHE_FENCING_TOKEN": str(lock.fencing_token),
            "SHARDCACHE_LOCK_NAME": lock.name,
        }
        process = subprocess.Popen(
            self._command, env={**os.environ, **environ}, start_new_session=True
        )
        with suppress(ThreadNotStarted):  # without the thread, the loop below polls the command
            Worker(f"command {process.pid}", lambda: self._await(process)).begin(None, "wait")
        # A lease that cannot be renewed ends at a known time. The command must have ended by then,
        # so its end begins a grace earlier.
        early = min(self._grace, lock.ttl / 3)
        # Until then: forward signals to the command, and return when it ends.
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
        """End the command's process group by SIGTERM, then after ``seconds`` by SIGKILL."""
        print(
            f"shardcache: lock {self._lock.name!r} is lost: ending {self._command[0]!r} (process "
            f"{process.pid})",
            file=sys.stderr,
            flush=True,
        )
        deadline = time.monotonic() + seconds
        # A stopped process takes SIGTERM only when SIGCONT wakes it.
        there = _send(process.pid, signal.SIGTERM) and _send(process.pid, signal.SIGCONT)
        while there and time.monotonic() < deadline:
            time.sleep(0.01)
            there = _send(process.pid, 0)
        if there:
            _send(process.pid, signal.SIGKILL)
        process.wait()

    def _let_go(self, code: int, still: float) -> int:
        """Give the lock back, and return the exit code.

        ``code``: the exit code of the command.
        ``still``: seconds for which the lock has to stay taken; 0 or less releases it now.
        """
        lock = self._lock
        try:
            # Either let the lease end by itself at the right time, or release it now.
            if still > 0 and code != Exit.LOST:
                # A ttl below a second might be over before the voters have answered.
                if not lock.extend(max(still, 1.0)):
                    print(
                        f"shardcache: lock {lock.name!r} may end before --at-least", file=sys.stderr
                    )
                lock.handover()
            else:
                lock.release()
        # A lock that was lost meanwhile changes the exit code; voters that are out do not.
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
        """Handle signals: before the lock is held they end the waiting, later they are events."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (*FORWARDED, signal.SIGTSTP)}
        try:
            for number, handler in before.items():
                # nohup and shells ignore signals for background jobs: these stay ignored.
                if handler is not signal.SIG_IGN:
                    signal.signal(number, self._on)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _on(self, number: int, _: FrameType | None) -> None:
        # Ctrl-Z would stop the renewal, but not the command, which has a session of its own. So
        # this process ignores it.
        if number != signal.SIGTSTP:
            if not (self._started or self._lock.held):
                # The first signal ends the waiting, and grants are released. A second signal must
                # not break off that release.
                if not self._ending:
                    self._ending = True
                    raise SystemExit(128 + number)
            else:
                self._events.put(number)


def _send(group: int, number: int) -> bool:
    """Send a signal to a process group; return whether the group has a process."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        # macOS answers so for a group of zombies, other systems for processes of another user.
        return number != 0
    return True


def _code(returncode: int) -> int:
    return 128 - returncode if returncode < 0 else returncode
