"""What a loader may return instead of the bare value."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from shardcache.ttl import DEFAULT, TTL, Default

__all__ = ("LoadResult",)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LoadResult(Generic[T]):
    """A value with a ttl of its own.

    ``ttl``: seconds or a timedelta, None for no expiry, zero or less for "give it to the callers, and do not store it".
    """

    value: T
    ttl: TTL | Default = DEFAULT
