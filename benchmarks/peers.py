"""The floor under every client: one connection and hiredis, all decisions made before."""

import asyncio
from collections.abc import Sequence

from shardcache.bench.peers.bare_protocol import BareProtocol
from shardcache.bench.peers.bare_socket import BareSocket, pack

__all__ = ("Bare", "BarePipe", "bare_get_many", "bare_set_many")


class Bare(BareSocket):
    """One connection to one server, asked for bytes."""

    def get(self, key: bytes) -> object:
        self.send(pack((b"GET", key)))
        return self.reply()

    def set(self, key: bytes, value: bytes, ms: int) -> object:
        self.send(pack((b"SET", key, value, b"PX", ms)))
        return self.reply()


class BarePipe(BareProtocol):
    """One connection that all tasks share: it has no deadline and knows no health of a shard."""

    def get(self, key: bytes) -> "asyncio.Future[object]":
        return self.send(b"GET", key)


def bare_get_many(groups: Sequence[tuple[Bare, Sequence[bytes]]]) -> list[object]:
    """Write an MGET to all servers, then read from all; keys come grouped, values are bytes."""
    for link, keys in groups:
        link.send(pack((b"MGET", *keys)))
    return [link.reply() for link, _ in groups]


def bare_set_many(
    groups: Sequence[tuple[Bare, Sequence[bytes]]], value: bytes, ms: int
) -> list[list[object]]:
    """Write the SETs of all servers, then read all replies."""
    for link, keys in groups:
        link.send(b"".join([pack((b"SET", key, value, b"PX", ms)) for key in keys]))
    return [link.replies(len(keys)) for link, keys in groups]
