"""The data of one simulated server: keys that expire by a clock that is set from outside."""

from copy import deepcopy
from typing import Any, TypeVar

__all__ = ("Database", "WrongKind")

Text = bytes | str | int
T = TypeVar("T")


def text(value: Text) -> bytes:
    """Return an argument in the bytes of the wire."""
    return value if isinstance(value, bytes) else str(value).encode()


class WrongKind(Exception):
    """A key has a value of another kind than the command is for; a server says WRONGTYPE."""


class Database:
    """As much of a server's data as the scripts of locks and loads need.

    ``now`` is its clock in microseconds; set it before each command. An expiry is in whole
    milliseconds, and a key is gone when the clock is past it (``now > when``), as in Redis.
    """

    __slots__ = ("expiries", "now", "values")

    def __init__(self) -> None:
        self.now = 0
        self.values: dict[bytes, Any] = {}
        self.expiries: dict[bytes, int] = {}  # milliseconds

    def copy(self) -> "Database":
        """Return another one with the same data."""
        other = Database()
        other.values, other.expiries = deepcopy(self.values), dict(self.expiries)
        return other

    def find(self, key: bytes) -> Any:
        """Return the value of a key; None if there is none, or it has expired."""
        value = self.values.get(key)
        if value is not None:
            when = self.expiries.get(key)
            if when is not None and self.now // 1000 > when:
                del self.values[key], self.expiries[key]
                return None
        return value

    def find_as(self, key: bytes, kind: type[T]) -> T | None:
        """Return the value of a key, as `find` does; raise `WrongKind` if it has another type."""
        value = self.find(key)
        if value is None or isinstance(value, kind):
            return value
        raise WrongKind

    def get(self, key: bytes) -> bytes | None:
        return self.find_as(key, bytes)

    def put(self, key: bytes, value: Text, ttl: Text) -> None:
        """SET with PX."""
        self.values[key] = text(value)
        self.expiries[key] = self.now // 1000 + int(ttl)

    def exists(self, key: bytes) -> bool:
        return self.find(key) is not None

    def delete(self, key: bytes) -> int:
        found = self.find(key) is not None
        self.values.pop(key, None)
        self.expiries.pop(key, None)
        return int(found)

    def number(self, key: bytes) -> int:
        """Return a counter's value; 0 if it is not there."""
        return int(self.get(key) or 0)

    def increment(self, key: bytes) -> int:
        number = self.number(key) + 1
        self.values[key] = b"%d" % number
        return number

    def left(self, key: bytes) -> int:
        """PTTL: the milliseconds left; -1 if the key never expires, -2 if it is not there."""
        if self.find(key) is None:
            return -2
        when = self.expiries.get(key)
        return -1 if when is None else when - self.now // 1000

    def expire(self, key: bytes, ttl: Text) -> None:
        """PEXPIRE."""
        if self.find(key) is not None:
            self.expiries[key] = self.now // 1000 + int(ttl)

    def push(self, key: bytes, value: bytes) -> None:
        """RPUSH."""
        found = self.find_as(key, list)
        if found is None:
            self.values[key] = [value]
        else:
            found.append(value)

    def add(self, key: bytes, member: bytes) -> None:
        """SADD."""
        found = self.find_as(key, set)
        if found is None:
            found = self.values[key] = set()
        found.add(member)

    def pop(self, key: bytes) -> bytes | None:
        """LPOP."""
        found = self.find_as(key, list)
        if found is None:
            return None
        value: bytes = found.pop(0)
        if not found:
            self.delete(key)
        return value

    def fields(self, key: bytes) -> dict[bytes, bytes]:
        """Return the hash at a key; make an empty one if it is not there."""
        found = self.find_as(key, dict)
        if found is None:
            found = self.values[key] = {}
        return found
