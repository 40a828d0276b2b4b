"""The floor under every client: a blocking socket and hiredis, all decisions made before."""

import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

import hiredis

__all__ = ("Bare", "bare_get_many", "bare_set_many")

READ = 64 * 1024
pack = hiredis.pack_command


class Bare:
    """One connection to one server. No deadline, no reconnection, no check of any kind."""

    def __init__(self, url: str) -> None:
        where = urlsplit(url)
        self.sock = socket.create_connection((where.hostname, where.port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.send = self.sock.sendall
        self._recv = self.sock.recv
        reader = hiredis.Reader()
        self._feed, self._gets = reader.feed, reader.gets

    def reply(self) -> object:
        self._feed(self._recv(READ))
        while (reply := self._gets()) is False:
            self._feed(self._recv(READ))
        return reply

    def replies(self, count: int) -> list[object]:
        found: list[object] = []
        while len(found) < count:
            reply = self._gets()
            if reply is False:
                self._feed(self._recv(READ))
            else:
                found.append(reply)
        return found

    def get(self, key: bytes) -> object:
        self.send(pack((b"GET", key)))
        return self.reply()

    def set(self, key: bytes, value: bytes, ms: int) -> object:
        self.send(pack((b"SET", key, value, b"PX", ms)))
        return self.reply()

    def close(self) -> None:
        self.sock.close()


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
