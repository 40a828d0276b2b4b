"""Servers for a run of tests, each behind a proxy, so that each can fail in any way."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from types import TracebackType
from typing import Protocol, Self, TypeVar

import redis

from shardcache.embedded import LocalShards
from shardcache.embedded.server_group import check_count, joined
from shardcache.embedded.shards import MAX_SHARDS
from shardcache.errors import InvalidOption
from shardcache.testing.container import DEFAULT_IMAGE, ContainerServer
from shardcache.testing.proxy import FaultProxy

__all__ = ("ENGINES", "ServerUnderTest", "ShardSet")

ENGINES = ("embedded", "containers")
T = TypeVar("T")


class ServerUnderTest(Protocol):
    """A server that tests kill, pause and start again."""

    @property
    def name(self) -> str:
        """The name of the shard."""

    @property
    def url(self) -> str:
        """The URL of the server itself, without the proxy."""

    def kill(self) -> None:
        """End the server as a crash would."""

    def restart(self) -> None:
        """Start the server again, empty, at the same address."""

    def pause(self) -> None:
        """Let the server answer nothing."""

    def resume(self) -> None:
        """Let the server go on."""


class ShardSet:
    """Some servers and their proxies, as a context manager.

    ``shards``: how many, 1 to 64; default 3.
    ``engine``: "embedded" (default) for `LocalShards`, "containers" for containers.
    ``image``: with containers, the image; default `DEFAULT_IMAGE`.

    Clients are given `urls`. All servers are on 127.0.0.1, and end with the block. Raises
    `InvalidOption` for a wrong argument, `ServerNotStarted` if a server cannot be had.
    """

    def __init__(self, shards: int = 3, *, engine: str = "embedded", image: str = "") -> None:
        self._count = check_count("shards", shards, 1, MAX_SHARDS)
        if engine not in ENGINES:
            raise InvalidOption(f"engine must be one of {', '.join(ENGINES)}, got {engine!r:.80}")
        if image and engine != "containers":
            raise InvalidOption(f"an image is for containers, and the engine is {engine!r}")
        self._engine = engine
        self._image = image or DEFAULT_IMAGE
        self._stack = ExitStack()
        self._servers: dict[str, ServerUnderTest] = {}
        self._proxies: dict[str, FaultProxy] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self._engine == "embedded":
                local = stack.enter_context(LocalShards(self._count))
                self._servers = {server.name: server for server in local.servers}
            else:
                self._servers = {
                    server.name: server
                    for server in (
                        stack.enter_context(closing(self._container(number)))
                        for number in range(1, self._count + 1)
                    )
                }
            self._proxies = {
                name: stack.enter_context(FaultProxy(server.url))
                for name, server in self._servers.items()
            }
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the shards."""
        return tuple(self._servers)

    @property
    def urls(self) -> dict[str, str]:
        """The URL of each shard by its name, for a client."""
        return {name: proxy.url for name, proxy in self._proxies.items()}

    @property
    def url(self) -> str:
        """All shards as one URL, with their names, for the settings of an application."""
        return joined(self.urls)

    def server(self, name: str) -> ServerUnderTest:
        """Return a server; raise `InvalidOption` if there is none of this name.

        ``name``: its name.
        """
        return self._known(self._servers, name)

    def proxy(self, name: str) -> FaultProxy:
        """Return the proxy of a server; raise `InvalidOption` if there is none of this name.

        ``name``: the server's name.
        """
        return self._known(self._proxies, name)

    def empty(self) -> None:
        """Remove all faults, and all keys (FLUSHALL)."""
        for name, proxy in self._proxies.items():
            proxy.clear()
            proxy.up()
            self.do(name, lambda client: client.flushall())

    def do(self, name: str, action: Callable[["redis.Redis"], object]) -> None:
        """Do something with a server itself, without the proxy.

        ``name``: the server's name.
        ``action``: gets a client of redis-py.
        """
        with redis.Redis.from_url(self.server(name).url) as client:
            action(client)

    def _container(self, number: int) -> ContainerServer:
        program = "redis-server" if "redis" in self._image else "valkey-server"
        return ContainerServer(f"shard-{number}", self._image, program)

    def _known(self, known: dict[str, T], name: str) -> T:
        try:
            return known[name]
        except (KeyError, TypeError):
            raise InvalidOption(
                f"there is no shard {name!r:.80}; there are {', '.join(known) or 'none'}"
            ) from None
