"""pylibmc: a client of memcached written in C; one client a thread, as it wants it."""

import threading
from typing import Any

from shardcache.bench.peers.peer import Calls, Peer
from shardcache.bench.scenarios.case import Case
from shardcache.bench.scenarios.servers import Addresses

__all__ = ("PEER",)

SECONDS = 300
COMPRESS_FROM = 1024  # bytes, as the client's


def _open(at: Addresses, case: Case) -> Calls:
    import pylibmc

    behaviors = {"tcp_nodelay": True, "ketama": True}
    compress = COMPRESS_FROM if case.compression else 0

    # The options that its documentation recommends for several servers.
    def connected() -> Any:
        return pylibmc.Client([f"127.0.0.1:{port}" for port in at.ports], behaviors=behaviors)

    if case.threads == 1:
        client = connected()
        return Calls(
            client.disconnect_all,
            get=client.get,
            set=lambda key, value: client.set(key, value, SECONDS, min_compress_len=compress),
            get_many=client.get_multi,
            set_many=lambda mapping: client.set_multi(mapping, SECONDS, min_compress_len=compress),
            incr=client.incr,
        )

    # Each thread connects when it first calls.
    local = threading.local()

    def mine() -> Any:
        if not hasattr(local, "client"):
            local.client = connected()
        return local.client

    return Calls(
        lambda: None,
        get=lambda key: mine().get(key),
        set=lambda key, value: mine().set(key, value, SECONDS),
        get_many=lambda keys: mine().get_multi(keys),
        set_many=lambda mapping: mine().set_multi(mapping, SECONDS),
        incr=lambda key: mine().incr(key),
    )


PEER = Peer("pylibmc", _open, "pylibmc", "pylibmc", "memcached")
