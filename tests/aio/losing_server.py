"""A simulated server that loses requests, and a request whose order counts."""

from collections.abc import Callable
from typing import Any

from shardcache import AsyncShardCache
from shardcache.flows.steps import Batch, Broadcast, Flow

__all__ = ("VALUE", "answer", "ask_in_order", "losing", "shard")

VALUE = b"$1\r\n1\r\n"


def answer(command: list[bytes]) -> bytes:
    """Answer as a server does whose keys all hold 1."""
    match command[0]:
        case b"SET":
            return b"+OK\r\n"
        case b"MGET":
            return b"*%d\r\n" % (len(command) - 1) + VALUE * (len(command) - 1)
        case b"INCR" | b"UNLINK" | b"EVAL" | b"EVALSHA":
            return b":1\r\n"
    return VALUE


def losing(*keys: bytes) -> Callable[[list[bytes]], bool]:
    """Lose the first request for each of these keys; the connection says nothing from then on."""
    left = set(keys)

    def loses(command: list[bytes]) -> bool:
        if command[1:] and command[1] in left:
            left.remove(command[1])
            return True
        return False

    return loses


def shard(cache: AsyncShardCache) -> Any:
    return cache.stats().shards["a"]


def ask_in_order(number: int, *, undo: bool = False) -> Flow[None]:
    """Send command ``number`` as locks and loads do.

    Wait until it is answered, or its time is over.
    """
    batch = Batch(0, [(b"EVAL", b"%d" % number)], False, lambda _: True, compensates=undo)
    yield Broadcast([batch], lambda *_: True, 1.0)
