"""The floor under asyncio clients: one write for all commands of a turn, and hiredis."""

import asyncio
from collections import deque
from typing import Any
from zlib import crc32

import hiredis

from shardcache.bench.peers.peer import Calls, Peer
from shardcache.bench.scenarios.case import Case
from shardcache.bench.scenarios.servers import Addresses
from shardcache.bench.scenarios.values import raw_codec
from shardcache.urls import parse_url

__all__ = ("PEER", "BareProtocol")

MS = b"300000"
pack: Any = hiredis.pack_command  # its types allow one item only


class BareProtocol(asyncio.Protocol):
    """Futures resolve in the order of their commands. It has no deadline and checks nothing."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._out: list[bytes] = []

    @classmethod
    async def to(cls, url: str) -> "BareProtocol":
        """Connect to a server."""
        address = parse_url(url).address
        loop = asyncio.get_running_loop()
        if address.path:
            return (await loop.create_unix_connection(cls, address.path))[1]
        return (await loop.create_connection(cls, address.host, address.port))[1]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def send(self, *command: bytes) -> "asyncio.Future[Any]":
        """Return the future of a reply."""
        return self.send_packed(pack(command))

    def send_packed(self, command: bytes) -> "asyncio.Future[Any]":
        """Return the future of the reply to a command as it is sent."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append(future)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(command)
        return future

    def _flush(self) -> None:
        self.transport.write(b"".join(self._out))
        self._out.clear()

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            self._waiting.popleft().set_result(reply)


async def _open(at: Addresses, case: Case) -> Calls:
    links = [await BareProtocol.to(url) for url in at.urls.values()]
    encode, _ = raw_codec(case)

    def owner(wire: bytes) -> BareProtocol:
        return links[crc32(wire) % len(links)] if len(links) > 1 else links[0]

    def get(key: str) -> "asyncio.Future[Any]":
        wire = key.encode()
        return owner(wire).send(b"GET", wire)

    def set_(key: str, value: Any) -> "asyncio.Future[Any]":
        wire = key.encode()
        return owner(wire).send(b"SET", wire, encode(value), b"PX", MS)

    def incr(key: str) -> "asyncio.Future[Any]":
        wire = key.encode()
        return owner(wire).send(b"INCRBY", wire, b"1")

    # What is prepared is grouped and packed.
    async def get_many(groups: list[tuple[BareProtocol, bytes]]) -> list[Any]:
        futures = [link.send_packed(command) for link, command in groups]
        return [await future for future in futures]

    def prepare(given: Any) -> Any:
        if case.operation != "get_many":
            return given
        groups: dict[BareProtocol, list[bytes]] = {}
        for key in given:
            wire = key.encode()
            groups.setdefault(owner(wire), []).append(wire)
        return [(link, pack((b"MGET", *wires))) for link, wires in groups.items()]

    # The transport closes in the next turn of the loop.
    async def close() -> None:
        for link in links:
            link.transport.close()
        await asyncio.sleep(0)

    return Calls(close, get=get, set=set_, get_many=get_many, incr=incr, prepare=prepare)


PEER = Peer(
    "bare Protocol + hiredis",
    _open,
    "hiredis",
    "hiredis",
    "shards",
    asyncio=True,
    transports=frozenset({"tcp", "unix"}),
    floor=True,
)
