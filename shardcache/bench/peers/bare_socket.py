"""The floor under every client: blocking sockets and hiredis, all decisions made before."""

import socket
from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

import hiredis

from shardcache.bench.peers.peer import Calls, Peer
from shardcache.bench.scenarios.case import Case
from shardcache.bench.scenarios.servers import Addresses
from shardcache.bench.scenarios.values import raw_codec
from shardcache.urls import parse_url

__all__ = ("PEER", "BareSocket", "exchange", "pack")

READ = 64 * 1024
MS = b"300000"
pack: Any = hiredis.pack_command  # its types allow one item only
Groups = Sequence[tuple["BareSocket", bytes, int]]


class BareSocket:
    """One connection to one server. No deadline, no reconnection, no check of any kind."""

    def __init__(self, url: str) -> None:
        address = parse_url(url).address
        if address.path:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(address.path)
        else:
            self.sock = socket.create_connection((address.host, address.port))
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send = self.sock.sendall
        self._recv = self.sock.recv
        reader = hiredis.Reader()
        self._feed, self._gets = reader.feed, reader.gets

    def reply(self) -> Any:
        """Read one reply."""
        self._feed(self._recv(READ))
        while (reply := self._gets()) is False:
            self._feed(self._recv(READ))
        return reply

    def replies(self, count: int) -> list[Any]:
        """Read several replies."""
        found: list[Any] = []
        while len(found) < count:
            reply = self._gets()
            if reply is False:
                self._feed(self._recv(READ))
            else:
                found.append(reply)
        return found

    def call(self, *command: bytes) -> Any:
        """Send one command and read its reply."""
        self.send(pack(command))
        return self.reply()

    def close(self) -> None:
        self.sock.close()


def exchange(groups: Groups) -> list[list[Any]]:
    """Write to all servers, then read from all."""
    for link, payload, _ in groups:
        link.send(payload)
    return [link.replies(count) for link, _, count in groups]


def _open(at: Addresses, case: Case) -> Calls:
    links = [BareSocket(url) for url in at.urls.values()]
    encode, _ = raw_codec(case)

    # A hash is all that it takes to find a server, and for one not even that.
    def owner(wire: bytes) -> BareSocket:
        return links[crc32(wire) % len(links)] if len(links) > 1 else links[0]

    def get(key: bytes | str) -> Any:
        wire = key.encode() if isinstance(key, str) else key
        return owner(wire).call(b"GET", wire)

    def set_(key: str, value: Any) -> Any:
        wire = key.encode()
        raw = encode(value)
        return owner(wire).call(b"SET", wire, raw, b"PX", MS)

    # Numbers and groups come prepared.
    def incr(key: bytes) -> Any:
        return owner(key).call(b"INCRBY", key, b"1")

    def prepare(given: Any) -> Any:
        """Encode, group by shard and pack."""
        if not case.many:
            return given if case.operation == "set" else given.encode()
        groups: dict[BareSocket, list[bytes]] = {}
        for key in given:
            wire = key.encode()
            groups.setdefault(owner(wire), []).append(wire)
        # One MGET a server, or its SETs in one payload.
        if case.operation == "get_many":
            return [(link, pack((b"MGET", *wires)), 1) for link, wires in groups.items()]
        raw = encode(next(iter(given.values()))) if isinstance(given, Mapping) else b""
        return [
            (link, b"".join(pack((b"SET", wire, raw, b"PX", MS)) for wire in wires), len(wires))
            for link, wires in groups.items()
        ]

    def close() -> None:
        for link in links:
            link.close()

    return Calls(
        close, get=get, set=set_, get_many=exchange, set_many=exchange, incr=incr, prepare=prepare
    )


PEER = Peer(
    "bare socket + hiredis",
    _open,
    "hiredis",
    "hiredis",
    "shards",
    transports=frozenset({"tcp", "unix"}),
    floor=True,
)
