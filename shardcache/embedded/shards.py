"""Several local servers, started together and gone together."""

import os
import tempfile
import time
from collections.abc import Mapping
from typing import Self
from urllib.parse import urlsplit

from shardcache.embedded.process_guard import ProcessGuard
from shardcache.embedded.server import LocalServer
from shardcache.embedded.server_program import find_server
from shardcache.errors import InvalidOption

__all__ = ("LocalShards",)

MAX_SHARDS = 64
SHORT = 64  # bytes: a directory up to this leaves room for our own names in the path of a socket


class LocalShards:
    """``shards`` Valkey servers of this machine, as a context manager; they need no set-up.

    They listen on Unix sockets that only this user can reach, or with ``tcp=True`` on ports of
    127.0.0.1 that the system gives. Nothing is written but to a new directory under ``directory``
    (default: the system's temporary one). ``options`` are further lines of valkey.conf, such as
    ``{"maxmemory": "64mb"}``; ``port``, with ``tcp``, is the first server's, and the others have the next ones; ``binary`` is the server program (default: see `find_server`);
    ``timeout`` the seconds that the start may take in all.

    Servers and directory are gone when `close` returns or nothing refers to them any more, and soon
    after this process ends in any other way, by SIGKILL too. A forked child can use the servers; it never ends them.
    Raises `InvalidOption` for a wrong argument, `ServerNotStarted` with the server's log from `start`.
    """

    def __init__(
        self,
        shards: int = 3,
        *,
        tcp: bool = False,
        port: int | None = None,
        directory: str | os.PathLike[str] | None = None,
        options: Mapping[str, str] | None = None,
        binary: str | None = None,
        timeout: float = 10.0,
    ) -> None:
        if isinstance(shards, bool) or not isinstance(shards, int) or not 1 <= shards <= MAX_SHARDS:
            raise InvalidOption(
                f"shards must be a whole number from 1 to {MAX_SHARDS}, got {shards!r:.80}"
            )
        if directory is not None and not os.path.isdir(directory):
            raise InvalidOption(f"directory must be a directory that exists, got {directory!r}")
        if port is not None and not (
            tcp
            and isinstance(port, int)
            and not isinstance(port, bool)
            and 0 < port <= 65536 - shards
        ):
            raise InvalidOption(
                f"port must be a whole number from 1 to {65536 - shards} for {shards} servers, with tcp=True, got {port!r:.80}"
            )
        self._count = shards
        self._port = port
        self._tcp = tcp
        self._parent = (
            _short_directory() if directory is None else os.path.abspath(os.fspath(directory))
        )
        self._options = dict(options or {})
        self._binary = binary
        self._timeout = timeout
        self._process_guard: ProcessGuard | None = None
        self._servers: tuple[LocalServer, ...] = ()

    @property
    def servers(self) -> tuple[LocalServer, ...]:
        """The servers, in the order of their numbers; none before `start` and after `close`."""
        return self._servers

    @property
    def urls(self) -> dict[str, str]:
        """Name to URL: ``{"shard-1": "unix:///…", …}``."""
        return {server.name: server.url for server in self._servers}

    @property
    def url(self) -> str:
        """All shards as one text to paste, names included."""
        return ",".join(
            f"{url}{'&' if urlsplit(url).query else '?'}name={name}"
            for name, url in self.urls.items()
        )

    @property
    def directory(self) -> str | None:
        """Where sockets and logs are, while the servers are up."""
        return str(self._process_guard.path) if self._process_guard else None

    def start(self) -> Self:
        """Start all servers at once and wait until each answers. Does nothing while they are up."""
        if self._process_guard is None:
            binary = self._binary or find_server()
            deadline = time.monotonic() + self._timeout
            self._process_guard = ProcessGuard(self._parent)
            try:
                self._servers = tuple(
                    LocalServer(
                        f"shard-{number}",
                        self._process_guard,
                        binary,
                        tcp=self._tcp,
                        port=None if self._port is None else self._port + number - 1,
                        options=self._options,
                    )
                    for number in range(1, self._count + 1)
                )
                for server in self._servers:
                    server.launch()
                for server in self._servers:
                    server.wait(timeout=max(0.0, deadline - time.monotonic()))
            except BaseException:
                self.close()
                raise
        return self

    def close(self) -> None:
        """End the servers and remove their directory. Twice is once; in a forked child: nothing happens."""
        if self._process_guard is not None and not self._process_guard.foreign:
            self._process_guard.close()
            self._process_guard, self._servers = None, ()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<LocalShards {', '.join(f'{name} at {url}' for name, url in self.urls.items()) or 'not started'}>"


def _short_directory() -> str:
    """The system's temporary directory, unless its name is too long to hold a socket (as inside some sandboxes)."""
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) <= SHORT or not os.access("/tmp", os.W_OK) else "/tmp"  # noqa: S108
