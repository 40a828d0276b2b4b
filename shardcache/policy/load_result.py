"""What a loader may return instead of the bare value."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from shardcache.ttl import DEFAULT, TTL, Default

__all__ = ("LoadResult",)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LoadResult(Generic[T]):
    """A value with a ttl of its own.

    ``value``: what the callers get.
    ``ttl``: seconds or a timedelta; None: no expiry; zero or less: the callers get the value, and
        it is not stored; left out: the ttl of the call.
    """

    value: T
    ttl: TTL | Default = DEFAULT
