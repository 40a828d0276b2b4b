"""What a server tells of one key except its value: type, size and time left, for the operator."""

from typing import NamedTuple

from shardcache.errors import ShardError
from shardcache.flows.scripts import FRESH_AND_GRACE
from shardcache.flows.steps import Batch, Flow, exchange
from shardcache.resp import Reply

__all__ = ("StoredForm", "stored_form_flow")


class StoredForm(NamedTuple):
    """One key as its server has it.

    ``kind``: the server's word for its type, such as "string" or "hash".
    ``size``: the bytes of a string; None for other types.
    ``left``: seconds for which the value is fresh, as in `ttl`; None if it does not expire.
    ``grace``: seconds after that for which it may be served stale.
    """

    kind: str
    size: int | None
    left: float | None
    grace: float


def stored_form_flow(shard: int, wire: bytes) -> Flow[StoredForm | ShardError | None]:
    """Ask one shard about a key; return None if it is not there, or the error.

    The value is not sent.
    """
    commands = [(b"TYPE", wire), (b"EVAL", FRESH_AND_GRACE, b"1", wire), (b"STRLEN", wire)]
    [outcome] = yield from exchange([Batch(shard, [*commands], True)])
    if isinstance(outcome, ShardError):
        return outcome
    kind, times, size = outcome
    for reply in (kind, times):
        if isinstance(reply, ShardError):
            return reply
    if kind == b"none":
        return None
    left, grace = times
    bytes_ = size if isinstance(size, int) else None
    return StoredForm(_text(kind), bytes_, None if left < 0 else left / 1000, grace / 1000)


def _text(reply: Reply) -> str:
    return reply.decode("utf-8", "backslashreplace") if isinstance(reply, bytes) else str(reply)
