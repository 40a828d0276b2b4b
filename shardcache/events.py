"""The events that a hook is given, one frozen object each (G6); and which of them are logged.

The log, under the name "shardcache", gets what an operator has to know and never one line for each
call: a shard that goes out of service or comes back, ten lines a minute at most for each shard, and
at most once a minute for each shard or lock what may come often (`Repeats`). No line has a key, a
value or a credential in it.
"""

import logging
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

from shardcache.hooks import call_hook

__all__ = ("Event", "Hook", "Kind", "emit")

Kind = Literal[
    "degraded_read",
    "dropped_write",
    "damaged",
    "shard_out",
    "shard_back",
    "shard_moved",
    "lookup_failed",
    "lookup_back",
    "topology_changed",
    "lock_lost",
    "lock_kept",
    "lock_waiting",
    "load_failed",
    "thread_not_started",
    "auth_failed",
    "discovery_failed",
    "discovery_back",
    "near_flushed",
]

log = logging.getLogger("shardcache")
# The application decides whether and where anything is shown.
log.addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class Event:
    """One event.

    ``kind``: what happened; see the list below.
    ``shard``: the shard's name, the lock's, or that of the source of the nodes.
    ``operation``: the method called. Default: "".
    ``keys``: how many keys it concerns. Default: 0.
    ``error``: why, or None.

    Kinds:

    - ``degraded_read``: a read was answered as a miss because its shard was out.
    - ``dropped_write``: a write did not happen.
    - ``damaged``: a stored value does not decode.
    - ``shard_out``, ``shard_back``: the breaker of a shard opened or closed.
    - ``shard_moved``: a shard has another address from now on, or its host name stands for another
      (asyncio: once for each event loop).
    - ``lookup_failed``, ``lookup_back``: the host name of a shard cannot be looked up (it fails, or
      takes too long), or can be again (asyncio: once for each event loop). What was found last
      stays in use.
    - ``topology_changed``: another set of nodes is in service; ``operation``: what put it there,
      "use" or "discovery".
    - ``lock_lost``: the lease of a lock ended while it was held.
    - ``lock_kept``: a lock was perhaps not released, so that it stays until its ttl ends it.
    - ``lock_waiting``: a call has waited a second for a lock, because another holder has it or too
      few voters answer.
    - ``load_failed``: a loader failed in the background or behind a stale value.
    - ``thread_not_started``: the system had no thread for ``operation``: "probe", "refresh",
      "load", "renew", "connect", "discovery" or "listen"; it is tried again when next needed.
    - ``auth_failed``: a shard does not accept the credentials, or its certificate is not accepted.
    - ``discovery_failed``, ``discovery_back``: the source of the nodes does not answer (or not with
      nodes) any more, or does so again. The last good answer stays in use. ``shard`` is the name
      of the source, or of the one master whose address the Sentinels do not tell any more.
    - ``near_flushed``: invalidations of a shard do not come any more, so its values in memory were
      dropped; they are kept again once the shard tells of writes.

    Keys and values themselves are left out: they may be secret, and there are too many of them.
    """

    kind: Kind
    shard: str
    operation: str = ""
    keys: int = 0
    error: BaseException | None = None


Hook = Callable[[Event], None]


_SINGLE = {
    "shard_out": "shard %r is out of service: %s",
    "shard_back": "shard %r is back in service%s",
    "discovery_failed": "no nodes from %s, the last good answer stays in use: %s",
    "discovery_back": "nodes come from %s again%s",
    "shard_moved": "shard %r has moved to another address%s",
    "lookup_back": "the host name of shard %r can be looked up again%s",
}
_LIMITED = {
    "lookup_failed": "the host name of shard %r cannot be looked up: %s",
    "auth_failed": "shard %r does not accept the login, or its certificate is not accepted: %s",
    "damaged": "shard %r holds a value that cannot be read: %s",
    "lock_lost": "lock %r is lost: %s",
    "lock_kept": "lock %r could not be released for certain, and stays until its ttl ends it: %s",
    "load_failed": "a load failed in the background: %r%s",
    "thread_not_started": "there was no thread for %r: %s",
}


