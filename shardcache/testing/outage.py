"""Outages of one shard, each for the length of a ``with`` block."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from shardcache.errors import InvalidOption
from shardcache.testing.faults import Delay, Stall
from shardcache.testing.shard_set import ShardSet

__all__ = ("ShardOutage",)


class ShardOutage:
    """What can happen to a shard. At the end of each block the shard is reachable again.

    ``shards``: the servers.

    A client that took it for out notices that with its next probe, 0.1 to 2 seconds later. Each
    method raises `InvalidOption` for a name that no shard has.
    """

    def __init__(self, shards: ShardSet) -> None:
        self._shards = shards

    @contextmanager
    def kill(self, name: str) -> Iterator[None]:
        """Kill the server: connections break, new ones are refused. It comes back empty.

        ``name``: the shard.
        """
        server, proxy = self._shards.server(name), self._shards.proxy(name)
        proxy.down()
        server.kill()
        try:
            yield
        finally:
            server.restart()
            proxy.up()

    @contextmanager
    def pause(self, name: str) -> Iterator[None]:
        """Pause the server: it takes connections, and answers nothing. It keeps its data.

        ``name``: the shard.

        What it was sent meanwhile it does at the end of the block.
        """
        server = self._shards.server(name)
        server.pause()
        try:
            yield
        finally:
            server.resume()

    @contextmanager
    def cut_off(self, name: str) -> Iterator[None]:
        """Cut the network: nothing that is sent arrives, and nobody is told so.

        ``name``: the shard.

        The server goes on, and keeps its data. What was sent meanwhile arrives at the end of the
        block, as TCP would send it again.
        """
        proxy = self._shards.proxy(name)
        proxy.set(Stall(on="request"))
        try:
            yield
        finally:
            proxy.clear()

    @contextmanager
    def slow(self, name: str, seconds: float) -> Iterator[None]:
        """Delay each reply of the server.

        ``name``: the shard.
        ``seconds``: by how many seconds, above 0.
        """
        if (
            isinstance(seconds, bool)
            or not isinstance(seconds, (int, float))
            or not 0 < seconds < math.inf
        ):
            raise InvalidOption(f"seconds must be a number above 0, got {seconds!r:.80}")
        proxy = self._shards.proxy(name)
        proxy.set(Delay(seconds))
        try:
            yield
        finally:
            proxy.clear()
