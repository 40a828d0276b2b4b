"""pottery's Redlock: the lock over several servers."""

import warnings
from typing import Any

from shardcache.bench.peers.peer import Calls, Peer
from shardcache.bench.peers.redis_py import client_of
from shardcache.bench.scenarios.case import Case
from shardcache.bench.scenarios.servers import Addresses

__all__ = ("PEER",)

SECONDS = 10


def _open(at: Addresses, _case: Case) -> Calls:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pottery
    masters = {client_of(url, at) for url in at.urls.values()}

    def lock(name: str) -> None:
        held: Any = pottery.Redlock(key=name, masters=masters, auto_release_time=SECONDS)
        if not held.acquire():
            raise RuntimeError(f"did not get the free lock {name}")
        held.release()

    def close() -> None:
        for master in masters:
            master.close()

    return Calls(close, lock=lock)


PEER = Peer("pottery Redlock", _open, "pottery", "pottery", "shards")
