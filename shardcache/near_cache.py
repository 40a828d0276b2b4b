"""`NearCache`: the settings of the values that a process keeps in its own memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from shardcache.errors import InvalidOption

__all__ = ("NearCache", "NearChoice", "check_near")

_LEAST_SHARE = 0.001
Mode = Literal["broadcast", "ttl-only"]
_MODES = ("broadcast", "ttl-only")
_RANGES: dict[str, tuple[float, float, type | tuple[type, ...]]] = {
    "max_items": (1, 100_000_000, int),
    "max_bytes": (1024, 2**50, int),
    "ttl": (0.001, 86_400, (int, float)),
    "min_share": (0, 1, (int, float)),
}


@dataclass(frozen=True, slots=True)
class NearCache:
    """Keeps values that this process has read in its memory, coherent with the servers (G8).

    ``max_items``: how many values are kept, 1 to 100 000 000. Default: 10 000.
    ``max_bytes``: how many bytes they may take, as an estimate, 1024 to 2⁵⁰. Default: 64 MiB.
    ``ttl``: seconds for which a value is kept at most, 0.001 to 86 400; the time that it has left
        on its server bounds it too. Default: 60.
    ``keys``: which keys are kept: a glob, as in `fnmatch`, or a function of the caller's key (a
        str; bytes that are no UTF-8 stay bytes) that returns whether it is. None: all (default).
    ``min_share``: the part of all reads of this process that a key must have to be kept, 0, or
        0.001 to 1. It leaves when it has less than half of that, or fewer than one read in a second
        or so. One read in `Options.hot_keys_sample` is counted (`hot_keys`). 0 (the default): all
        keys are kept. ``near="hot"`` stands for ``NearCache(min_share=0.001)``.
    ``share``: whether every caller gets the same object; only for callers that never change one.
        False: immutable plain values (str, bytes, numbers, None) are shared, all others are made
        anew from their bytes for each caller. Default: False.
    ``mode``: "broadcast" (the default): each server tells this process of every key of the
        namespace that is written (CLIENT TRACKING with BCAST; Redis 6 or Valkey). "ttl-only":
        nobody tells anything, and a value may be ``ttl`` old.

    Raises `InvalidOption` for a value of another type or outside its range.
    """

    max_items: int = 10_000
    max_bytes: int = 64 * 1024 * 1024
    ttl: float = 60.0
    keys: str | Callable[[str | bytes], object] | None = None
    min_share: float = 0.0
    share: bool = False
    mode: Mode = "broadcast"

    def __post_init__(self) -> None:
        # Numbers.
        kind: Any
        for name, (low, high, kind) in _RANGES.items():
            value: Any = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                whole = "a whole number" if kind is int else "a number"
                raise InvalidOption(
                    f"{name} must be {whole} from {low:g} to {high:g}, got {value!r:.80}"
                )
        if 0 < self.min_share < _LEAST_SHARE:
            raise InvalidOption(
                f"min_share must be 0 or from {_LEAST_SHARE:g} to 1, got {self.min_share!r:.80}"
            )
        # Choices.
        if not (self.keys is None or isinstance(self.keys, str) or callable(self.keys)):
            raise InvalidOption(
                f"keys must be a glob as str, a function or None, got {self.keys!r:.80}"
            )
        if not isinstance(self.share, bool):
            raise InvalidOption(f"share must be True or False, got {self.share!r:.80}")
        mode: object = self.mode
        if mode == "tracking":
            raise InvalidOption(
                "mode 'tracking' is not supported, since a server forgets without a word what a "
                "connection has read when it ends (redis #13082); 'broadcast' is"
            )
        if mode not in _MODES:
            raise InvalidOption(f"mode must be 'broadcast' or 'ttl-only', got {mode!r:.80}")


NearChoice = NearCache | Literal["hot"]


def check_near(near: object) -> NearCache | None:
    """Return the settings, or raise `InvalidOption` for what is none."""
    if isinstance(near, str) and near == "hot":
        return NearCache(min_share=_LEAST_SHARE)
    if near is not None and not isinstance(near, NearCache):
        shown = repr(near)[:80] if isinstance(near, str) else type(near).__name__
        raise InvalidOption(f"near must be a NearCache, 'hot' or None, got {shown}")
    return near
