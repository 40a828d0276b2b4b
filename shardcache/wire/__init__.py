"""Bytes to and from servers: the only floor that knows sockets and hiredis."""

from shardcache.wire.dial import Dialer
from shardcache.wire.fanout import Turn, ask, ask_many, transfer
from shardcache.wire.link import PACKED_GET, PACKED_LOOK, Link, pack, pack_all
from shardcache.wire.pool import Pool

__all__ = (
    "PACKED_GET",
    "PACKED_LOOK",
    "Dialer",
    "Link",
    "Pool",
    "Turn",
    "ask",
    "ask_many",
    "pack",
    "pack_all",
    "transfer",
)
