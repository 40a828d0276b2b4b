"""A directory, processes and ports that end with this process, however it ends.

Theory of operation
-------------------
Clean-up code does not run on SIGKILL, so a process of its own must do it: the guard, a
``/bin/sh`` that reads from a pipe. Only our process holds the other end, and the kernel closes
that whenever our process ends. The guard then reads end of file, removes the directory and kills
its own process group. What makes this safe:

- Each server joins the guard's process group before it executes. The number of a group is not
  given away while a member lives, so nobody else's process is ever hit, as could happen with a
  list of pids. A server about to execute still holds our end of the pipe: the guard cannot
  act between its birth and its joining.
- That group is never the one in the foreground of a terminal, so Ctrl-C reaches the program and not
  its servers, and the program ends them in its own order.
- A forked child closes its copy of our end of the pipe, or the servers would live as long as the
  child; and it never ends what belongs to its parent.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import weakref
from pathlib import Path
from typing import BinaryIO

from shardcache.embedded.ports import reserve_port
from shardcache.errors import ServerNotStarted

__all__ = ("ProcessGuard",)

GUARD = 'trap "" HUP INT TERM; read -r _; rm -rf -- "$1"; kill -KILL 0'
_guards: "weakref.WeakSet[ProcessGuard]" = weakref.WeakSet()


class ProcessGuard:
    """A new directory under ``parent``, only for this user, with its guard. Ends by `close`, or with the process."""

    def __init__(self, parent: str) -> None:
        self.owner = os.getpid()
        self.path = Path(tempfile.mkdtemp(prefix="shards-", dir=parent))
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ports: list[socket.socket] = []
        try:
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", GUARD, "shardcache-guard", str(self.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=0,
                bufsize=0,
            )
        except OSError as error:
            shutil.rmtree(self.path, ignore_errors=True)
            raise ServerNotStarted(
                f"the guard of the local servers did not start: {error}"
            ) from error
        self._end = weakref.finalize(
            self, _end, self.owner, self.path, self._guard, self._processes, self._ports
        )
        _guards.add(self)

    @property
    def closed(self) -> bool:
        """Whether everything here has ended."""
        return not self._end.alive

    @property
    def foreign(self) -> bool:
        """Whether this is a forked child: it may use the servers, and leaves them alone otherwise."""
        return os.getpid() != self.owner

    def spawn(self, command: list[str], cwd: Path, output: BinaryIO) -> subprocess.Popen[bytes]:
        """Run ``command`` as a process that the guard answers for; raise `ServerNotStarted` if that fails."""
        self._processes[:] = [process for process in self._processes if process.poll() is None]
        try:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=self._guard.pid,
            )
        except OSError as error:
            raise ServerNotStarted(f"{command[0]} cannot be run: {error}") from error
        self._processes.append(process)
        return process

    def reserve_port(self) -> int:
        """Return a free loopback port that nobody else is given until `close` (see `shardcache.embedded.ports`)."""
        port, holder = reserve_port()
        self._ports.append(holder)
        return port

    def close(self) -> None:
        """Kill the processes, remove the directory, free the ports. Twice is once; nothing in a forked child."""
        if not self.foreign:
            self._end()

    def disown(self) -> None:
        """Let go of the guard's pipe in a forked child."""
        if self._guard.stdin is not None:
            self._guard.stdin.close()


def _end(
    owner: int,
    path: Path,
    guard: subprocess.Popen[bytes],
    processes: list[subprocess.Popen[bytes]],
    ports: list[socket.socket],
) -> None:
    if os.getpid() != owner:  # a forked child that ends by way of atexit
        return
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()
    for port in ports:
        port.close()
    shutil.rmtree(path, ignore_errors=True)
    guard.kill()  # last, so that it still answers for the rest if we are killed on the way
    guard.wait()
    if guard.stdin is not None:
        guard.stdin.close()


def _after_fork() -> None:
    for guard in list(_guards):
        guard.disown()


os.register_at_fork(after_in_child=_after_fork)
