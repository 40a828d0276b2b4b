"""What a server knows of one key without reading its value: type, size and time left, for the operator."""

from typing import NamedTuple

from shardcache.commands import Reply
from shardcache.errors import ShardError
from shardcache.flows.steps import Batch, Flow, exchange

__all__ = ("StoredForm", "stored_form")


class StoredForm(NamedTuple):
    """One key as its server has it.

    ``kind``: the server's word for its type, such as "string" or "hash". ``size``: bytes of a string, None for
    other types. ``left``: seconds until it expires, None if it does not.
    """

    kind: str
    size: int | None
    left: float | None


def stored_form(shard: int, wire: bytes) -> Flow[StoredForm | ShardError | None]:
    """Ask one shard for a key; return None if it is not there, or what went wrong. The value is not sent."""
    commands = [(b"TYPE", wire), (b"PTTL", wire), (b"STRLEN", wire)]
    [outcome] = yield from exchange([Batch(shard, [*commands], True)])
    if isinstance(outcome, ShardError):
        return outcome
    kind, left, size = outcome
    for reply in (kind, left):
        if isinstance(reply, ShardError):
            return reply
    if kind == b"none":
        return None
    return StoredForm(_text(kind), size if isinstance(size, int) else None, None if left < 0 else left / 1000)


def _text(reply: Reply) -> str:
    return reply.decode("utf-8", "backslashreplace") if isinstance(reply, bytes) else str(reply)
