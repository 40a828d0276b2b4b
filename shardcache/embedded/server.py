"""One local server process, and what can be done to it."""

import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from shardcache.embedded.process_guard import ProcessGuard
from shardcache.errors import InvalidOption, ServerNotStarted

__all__ = ("LocalServer",)

BASE = ("daemonize no", 'save ""', "appendonly no", "protected-mode yes", 'logfile ""')
MAX_SOCKET_PATH = (
    103  # bytes: sun_path holds 104 on macOS and the BSDs, 108 on Linux, with a final zero
)
PORTS_TRIED = 5
POLL = 0.002  # seconds between two looks at a server that comes up
PROBE = 0.5  # seconds for its answer to one of them
LOG_LINES = 12
_PROCESS_ID = re.compile(rb"process_id:(\d+)\r\n")
_OPTION = re.compile(r"[a-z][a-z0-9-]*\Z")


class LocalServer:
    """A Valkey or Redis server without persistence, on a Unix socket or a port of 127.0.0.1.

    Made by `LocalShards`. Its address stays the same over `kill`, `stop` and `start`; its data do
    not outlive its process. The methods may be called from any thread. In a forked child the
    server can be used, and all that would change it raises `ServerNotStarted`.
    """

    def __init__(
        self,
        name: str,
        process_guard: ProcessGuard,
        binary: str,
        *,
        tcp: bool = False,
        port: int | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._process_guard = process_guard
        self._directory = process_guard.path / name
        self._command = [binary, str(self._directory / "config")]
        self._options = tuple(_line(key, value) for key, value in (options or {}).items())
        self._socket = "" if tcp else _socket_path(self._directory / "socket")
        self._port = (port or process_guard.reserve_port()) if tcp else 0
        self._settled = (
            not tcp or port is not None
        )  # whether the address has been announced, and so must not change
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False
        self._log_start = 0
        self._lock = threading.RLock()
        self._directory.mkdir()

    @property
    def url(self) -> str:
        """The address as a URL, for any Redis client."""
        return (
            f"unix://{quote(self._socket)}?db=0"
            if self._socket
            else f"redis://127.0.0.1:{self._port}/0"
        )

    @property
    def pid(self) -> int | None:
        """The process id, or None while it does not run."""
        process = self._process
        return process.pid if process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether the process lives, paused or not; in a forked child: whether it lived at the fork."""
        process = self._process
        if process is None:
            return False
        return (process.returncode if self._process_guard.foreign else process.poll()) is None

    def start(self, *, timeout: float = 10.0) -> None:
        """Start the server and wait until it answers. One that runs is left as it is.

        Raise `ServerNotStarted`, with the end of the server's log, if it does not within ``timeout`` seconds.
        """
        self.launch()
        self.wait(timeout=timeout)

    def launch(self) -> None:
        """Start the process and return without waiting, so that several can come up at once."""
        with self._lock:
            self._check()
            if self.running:
                return
            # The socket's path is relative to the server's own directory: no quoting of odd characters.
            listen = (
                ("port 0", "unixsocket socket")
                if self._socket
                else (f"port {self._port}", "bind 127.0.0.1")
            )
            (self._directory / "config").write_text(
                "\n".join((*BASE, *listen, *self._options, "")), encoding="utf-8"
            )
            with self._log.open("ab") as log:
                self._log_start = log.tell()
                self._process = self._process_guard.spawn(self._command, self._directory, log)
            self._paused = False

    def wait(self, *, timeout: float = 10.0) -> None:
        """Wait until the launched process itself answers at its address."""
        deadline = time.monotonic() + timeout
        ports = 1
        while not self._answers():
            if not self.running:
                if self._settled or ports == PORTS_TRIED or "in use" not in self._log_tail():
                    raise ServerNotStarted(
                        f"server {self.name!r} ended at its start; {self._log_tail()}"
                    )
                ports += 1
                self._port = self._process_guard.reserve_port()
                self.launch()
            elif time.monotonic() > deadline:
                tail = self._log_tail()
                self.kill()
                raise ServerNotStarted(
                    f"server {self.name!r} did not answer within {timeout:.1f} s; {tail}"
                )
            time.sleep(POLL)
        self._settled = True

    def stop(self, *, timeout: float = 5.0) -> None:
        """End the server as an operator would (SIGTERM), or kill it if it is not gone in ``timeout`` seconds."""
        with self._lock:
            self._check()
            if self._process is None:
                return
            self.resume()
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout)
            self.kill()

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL); it is gone when this returns. Not running: nothing."""
        with self._lock:
            self._check()
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            self._paused = False

    def restart(self, *, timeout: float = 10.0) -> None:
        """Kill the server if it runs, and start it again, empty, at the same address."""
        with self._lock:
            self.kill()
            self.start(timeout=timeout)

    def pause(self) -> None:
        """Freeze the server (SIGSTOP): connections stay open and nothing is answered. Frozen when this returns."""
        with self._lock:
            self._check()
            if self._process is None or not self.running or self._paused:
                return
            self._process.send_signal(signal.SIGSTOP)
            self._paused = self._stands_still(self._process)

    def _stands_still(self, process: "subprocess.Popen[bytes]") -> bool:
        """Wait until a process has got its SIGSTOP, which is some time later; return whether it did, or had ended before.

        Where the kernel shows it, by looking: gevent takes the report that waitpid() would wait for.
        """
        tasks = Path(f"/proc/{process.pid}/task")
        if not tasks.is_dir():
            with suppress(ChildProcessError):
                _, status = os.waitpid(process.pid, os.WUNTRACED)
                if not os.WIFSTOPPED(
                    status
                ):  # it ended first, and this call has collected its status
                    process.returncode = os.waitstatus_to_exitcode(status)
                return os.WIFSTOPPED(status)
            return False
        while process.poll() is None:
            with suppress(OSError):  # a thread of it, or all of it, has just ended
                states = {
                    (task / "stat").read_text().rpartition(")")[2].split()[0]
                    for task in tasks.iterdir()
                }
                if states == {"T"}:
                    return True
            time.sleep(POLL)
        return False

    def resume(self) -> None:
        """Let a paused server go on (SIGCONT); it first answers all that it was sent meanwhile."""
        with self._lock:
            self._check()
            if self._process is not None:
                self._process.send_signal(signal.SIGCONT)
            self._paused = False

    def __repr__(self) -> str:
        state = "paused" if self._paused else "running" if self.running else "not running"
        return f"<LocalServer {self.name!r} at {self.url} {state}>"

    @property
    def _log(self) -> Path:
        return self._directory / "log"

    def _check(self) -> None:
        if self._process_guard.foreign:
            raise ServerNotStarted(
                f"server {self.name!r} belongs to process {self._process_guard.owner}, which forked this one"
            )
        if self._process_guard.closed:
            raise ServerNotStarted(f"server {self.name!r} is closed for good")

    def _answers(self) -> bool:
        """Whether our own process answers: on a port, somebody else's might, or might be silent."""
        family = socket.AF_UNIX if self._socket else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe, suppress(OSError):
            probe.settimeout(PROBE)
            probe.connect(self._socket or ("127.0.0.1", self._port))
            probe.sendall(b"INFO server\r\n")
            reply = b""
            while chunk := probe.recv(65536):
                reply += chunk
                if reply.startswith((b"-NOAUTH", b"-NOPERM")):  # options may ask for a password
                    return self.running
                if found := _PROCESS_ID.search(reply):
                    return int(found[1]) == self.pid
        return False

    def _log_tail(self) -> str:
        try:
            with self._log.open("rb") as log:
                log.seek(self._log_start)
                lines = log.read().decode(errors="replace").splitlines()
        except OSError as error:
            return f"its log cannot be read: {error}"
        return "the end of its log:\n" + "\n".join(lines[-LOG_LINES:])


def _line(key: str, value: str) -> str:
    if (
        not (isinstance(key, str) and _OPTION.match(key))
        or not isinstance(value, str)
        or "\n" in value
    ):
        raise InvalidOption(
            f"options must map names to values as in a line of valkey.conf, such as {{'maxmemory': '64mb'}}, "
            f"got {key!r:.80}: {value!r:.80}"
        )
    return f"{key} {value}"


def _socket_path(path: Path) -> str:
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_PATH:
        raise InvalidOption(
            f"the path of a Unix socket may have {MAX_SOCKET_PATH} bytes, {str(path)!r} has {length}: "
            "give a shorter directory, or tcp=True"
        )
    return str(path)
