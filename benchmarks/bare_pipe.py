"""The floor of asyncio: one connection that all tasks share, and nothing else."""

import asyncio

from shardcache.bench.peers.bare_protocol import BareProtocol

__all__ = ("BarePipe",)


class BarePipe(BareProtocol):
    """The floor: it has no deadline and knows no health of a shard."""

    def get(self, key: bytes) -> "asyncio.Future[object]":
        return self.send(b"GET", key)
