"""One local server process, which can be started, paused and killed."""

import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from shardcache.embedded.process_guard import ProcessGuard
from shardcache.errors import InvalidOption, ServerNotStarted

__all__ = ("LocalServer",)

BASE = ("daemonize no", 'save ""', "appendonly no", "protected-mode yes", 'logfile ""')
# Bytes. With a final zero, sun_path has 104 bytes on macOS and the BSDs, and 108 on Linux.
MAX_SOCKET_PATH = 103
PORTS_TRIED = 5
POLL = 0.002  # seconds between two looks at a server that is starting
PROBE = 0.5  # seconds that the server has for its answer to one of them
LOG_LINES = 12  # how many lines of the log an error shows
_PROCESS_ID = re.compile(rb"process_id:(\d+)\r\n")
_TAKEN = re.compile(r":(\d+): bind: Address already in use")
_OPTION = re.compile(r"[a-z][a-z0-9-]*\Z")


class LocalServer:
    """A Valkey or Redis server without persistence, on a Unix socket or a port of 127.0.0.1.

    ``name``: the name of the node.
    ``process_guard``: ends the server with this process; its directory has a new one for the
        server.
    ``binary``: the path of the server program.
    ``tcp``: True for a port of 127.0.0.1, False (default) for a Unix socket.
    ``port``: with ``tcp``, the port; None (default) for a free one.
    ``cluster``: whether it is a node of a cluster, with ``tcp``; default False.
    ``sentinel``: the lines of its configuration that only a Sentinel has, with ``tcp``; None
        (default): it is none.
    ``keep_config``: True if the server changes its own configuration, which then outlives its
        process; False (default) to write it anew at each start.
    ``options``: further lines of valkey.conf, from name to value; None (default) for none.

    `LocalShards`, `LocalCluster` and `LocalSentinels` make it. Its address stays the same over
    `kill`, `stop` and `start`; its data end with its process. The methods may be called from any
    thread. A forked child can use the server; all methods that would change it raise
    `ServerNotStarted` there.

    Raises `InvalidOption` for a wrong option, or if the path of the socket would be too long.
    """

    def __init__(
        self,
        name: str,
        process_guard: ProcessGuard,
        binary: str,
        *,
        tcp: bool = False,
        port: int | None = None,
        cluster: bool = False,
        sentinel: Sequence[str] | None = None,
        keep_config: bool = False,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._process_guard = process_guard
        self._directory = process_guard.path / name
        self._cluster = cluster
        self._config = self._directory / "config"
        self._keep_config = keep_config
        self._command = [binary, str(self._config), *(() if sentinel is None else ("--sentinel",))]
        self._options = (
            *(_line(key, value) for key, value in (options or {}).items()),
            *(sentinel or ()),
        )
        self._socket = "" if tcp else _socket_path(self._directory / "socket")
        self._port = (port or self._free_port()) if tcp else 0
        # Whether the address is known to others, and so must not change any more.
        self._settled = not tcp or port is not None
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
        """Whether the process lives, paused or not; in a forked child, whether it did at fork."""
        process = self._process
        if process is None:
            return False
        return (process.returncode if self._process_guard.foreign else process.poll()) is None

    @property
    def paused(self) -> bool:
        """Whether it is paused, by `pause`."""
        return self._paused

    @property
    def port(self) -> int:
        """Its port of 127.0.0.1; 0 if it listens on a Unix socket."""
        return self._port

    def start(self, *, timeout: float = 10.0) -> None:
        """Start the server, and wait until it answers; a server that runs stays as it is.

        ``timeout``: seconds to wait; default 10.

        Raises `ServerNotStarted`, with the end of the server's log, if it does not answer in time.
        """
        self.launch()
        self.wait(timeout=timeout)

    def launch(self) -> None:
        """Start the process and return without waiting, so that several can come up at once."""
        with self._lock:
            self._check()
            if self.running:
                return
            if not (self._keep_config and self._settled):
                self._write_config()
            with self._log.open("ab") as log:
                self._log_start = log.tell()
                self._process = self._process_guard.spawn(self._command, self._directory, log)
            self._paused = False

    def _write_config(self) -> None:
        # The socket's path is relative to the server's directory, so it needs no quoting.
        listen = (
            ("port 0", "unixsocket socket")
            if self._socket
            else (f"port {self._port}", "bind 127.0.0.1")
        )
        cluster = ("cluster-enabled yes",) if self._cluster else ()
        self._config.write_text(
            "\n".join((*BASE, *listen, *cluster, *self._options, "")), encoding="utf-8"
        )

    def wait(self, *, timeout: float = 10.0) -> None:
        """Wait until the launched process itself answers at its address.

        ``timeout``: seconds to wait; default 10.

        Raises `ServerNotStarted`, with the end of the server's log, if it does not answer in time.
        """
        # A process that ended may have met another program on its port: then try another port,
        # unless the address is known to others already.
        deadline = time.monotonic() + timeout
        ports = 1
        while not self._answers():
            if not self.running:
                tail = self._log_tail()
                if self._settled or ports == PORTS_TRIED or "in use" not in tail:
                    taken = _TAKEN.search(tail)
                    why = tail if taken is None else f"port {taken[1]} is in use by another program"
                    raise ServerNotStarted(f"server {self.name!r} ended at its start; {why}")
                ports += 1
                self._port = self._free_port()
                self.launch()
            # A process that lives and does not answer in time is killed.
            elif time.monotonic() > deadline:
                tail = self._log_tail()
                self.kill()
                raise ServerNotStarted(
                    f"server {self.name!r} did not answer within {timeout:.1f} s; {tail}"
                )
            time.sleep(POLL)
        self._settled = True

    def stop(self, *, timeout: float = 5.0) -> None:
        """End the server as an operator would (SIGTERM).

        ``timeout``: seconds until it is killed if it still runs; default 5.
        """
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
        """End the server as a crash would (SIGKILL).

        The process is gone when this returns. A server that does not run stays as it is.
        """
        with self._lock:
            self._check()
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            self._paused = False

    def restart(self, *, timeout: float = 10.0) -> None:
        """Kill the server if it runs, and start it again, empty, at the same address.

        ``timeout``: seconds to wait until it answers; default 10.

        Raises `ServerNotStarted` as `start` does.
        """
        with self._lock:
            self.kill()
            self.start(timeout=timeout)

    def pause(self) -> None:
        """Pause the server (SIGSTOP): connections stay open, and nothing is answered.

        The process is paused when this returns.
        """
        with self._lock:
            self._check()
            if self._process is None or not self.running or self._paused:
                return
            self._process.send_signal(signal.SIGSTOP)
            self._paused = self._stands_still(self._process)

    def _stands_still(self, process: "subprocess.Popen[bytes]") -> bool:
        """Wait until a process has stopped; return whether it did, or had ended before.

        A signal takes effect some time after it was sent. Where there is /proc, this looks there,
        because gevent takes the report that waitpid() would wait for.
        """
        tasks = Path(f"/proc/{process.pid}/task")
        if not tasks.is_dir():
            with suppress(ChildProcessError):
                _, status = os.waitpid(process.pid, os.WUNTRACED)
                # If it ended first, this call has collected its status.
                if not os.WIFSTOPPED(status):
                    process.returncode = os.waitstatus_to_exitcode(status)
                return os.WIFSTOPPED(status)
            return False
        while process.poll() is None:
            with suppress(OSError):  # the process, or a thread of it, has just ended
                states = {
                    (task / "stat").read_text().rpartition(")")[2].split()[0]
                    for task in tasks.iterdir()
                }
                if states == {"T"}:
                    return True
            time.sleep(POLL)
        return False

    def resume(self) -> None:
        """Let a paused server go on (SIGCONT); it first answers what it was sent meanwhile."""
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

    def _free_port(self) -> int:
        if self._cluster:
            return self._process_guard.reserve_cluster_port()
        return self._process_guard.reserve_port()

    def _check(self) -> None:
        if self._process_guard.foreign:
            raise ServerNotStarted(
                f"server {self.name!r} belongs to process {self._process_guard.owner}, which "
                "forked this one"
            )
        if self._process_guard.closed:
            raise ServerNotStarted(f"server {self.name!r} is closed for good")

    def _answers(self) -> bool:
        """Whether our own process answers: on a port, another program might answer or be silent."""
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
            f"options must map names to values as in a line of valkey.conf, such as {{'maxmemory': "
            f"'64mb'}}, got {key!r:.80}: {value!r:.80}"
        )
    return f"{key} {value}"


def _socket_path(path: Path) -> str:
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_PATH:
        raise InvalidOption(
            f"the path of a Unix socket may have {MAX_SOCKET_PATH} bytes, {str(path)!r} has "
            f"{length}: give a shorter directory, or tcp=True"
        )
    return str(path)
