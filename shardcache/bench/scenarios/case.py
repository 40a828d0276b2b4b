"""A case: one kind of call under one set of conditions; a scenario varies one of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

__all__ = ("Case", "Operation", "Scenario", "Transport", "ValueKind")

Operation = Literal["get", "set", "get_many", "set_many", "incr", "lock"]
ValueKind = Literal["bytes", "str", "int", "dict", "list"]
Transport = Literal["tcp", "unix", "tls"]


@dataclass(frozen=True)
class Case:
    """What is called, and under which conditions.

    ``operation``: what is called.
    ``value``: the type of the values: a dict has ten fields, a list a hundred numbers.
    ``size``: bytes of a value that is bytes or text.
    ``shards``: servers.
    ``keys``: of one call of `get_many` or `set_many`.
    ``threads``: that call at once; each peer has one client for all of them.
    ``tasks``: of an event loop that call at once; 0: plain calls, without asyncio.
    ``serializer``: of the client; clients without one get its counterpart by hand.
    ``compression``: the same.
    ``transport``: between clients and servers.
    ``timeout``: seconds of a call; None: too long to matter.
    """

    operation: Operation = "get"
    value: ValueKind = "str"
    size: int = 100
    shards: int = 1
    keys: int = 1
    threads: int = 1
    tasks: int = 0
    serializer: Literal["safe", "json", "pickle"] = "safe"
    compression: Literal["zlib", "zstd"] | None = None
    transport: Transport = "tcp"
    timeout: float | None = None

    @property
    def many(self) -> bool:
        return self.operation in ("get_many", "set_many")

    @property
    def workers(self) -> int:
        """How many call at once."""
        return self.tasks or self.threads


@dataclass(frozen=True)
class Scenario:
    """Cases that differ in one condition, and who is raced in them.

    ``base``: all other conditions.
    ``axis``: the name of the condition, a field of `Case`.
    ``values``: what it is in each case.
    ``peers``: names of `Peer` objects; those that cannot run a case are left out of it.
    """

    base: Case
    axis: str
    values: Sequence[Any]
    peers: Sequence[str]

    def cases(self) -> Iterator[tuple[str, Case]]:
        """Yield each case with its label."""
        for value in self.values:
            yield (
                label(self.base.operation, self.axis, value),
                replace(self.base, **{self.axis: value}),
            )


UNITS = {"size": " B", "shards": " shards", "keys": " keys", "threads": " threads"}
UNITS["tasks"] = " tasks"


def label(operation: str, axis: str, value: Any) -> str:
    """Return how the table names a case: "get, 1,000 B"."""
    if axis == "operation":
        return str(value)
    shown = f"{value:,}" if isinstance(value, int) else str(value or "none")
    unit = UNITS.get(axis, "")
    return f"{operation}, {shown}{unit[:-1] if value == 1 and unit.endswith('s') else unit}"
