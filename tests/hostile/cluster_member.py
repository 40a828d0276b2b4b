"""A member of a Redis Cluster that says what the test wants, to each client its own thread."""

import threading
from collections.abc import Iterable
from typing import Any

from shardcache.urls import Address
from tests.hostile.server import HostileServer

SLOTS = 16384


def resp(value: Any) -> bytes:
    """Return a reply: dicts as maps of RESP3, a text with a sign in front as it is."""
    if value is None:
        return b"_\r\n"
    if isinstance(value, dict):
        pairs = b"".join(resp(one) for pair in value.items() for one in pair)
        return b"%%%d\r\n%b" % (len(value), pairs)
    if isinstance(value, (list, tuple)):
        return b"*%d\r\n" % len(value) + b"".join(map(resp, value))
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, str) and value[:1] in ("+", "-"):
        return value.encode() + b"\r\n"
    raw = value if isinstance(value, bytes) else value.encode()
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


def flat(value: Any) -> Any:
    """Return a reply as RESP2 has it: maps as lists."""
    if isinstance(value, dict):
        return [flat(one) for pair in value.items() for one in pair]
    return [flat(one) for one in value] if isinstance(value, (list, tuple)) else value


class FakeMember(HostileServer):
    """Serves the slots of ``ranges`` and knows ``others``. A context manager.

    ``others``: members that it believes to be there.
    ``epoch``, ``state``: what it says of the cluster.
    ``knows``: the commands that it knows, of SHARDS and SLOTS.
    ``replies``: replies of its own to commands (second words).
    ``free``: while this is not set, it answers nothing.
    """

    def __init__(
        self,
        *ranges: tuple[int, int],
        epoch: int = 1,
        id: str = "",
        login: bytes = b"",
        resp3: bool = True,
        mode: str = "cluster",
    ) -> None:
        super().__init__(self._say, greets=False)
        host, port = self._listener.getsockname()
        self.address = Address(host, port)
        self.id = id or f"{port:040}"
        self.ranges = list(ranges)
        self.others: list[FakeMember] = []
        self.epoch = epoch
        self.state = "ok"
        self.knows = {b"SHARDS", b"SLOTS"}
        self.replies: dict[bytes, Any] = {}
        self.free = threading.Event()
        self.free.set()
        self._login = login
        self._resp3 = resp3
        self._mode = mode

    def __exit__(self, *error: object) -> None:
        self._closing.set()
        self.free.set()
        super().__exit__(*error)

    def polls(self) -> int:
        """Return how often it has been asked."""
        return self.asked.count((b"CLUSTER", b"MYID"))

    def _say(self, command: tuple[bytes, ...]) -> Iterable[bytes]:
        self.free.wait()
        reply = self._answer(command)
        yield resp(reply if self._resp3 else flat(reply))

    def _answer(self, command: tuple[bytes, ...]) -> Any:
        match command:
            case (b"HELLO", *words) if self._resp3:
                if self._login and self._login not in words:
                    return "-WRONGPASS invalid username-password pair or user is disabled."
                return {"proto": 3, "mode": self._mode, "role": "master"}
            case (b"INFO", *_):
                return f"redis_mode:{self._mode}\r\nrun_id:012\r\nuptime_in_seconds:1000\r\n"
            case (b"ROLE",):
                return ["master", 0, []]
            case (b"CLUSTER", word) if word in self.replies:
                return self.replies[word]
            case (b"CLUSTER", b"MYID"):
                return self.id
            case (b"CLUSTER", b"INFO"):
                return f"cluster_state:{self.state}\r\ncluster_current_epoch:{self.epoch}\r\n"
            case (b"CLUSTER", b"SHARDS") if b"SHARDS" in self.knows:
                return [one.as_shard() for one in (self, *self.others)]
            case (b"CLUSTER", b"SLOTS") if b"SLOTS" in self.knows:
                return [entry for one in (self, *self.others) for entry in one.as_slots()]
        return "-ERR unknown command or subcommand"

    def as_shard(self, *, slots: bool = True, health: str = "online") -> dict[str, Any]:
        """Return its shard as in CLUSTER SHARDS."""
        node = {
            "id": self.id,
            "port": self.address.port,
            "ip": self.address.host,
            "endpoint": self.address.host,
            "role": "master",
            "health": health,
        }
        ranges = self.ranges if slots else []
        return {"slots": [slot for pair in ranges for slot in pair], "nodes": [node]}

    def as_slots(self) -> list[Any]:
        """Return its ranges as in CLUSTER SLOTS."""
        return [
            [first, last, [self.address.host, self.address.port, self.id]]
            for first, last in self.ranges
        ]
