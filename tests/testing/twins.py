"""Scripts and their twins in Python, compared step by step.

One runs on a real server, the other on a simulated one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import redis

from shardcache.testing.simulation.database import Database, WrongKind

__all__ = ("LOOSE", "PASS", "WRONG", "Command", "Step", "Twins", "close", "tells_apart")

LOOSE = 5_000  # ms by which times left may differ on a busy machine; ttls are far above
WRONG = "WRONGTYPE"
"""Stands for the reply of a server whose value is of another kind than the command is for."""

# KEYS: any. ARGV: ms. What a server is like when so much time has passed.
PASS = b"""\
for _,key in ipairs(KEYS) do
local left=redis.call('PTTL',key)
if left>=0 then redis.call('PEXPIRE',key,left-ARGV[1]) end
end
return 0"""

Command = tuple[Any, ...]
Step = tuple[Any, ...]
"""A name and its arguments."""


class Twins(ABC):
    """What one family of scripts does to one set of keys.

    ``scripts``: those that the real server runs, by name.

    ``keys``: all that the scripts and the steps beside them may write.
    """

    def __init__(
        self, connection: redis.Redis, scripts: Mapping[str, bytes], keys: Sequence[bytes]
    ) -> None:
        self.connection = connection
        self.scripts = scripts
        self.keys = keys
        self.db = Database()

    @abstractmethod
    def command(self, name: str, arguments: tuple[Any, ...]) -> Command:
        """Return what the real server is sent for a step."""

    @abstractmethod
    def twin(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Do the same to ``db``; return the reply."""

    @abstractmethod
    def alike(self, name: str, actual: Any, expected: Any) -> bool:
        """Whether two replies agree."""

    @abstractmethod
    def adopt(self) -> None:
        """Take over what the real server read from its clock, where the twin read about that."""

    def difference(self, steps: Sequence[Step]) -> str:
        """Return how the twins differ after these steps; empty if they do not."""
        for name, *rest in steps:
            arguments = tuple(rest)
            expected = self._asked(self.command(name, arguments))
            try:
                actual = self.twin(name, arguments)
            except WrongKind:
                actual = WRONG
            if isinstance(expected, redis.ResponseError) or not self.alike(name, actual, expected):
                return f"{name} {arguments}: {actual} instead of {expected}"
            self.adopt()
        return next(filter(None, map(self._differs, self.keys)), "")

    def _asked(self, command: Command) -> Any:
        """Return what the real server answers; set the twin's clock to that moment."""
        with self.connection.pipeline(transaction=True) as both:  # nothing comes in between
            both.time()
            both.execute_command(*command)
            (seconds, micros), reply = both.execute(raise_on_error=False)
        self.db.now = seconds * 10**6 + micros
        return WRONG if isinstance(reply, redis.ResponseError) and WRONG in str(reply) else reply

    def _differs(self, key: bytes) -> str:
        """Return how the twins differ in what they have stored at one key."""
        with self.connection.pipeline(transaction=True) as both:
            both.time()
            both.pttl(key)
            both.type(key)
            (seconds, micros), left, kind = both.execute()
        self.db.now = seconds * 10**6 + micros
        stored, there = _READ[kind](self.connection, key), self.db.find(key)
        if stored != there:
            return f"{key!r} is {there!r:.200} instead of {stored!r:.200}"
        return (
            ""
            if close([self.db.left(key)], [left], 0)
            else f"{key!r} has {self.db.left(key)} ms instead of {left}"
        )

    def passes(self, ms: int) -> None:
        """Do to the twin what `PASS` does to the real server."""
        for key in self.keys:
            left = self.db.left(key)
            if left >= 0:
                self.db.expire(key, left - ms)
            if left < ms and left >= 0:
                self.db.delete(key)


_READ: dict[bytes, Callable[[redis.Redis, bytes], Any]] = {
    b"none": lambda _, __: None,
    b"string": lambda server, key: server.get(key),
    b"list": lambda server, key: server.lrange(key, 0, -1),
    b"set": lambda server, key: server.smembers(key),
    b"hash": lambda server, key: server.hgetall(key),
}


def close(left: object, right: object, place: int | None) -> bool:
    """Whether two replies agree, that at ``place`` being a time left."""
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(
            (abs(one - other) <= LOOSE and (one < 0) == (other < 0))
            if at == place
            else one == other
            for at, (one, other) in enumerate(zip(left, right, strict=True))
        )
    return left == right


def tells_apart(
    twins: Callable[[], Twins], step: Callable[[Random], Step], *, tries: int = 1000
) -> bool:
    """Whether sequences of 25 random steps find a difference.

    ``twins`` makes a pair with keys that no other pair has used.
    """
    rng = Random(7)
    return any(twins().difference([step(rng) for _ in range(25)]) for _ in range(tries))
