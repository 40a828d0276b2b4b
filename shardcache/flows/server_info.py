"""What each server says of itself (INFO), for the operator."""

from collections.abc import Sequence

from shardcache.errors import ShardError
from shardcache.flows.steps import Batch, Flow, exchange

__all__ = ("ServerInfo", "server_infos")

ServerInfo = dict[str, str]
"""Field to text, as in INFO; ``keys`` is the number of keys in the client's database."""


def server_infos(shards: Sequence[int]) -> Flow[list[ServerInfo | ShardError]]:
    """Ask all shards at once; return for each what INFO and DBSIZE said, or what went wrong."""
    outcomes = yield from exchange(
        [Batch(shard, [(b"INFO",), (b"DBSIZE",)], True) for shard in shards]
    )
    return [outcome if isinstance(outcome, ShardError) else _info(*outcome) for outcome in outcomes]


def _info(info: bytes | ShardError, keys: int | ShardError) -> ServerInfo | ShardError:
    if isinstance(info, ShardError):
        return info
    if isinstance(keys, ShardError):
        return keys
    lines = info.decode("utf-8", "backslashreplace").splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))
    return {**fields, "keys": str(keys)}
