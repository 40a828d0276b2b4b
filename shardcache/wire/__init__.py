"""Bytes to and from servers: the only floor that knows sockets and hiredis."""

from shardcache.wire.sync.connection import (
    PACKED_GET,
    PACKED_LOOK,
    Connection,
    pack,
    pack_all,
    unpack,
)
from shardcache.wire.sync.dialer import Dialer
from shardcache.wire.sync.exchange import Transfer, Turn, transfer
from shardcache.wire.sync.pool import Pool

__all__ = (
    "PACKED_GET",
    "PACKED_LOOK",
    "Connection",
    "Dialer",
    "Pool",
    "Transfer",
    "Turn",
    "pack",
    "pack_all",
    "transfer",
    "unpack",
)
