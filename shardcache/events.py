"""What the client tells a hook: one frozen object for each thing that must not pass unseen (G6)."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

__all__ = ("Event", "Hook", "Kind", "tell")

Kind = Literal[
    "degraded_read",
    "dropped_write",
    "damaged",
    "shard_out",
    "shard_back",
    "lock_lost",
    "lock_kept",
    "lock_waiting",
    "load_failed",
    "thread_not_started",
]


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    ``kind``: a read that was answered as a miss because its shard was out (`degraded_read`),
    a write that did not happen (`dropped_write`), a stored value that does not decode
    (`damaged`), a shard whose breaker opened or closed (`shard_out`, `shard_back`), a lock whose lease ended under its
    holder (`lock_lost`), or that could not be released for certain, so that it stays until its ttl ends it (`lock_kept`), or
    that somebody has waited for for a second, because others hold it or too few voters answer (`lock_waiting`),
    a loader that failed in the background or behind a stale value (`load_failed`), a thread that the system did not have
    (`thread_not_started`: ``operation`` says what for, "probe", "refresh", "load" or "renew", and it is tried again when next needed).
    ``operation`` is the method called, ``keys`` how many keys it concerns, ``error`` why.
    Keys and values themselves are left out: they may be secret, and there are too many of them.
    """

    kind: Kind
    shard: str
    operation: str = ""
    keys: int = 0
    error: BaseException | None = None


Hook = Callable[[Event], None]


def tell(hook: Hook | None, event: Event) -> None:
    """Give ``event`` to ``hook``; an exception from it is logged, for a cache call must not die of its observer."""
    if hook is not None:
        try:
            hook(event)
        except Exception:
            logging.getLogger("shardcache").exception("event hook failed on %s of shard %s", event.kind, event.shard)
