"""uhashring's ring over clients of redis-py, shard by shard: sharding by hand."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from shardcache.bench.peers.peer import Calls, Peer
from shardcache.bench.peers.redis_py import client_of, timeouts
from shardcache.bench.scenarios.case import Case
from shardcache.bench.scenarios.servers import Addresses
from shardcache.bench.scenarios.values import raw_codec

__all__ = ("PEER",)

MS = 300_000


def _open(at: Addresses, case: Case) -> Calls:
    from uhashring import HashRing

    encode, decode = raw_codec(case)
    # A connection pool for each server.
    clients = {name: client_of(url, at, **timeouts(case)) for name, url in at.urls.items()}
    ring = HashRing(nodes=list(clients))
    node: Callable[[str], str] = ring.get_node

    def grouped(keys: Sequence[str]) -> dict[str, list[str]]:
        groups: dict[str, list[str]] = {}
        for key in keys:
            groups.setdefault(node(key), []).append(key)
        return groups

    # One exchange after the other: redis-py has no other way.
    def get_many(keys: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, mine in grouped(keys).items():
            found.update(zip(mine, map(decode, clients[name].mget(mine)), strict=True))
        return found

    def set_many(mapping: Mapping[str, Any]) -> None:
        for name, mine in grouped(list(mapping)).items():
            with clients[name].pipeline(transaction=False) as pipeline:
                for key in mine:
                    pipeline.set(key, encode(mapping[key]), px=MS)
                pipeline.execute()

    def close() -> None:
        for client in clients.values():
            client.close()

    return Calls(
        close,
        get=lambda key: decode(clients[node(key)].get(key)),
        set=lambda key, value: clients[node(key)].set(key, encode(value), px=MS),
        get_many=get_many,
        set_many=set_many,
        incr=lambda key: clients[node(key)].incr(key),
    )


PEER = Peer(
    "redis-py + uhashring",
    _open,
    "uhashring",
    "uhashring",
    "shards",
    transports=frozenset({"tcp", "unix", "tls"}),
)
