"""A directory, processes and ports that end with this process, however it ends.

Theory of operation
-------------------
Clean-up code does not run on SIGKILL, so another process must clean up: the guard, a ``/bin/sh``
that reads from a pipe. Only our process holds the other end of the pipe, and the kernel closes it
when our process ends. Then the guard reads end of file, removes the directory, and kills its own
process group. Three rules make this safe:

- Each server joins the guard's process group before it executes. The system does not give the
  number of a group to others while a member lives. So the guard never kills a foreign process, as
  could happen with a list of process ids. A server that is about to execute still holds our end of
  the pipe, so the guard cannot act before the server has joined.
- The group is never the foreground group of a terminal. So Ctrl-C reaches the program and not its
  servers, and the program ends them in its own order.
- A forked child closes its copy of our end of the pipe. Otherwise the servers would live as long as
  the child. And a child never ends what belongs to its parent.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import weakref
from pathlib import Path
from typing import BinaryIO

from shardcache.embedded.ports import reserve_cluster_port, reserve_port
from shardcache.errors import ServerNotStarted
from shardcache.system.forked import ForkedObjects

__all__ = ("ProcessGuard",)

GUARD = 'trap "" HUP INT TERM; read -r _; rm -rf -- "$1"; kill -KILL 0'
_forked = ForkedObjects()


class ProcessGuard:
    """A new directory that only this user can read, with its guard.

    ``parent``: the directory to make it in.

    It ends by `close`, or with the process. Raises `ServerNotStarted` if the guard cannot start.
    """

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
        _forked.add(self)

    @property
    def closed(self) -> bool:
        """Whether directory, processes and ports are gone."""
        return not self._end.alive

    @property
    def foreign(self) -> bool:
        """Whether this is a forked child, which may use the servers but not change them."""
        return os.getpid() != self.owner

    def spawn(self, command: list[str], cwd: Path, output: BinaryIO) -> subprocess.Popen[bytes]:
        """Start a process that the guard ends with ours.

        ``command``: the program and its arguments.
        ``cwd``: its working directory.
        ``output``: the file that gets its output and errors.

        Raises `ServerNotStarted` if the program cannot be run.
        """
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
        """Return a free port of 127.0.0.1 that no other program gets until `close`.

        `shardcache.embedded.ports` says on which systems.
        """
        port, holder = reserve_port()
        self._ports.append(holder)
        return port

    def reserve_cluster_port(self) -> int:
        """Return a port as `reserve_port` does, whose cluster bus has its port as well.

        Raises `ServerNotStarted` if there is none.
        """
        try:
            port, holders = reserve_cluster_port()
        except OSError as error:
            raise ServerNotStarted(f"a cluster node got no port: {error}") from error
        self._ports += holders
        return port

    def close(self) -> None:
        """Kill the processes, remove the directory, and free the ports.

        A second call does nothing, and neither does a call in a forked child.
        """
        if not self.foreign:
            self._end()

    def after_fork(self) -> None:
        """Close a forked child's copy of the guard's pipe."""
        if self._guard.stdin is not None:
            self._guard.stdin.close()


def _end(
    owner: int,
    path: Path,
    guard: subprocess.Popen[bytes],
    processes: list[subprocess.Popen[bytes]],
    ports: list[socket.socket],
) -> None:
    if os.getpid() != owner:  # a forked child, at its end
        return
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()
    for port in ports:
        port.close()
    shutil.rmtree(path, ignore_errors=True)
    guard.kill()  # last: if this process is killed before, the guard removes the rest
    guard.wait()
    if guard.stdin is not None:
        guard.stdin.close()
