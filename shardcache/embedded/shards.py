"""Several local servers, independent of each other, which start and end together."""

import os
from collections.abc import Mapping

from shardcache.embedded.server_group import ServerGroup, check_count, joined
from shardcache.errors import InvalidOption

__all__ = ("LocalShards",)

MAX_SHARDS = 64


class LocalShards(ServerGroup):
    """Local Valkey or Redis servers, as a context manager; they need no set-up.

    ``shards``: how many servers, 1 to 64; default 3.
    ``tcp``: True for ports of 127.0.0.1, False (default) for Unix sockets that only this user can
        reach.
    ``port``: with ``tcp``, the port of the first server, from 1; the others have the next ones.
        None (default) for free ports.
    ``directory``: where to make a directory for sockets and logs; nothing is written elsewhere.
        None (default) for the system's temporary directory.
    ``options``: further lines of valkey.conf, such as ``{"maxmemory": "64mb"}``; None (default) for
        none.
    ``binary``: the path of the server program; None (default) for that of `find_server`.
    ``timeout``: seconds that the start of all servers may take; default 10.

    Servers and directory are gone when `close` returns, or when nothing refers to the object any
    more. If this process ends in any other way, also by SIGKILL, they are gone soon after. A forked
    child can use the servers, and never ends them.

    Raises `InvalidOption` for a wrong argument. `start` raises `ServerNotStarted`, with the
    server's log.
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
        self._count = check_count("shards", shards, 1, MAX_SHARDS)
        super().__init__(directory=directory, options=options, binary=binary, timeout=timeout)
        if port is not None and not (
            tcp
            and isinstance(port, int)
            and not isinstance(port, bool)
            and 0 < port <= 65536 - shards
        ):
            raise InvalidOption(
                f"port must be a whole number from 1 to {65536 - shards} for {shards} servers, "
                f"with tcp=True, got {port!r:.80}"
            )
        self._port = port
        self._tcp = tcp

    @property
    def url(self) -> str:
        """All servers as one URL, with their names, for `ShardCache.from_url`."""
        return joined(self.urls)

    def _start(self, deadline: float) -> None:
        servers = tuple(
            self._server(
                f"shard-{number}",
                self._options,
                tcp=self._tcp,
                port=None if self._port is None else self._port + number - 1,
            )
            for number in range(1, self._count + 1)
        )
        self._launch(servers, deadline)