_BURST = 10  # lines on whether a shard is there, such as five times out and back


class Repeats(logging.Filter):
    """Lets a warning of one kind about one shard or lock through once in ``seconds``.

    Of a record with ``shardcache_burst`` it lets that many through; the last of them says that no
    more are to come. Then it says how many it held back. Time is the records' own, so that this
    needs no clock. It remembers ``most`` of them at most.
    """

    def __init__(self, seconds: float = 60.0, most: int = 1024) -> None:
        super().__init__()
        self._seconds = seconds
        self._most = most
        # Of each kind: when the first record was let through, how many were since, and how many
        # were held back.
        self._let_through: dict[object, tuple[float, int, int]] = {}

    def forget(self) -> None:
        """Let the next one of each kind through."""
        self._let_through.clear()

    def filter(self, record: logging.LogRecord) -> bool:
        about = getattr(record, "shardcache_repeats", None)
        if about is None:
            return True
        then, passed, held_back = self._let_through.get(about, (None, 0, 0))
        if then is not None and abs(record.created - then) < self._seconds:
            burst = getattr(record, "shardcache_burst", 1)
            if passed >= burst:
                self._let_through[about] = (then, passed, held_back + 1)
                return False
            self._let_through[about] = (then, passed + 1, 0)
            if passed + 1 == burst:
                left = self._seconds - (record.created - then)
                record.msg = (
                    f"{record.msg} (it comes and goes: what follows in the next {left:.0f} s is "
                    "not logged)"
                )
            return True
        if len(self._let_through) >= self._most:
            self._let_through.clear()
        self._let_through[about] = (record.created, 1, 0)
        if held_back:
            record.msg = f"{record.msg} (and {held_back} more like it before)"
        return True


# The hooks that are being called: in this context, which a task takes along from where it is
# started.
_told: ContextVar[tuple[Hook, ...]] = ContextVar("shardcache_told", default=())

repeats = Repeats()
log.addFilter(repeats)


def emit(hook: Hook | None, event: Event) -> None:
    """Log ``event`` if it is one for the log, and give it to ``hook``.

    An exception from the hook is logged (once a minute), for a cache call must not die of its
    observer. What the hook itself does with the client, and the tasks that it starts, tell it
    nothing: where they fail for the same reason, that would have no end. They count in `stats()`
    and in the log as everything does.
    """
    if event.kind in _SINGLE:
        # One after the other they tell what is the case now, so all kinds of one subject count.
        subject = event.kind.partition("_")[0]
        limits = {"shardcache_repeats": (subject, event.shard), "shardcache_burst": _BURST}
        extra = _extra(event) | limits
        log.warning(_SINGLE[event.kind], event.shard, _reason(event.error), extra=extra)
    elif event.kind in _LIMITED:
        about = event.shard or getattr(event.error, "name", "") or event.operation
        extra = _extra(event) | {"shardcache_repeats": (event.kind, about)}
        log.warning(_LIMITED[event.kind], about, _why(event), extra=extra)
    told = _told.get()
    if hook is None or any(each is hook for each in told):
        return
    try:
        _told.set((*told, hook))
        call_hook(hook, event)
    except Exception:
        extra = _extra(event) | {"shardcache_repeats": ("hook", event.kind, event.shard)}
        log.exception("event hook failed on %s of shard %s", event.kind, event.shard, extra=extra)
    finally:
        _told.set(told)  # not by the token of `set`: a call that is broken off does not have it


def _extra(event: Event) -> dict[str, object]:
    """Return the fields of a log record by which a program may tell the warnings apart."""
    return {"shardcache_kind": event.kind, "shardcache_shard": event.shard}


def _why(event: Event) -> str:
    """Return what a log may say of an event's error: no text of a value or a loader."""
    if event.kind == "load_failed":
        return f": {type(event.error).__name__}"
    if event.kind == "damaged":
        return (
            f"{type(event.error).__name__} in {event.operation} (fetch_many says which of its keys)"
        )
    return _reason(event.error)


def _reason(error: BaseException | None) -> str:
    return "" if error is None else str(getattr(error, "reason", error))
