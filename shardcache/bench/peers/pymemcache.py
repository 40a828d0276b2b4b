"""pymemcache's `HashClient` over several memcached."""

from shardcache.bench.peers.peer import Calls, Peer
from shardcache.bench.scenarios.case import Case
from shardcache.bench.scenarios.servers import Addresses

__all__ = ("PEER",)

SECONDS = 300


def _open(at: Addresses, case: Case) -> Calls:
    from pymemcache import HashClient, serde

    kind = serde.CompressedSerde if case.compression else serde.PickleSerde
    client = HashClient(
        [("127.0.0.1", port) for port in at.ports],
        serde=kind(),
        use_pooling=case.threads > 1,
        default_noreply=False,
        no_delay=True,
        timeout=case.timeout,
        connect_timeout=case.timeout,
    )
    return Calls(
        client.close,
        get=client.get,
        set=lambda key, value: client.set(key, value, expire=SECONDS),
        get_many=client.get_many,
        set_many=lambda mapping: client.set_many(mapping, expire=SECONDS),
        incr=lambda key: client.incr(key, 1),
    )


PEER = Peer("pymemcache HashClient", _open, "pymemcache", "pymemcache", "memcached")
