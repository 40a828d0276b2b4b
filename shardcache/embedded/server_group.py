"""Local servers that start together and end together: what all kinds of such groups share."""

import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Self
from urllib.parse import urlsplit

from shardcache.embedded.process_guard import ProcessGuard
from shardcache.embedded.server import LocalServer
from shardcache.embedded.server_program import find_server
from shardcache.errors import InvalidOption, ServerNotStarted, ShardError

__all__ = ("ServerGroup", "check_count", "joined")

POLL = 0.02  # seconds between two looks at servers that are not ready
SHORT = 64  # bytes: a longer directory leaves no room for our own names in the path of a socket


def check_count(name: str, value: object, least: int, most: int) -> int:
    """Return ``value`` if it is a whole number from ``least`` to ``most``.

    Raises `InvalidOption`, which says what ``name`` must be.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidOption(
            f"{name} must be a whole number from {least} to {most}, got {value!r:.80}"
        )
    return value


def joined(urls: Mapping[str, str]) -> str:
    """Return several servers as one URL, with their names, for `ShardCache.from_url`.

    ``urls``: the URL of each server by its name.
    """
    return ",".join(
        f"{url}{'&' if urlsplit(url).query else '?'}name={name}" for name, url in urls.items()
    )


class ServerGroup:
    """Local servers as a context manager. A subclass says which servers, and how they are joined.

    ``directory``, ``options``, ``binary``, ``timeout``: as for `LocalShards`.
    """

    def __init__(
        self,
        *,
        directory: str | os.PathLike[str] | None,
        options: Mapping[str, str] | None,
        binary: str | None,
        timeout: float,
    ) -> None:
        if directory is not None and not os.path.isdir(directory):
            raise InvalidOption(f"directory must be a directory that exists, got {directory!r}")
        self._parent = (
            _short_directory() if directory is None else os.path.abspath(os.fspath(directory))
        )
        self._options = dict(options or {})
        self._binary = binary
        self._program = ""
        self._timeout = timeout
        self._process_guard: ProcessGuard | None = None
        self._servers: tuple[LocalServer, ...] = ()

    @property
    def servers(self) -> tuple[LocalServer, ...]:
        """The servers, in the order of their numbers; none before `start` and after `close`."""
        return self._servers

    @property
    def urls(self) -> dict[str, str]:
        """The URL of each server by its name."""
        return {server.name: server.url for server in self._servers}

    @property
    def directory(self) -> str | None:
        """The directory of sockets and logs; None while the servers are not up."""
        return str(self._process_guard.path) if self._process_guard else None

    def start(self) -> Self:
        """Start all servers at once, and wait until they are ready; do nothing if they are up.

        Raises `ServerNotStarted`, with the server's log, if they are not ready in time.
        """
        # The guard comes first: from here on everything ends with this process.
        if self._process_guard is None:
            self._program = self._binary or find_server()
            deadline = time.monotonic() + self._timeout
            self._process_guard = ProcessGuard(self._parent)
            try:
                self._start(deadline)
            except BaseException:
                self.close()
                raise
        return self

    def _start(self, deadline: float) -> None:
        """Start all servers, and have them ready by the deadline (of `time.monotonic`)."""
        raise NotImplementedError

    def _server(
        self,
        name: str,
        options: Mapping[str, str],
        *,
        tcp: bool,
        port: int | None = None,
        cluster: bool = False,
        sentinel: Sequence[str] | None = None,
        keep_config: bool = False,
    ) -> LocalServer:
        """Return a new server of this group, which does not run yet."""
        if self._process_guard is None:
            raise ServerNotStarted(f"{self!r} has to be started before it gets one more server")
        return LocalServer(
            name,
            self._process_guard,
            self._program,
            tcp=tcp,
            port=port,
            cluster=cluster,
            sentinel=sentinel,
            keep_config=keep_config,
            options=options,
        )

    def _launch(self, servers: tuple[LocalServer, ...], deadline: float) -> None:
        """Start these servers at once; each may use what is left of the time."""
        self._servers += servers
        for server in servers:
            server.launch()
        for server in servers:
            server.wait(timeout=max(0.0, deadline - time.monotonic()))

    def _answering(self) -> list[LocalServer]:
        """Return the servers that should answer: those that run and are not paused."""
        return [server for server in self._servers if server.running and not server.paused]

    def _until(self, missing: Callable[[], str | None], deadline: float) -> None:
        """Wait until nothing is missing. A server that does not answer is something missing.

        Raises `ServerNotStarted`, which says what was missing last, at the deadline.
        """
        while True:
            try:
                reason = missing()
            except ShardError as error:
                reason = str(error)
            if reason is None:
                return
            if time.monotonic() > deadline:
                raise ServerNotStarted(f"the local servers were not ready in time: {reason}")
            time.sleep(POLL)

    def close(self) -> None:
        """End the servers, and remove their directory.

        A second call does nothing, and neither does a call in a forked child.
        """
        if self._process_guard is not None and not self._process_guard.foreign:
            self._process_guard.close()
            self._process_guard, self._servers = None, ()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        servers = ", ".join(f"{server.name} at {server.url}" for server in self._servers)
        return f"<{type(self).__name__} {servers or 'not started'}>"


def _short_directory() -> str:
    """Return the system's temporary directory, or /tmp if its path is too long for a socket.

    Some sandboxes have such long paths.
    """
    usual = tempfile.gettempdir()
    short = "/tmp"  # noqa: S108  the fall-back, where `tempfile` then makes a private directory
    return usual if len(os.fsencode(usual)) <= SHORT or not os.access(short, os.W_OK) else short
