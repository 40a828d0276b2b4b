"""What a load has brought for one key."""

from typing import Any, NamedTuple

__all__ = ("LoadOutcome",)


class LoadOutcome(NamedTuple):
    """``value`` (for a remembered refusal its negative `Loaded`) and ``raw``, what is stored for it.

    ``overtaken``: it was not stored, since the key was written or deleted meanwhile, or the lock was lost.
    """

    value: Any
    raw: bytes
    superseded: bool = False
