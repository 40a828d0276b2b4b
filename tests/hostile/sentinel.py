"""A Sentinel that says what the test wants, to each client its own thread."""

import socket
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from shardcache.urls import Address
from tests.hostile.server import HostileServer

ABOUT = b"# Server\r\nredis_mode:sentinel\r\nrun_id:0123456789\r\nuptime_in_seconds:1000\r\n"
NO_SUCH = "-ERR No such master with that name"
Place = tuple[str, int, int]  # host, port, epoch


def resp(value: Any) -> bytes:
    """Return a reply in RESP2; a text with a sign in front is sent as it is."""
    if value is None:
        return b"*-1\r\n"
    if isinstance(value, (list, tuple)):
        return b"*%d\r\n" % len(value) + b"".join(map(resp, value))
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, str) and value[:1] in "+-":
        return value.encode() + b"\r\n"
    raw = value if isinstance(value, bytes) else value.encode()
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


class FakeSentinel(HostileServer):
    """Knows ``masters`` by name: host, port and epoch. A context manager.

    ``others``: the Sentinels that it names: id, host, port.
    ``sentinels``: how many Sentinels it says there are.
    ``replicas``: by a master's name, the replicas that it names: host, port, flags, link status.
    ``refuses``: commands (the first two words) that it answers with an error.
    ``free``: while this is not set, it answers nothing.
    ``plays_dead``: it greets, and answers nothing else.
    """

    def __init__(
        self,
        masters: dict[str, Place],
        *,
        login: tuple[str, ...] = (),
        others: Iterable[tuple[str, str, int]] = (),
        sentinels: int = 3,
        resp3: bool = True,
    ) -> None:
        super().__init__(self._say, greets=False)
        self.masters = masters
        self.others = list(others)
        self.sentinels = sentinels
        self.replicas: dict[str, list[tuple[str, int, str, str]]] = {}
        self.refuses: set[tuple[bytes, ...]] = set()
        self.free = threading.Event()
        self.free.set()
        self.plays_dead = False
        host, port = self._listener.getsockname()
        self.address = Address(host, port)
        self.id = f"id{port}"
        self.named = (self.id, host, port)
        self._login = tuple(part.encode() for part in login)
        self._resp3 = resp3
        self._here = threading.local()
        self._subscribers: list[socket.socket] = []

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        self.free.set()
        super().__exit__(*error)

    @property
    def subscribers(self) -> int:
        """How many connections listen, or have listened before they were closed."""
        return len(self._subscribers)

    def polls(self) -> int:
        """Return how often it has been asked."""
        return self.asked.count((b"SENTINEL", b"MYID"))

    def publish(self, channel: str = "+switch-master", text: str = "a 1 2 3 4") -> None:
        """Send a message to each subscriber."""
        self.send(resp(["message", channel, text]))

    def send(self, data: bytes) -> None:
        """Send bytes to each subscriber."""
        for sock in self._subscribers:
            with suppress(OSError):
                sock.sendall(data)

    def hang_up(self) -> None:
        """Close the connection of each subscriber."""
        for sock in self._subscribers:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _serve(self, sock: socket.socket) -> None:
        self._here.sock = sock
        super()._serve(sock)

    def _say(self, command: tuple[bytes, ...]) -> Iterable[bytes]:
        self.free.wait()
        greeting = command[0] in (b"HELLO", b"AUTH", b"INFO", b"ROLE", b"CLIENT")
        if self.plays_dead and not greeting:
            return
        if command[:2] in self.refuses or command[:1] in self.refuses:
            yield b"-NOPERM this user has no permissions\r\n"
        elif command[0] == b"SUBSCRIBE":
            self._subscribers.append(self._here.sock)
            for at, channel in enumerate(command[1:], 1):
                yield resp(["subscribe", channel, at])
        else:
            yield resp(self._answer(command)) if command[0] != b"HELLO" else self._hello(command)

    def _hello(self, command: tuple[bytes, ...]) -> bytes:
        if not self._resp3:
            return b"-ERR unknown command 'HELLO'\r\n"
        if self._login:
            said = command[3:5] if b"AUTH" in command else ()
            if not said:
                return b"-NOAUTH HELLO must be called with the client already authenticated\r\n"
            if said != ((b"default", *self._login) if len(self._login) == 1 else self._login):
                return b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
        return b"%2\r\n" + b"".join(map(resp, ("proto", 3, "mode", "sentinel")))

    def _answer(self, command: tuple[bytes, ...]) -> Any:
        match command:
            case (b"AUTH", *login):
                return "+OK" if tuple(login) == self._login else "-WRONGPASS invalid password"
            case (b"INFO", *_):
                return ABOUT
            case (b"ROLE",):
                return ["sentinel", list(self.masters)]
            case (b"PING",):
                return ["pong", ""]
            case (b"SENTINEL", b"MYID"):
                return self.id
            case (b"SENTINEL", word, name):
                return self._about(word, name.decode())
        return "-ERR unknown command"

    def _about(self, word: bytes, name: str) -> Any:
        if name not in self.masters:
            return None if word == b"GET-MASTER-ADDR-BY-NAME" else NO_SUCH
        host, port, epoch = self.masters[name]
        if word == b"GET-MASTER-ADDR-BY-NAME":
            return [host, str(port)]
        if word == b"SENTINELS":
            return [
                ["name", name, "ip", host, "port", str(port), "runid", name]
                for name, host, port in self.others
            ]
        if word == b"REPLICAS":
            return [
                ["ip", host, "port", str(port), "flags", flags, "master-link-status", link]
                for host, port, flags, link in self.replicas.get(name, [])
            ]
        return [
            *("name", name, "ip", host, "port", str(port), "flags", "master,s_down,o_down"),
            *("config-epoch", str(epoch), "num-other-sentinels", str(self.sentinels - 1)),
        ]
