"""The outcome of a load for one key."""

from typing import Any, NamedTuple

__all__ = ("LoadOutcome",)


class LoadOutcome(NamedTuple):
    """The value that was loaded, and whether it was stored.

    ``value``: the value; for a negative result its negative `Loaded`.
    ``raw``: the bytes that are stored for it.
    ``superseded``: it was not stored, because the key was written or deleted meanwhile, or because
        the load lock was lost.
    """

    value: Any
    raw: bytes
    superseded: bool = False
