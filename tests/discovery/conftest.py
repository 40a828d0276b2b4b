"""A small DNS server on 127.0.0.1, over UDP and TCP, whose answers a test sets."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from typing import Self

import pytest

MOST_UDP = 512  # bytes of an answer over UDP, as without EDNS


class DNSServer:
    """Answers from ``records``: (name, type) to texts; a context manager.

    ``mood``: "well", "silent", "servfail", "liar" (answers another question), "garbage".
    """

    def __init__(self) -> None:
        self._dns = import_module("dns")
        for part in ("flags", "message", "rcode", "rdatatype", "rrset"):
            import_module(f"dns.{part}")
        self.records: dict[tuple[str, str], list[str]] = {}
        self.mood = "well"
        self.asked: list[tuple[str, str]] = []
        self.tcp = 0  # questions that came by TCP
        self._udp, self._listener = _one_port()
        self._threads = [threading.Thread(target=one) for one in (self._serve_udp, self._serve_tcp)]
        self._closing = False

    @property
    def address(self) -> str:
        host, port = self._udp.getsockname()
        return f"{host}:{port}"

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing = True
        where = self._udp.getsockname()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wake:
            wake.sendto(b"", where)
        with suppress(OSError):
            socket.create_connection(where).close()
        for thread in self._threads:
            thread.join()
        self._udp.close()
        self._listener.close()

    def _serve_udp(self) -> None:
        while not self._closing:
            raw, sender = self._udp.recvfrom(65535)
            answer = self._answer(raw) if raw else None
            if answer is None:
                continue
            if len(answer) > MOST_UDP:
                cut = self._dns.message.make_response(self._dns.message.from_wire(raw))
                cut.flags |= self._dns.flags.TC
                answer = cut.to_wire()
            self._udp.sendto(answer, sender)

    def _serve_tcp(self) -> None:
        while not self._closing:
            connection, _ = self._listener.accept()
            with connection, suppress(OSError, struct.error):
                connection.settimeout(5)
                [length] = struct.unpack("!H", connection.recv(2, socket.MSG_WAITALL))
                answer = self._answer(connection.recv(length, socket.MSG_WAITALL))
                self.tcp += 1
                if answer is not None:
                    connection.sendall(struct.pack("!H", len(answer)) + answer)

    def _answer(self, raw: bytes) -> bytes | None:
        query = self._dns.message.from_wire(raw)
        [question] = query.question
        name = question.name.to_text(omit_final_dot=True)
        kind = self._dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        if self.mood == "silent":
            return None
        if self.mood == "garbage":
            return raw[:2] + b"\x81\x80garbage"
        if self.mood == "liar":
            other = self._dns.message.make_query("other.test.", "A")
            other.id = query.id
            return self._dns.message.make_response(other).to_wire()
        answer = self._dns.message.make_response(query)
        if self.mood == "servfail":
            answer.set_rcode(self._dns.rcode.SERVFAIL)
        elif texts := self.records.get((name, kind)):
            answer.answer.append(self._dns.rrset.from_text(question.name, 30, "IN", kind, *texts))
        elif all(one != name for one, _ in self.records):
            answer.set_rcode(self._dns.rcode.NXDOMAIN)
        return bytes(answer.to_wire())


def _one_port() -> tuple[socket.socket, socket.socket]:
    """Return a socket for UDP and a listening one for TCP, on the same port."""
    for _ in range(100):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        try:
            return udp, socket.create_server(udp.getsockname())
        except OSError:
            udp.close()
    raise OSError("no port is free for both")


@pytest.fixture
def server() -> Iterator[DNSServer]:
    pytest.importorskip("dns.resolver")
    with DNSServer() as started:
        yield started
