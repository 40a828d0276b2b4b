"""redlock-py: the lock over several servers, one after the other."""

from shardcache.bench.peers.peer import Calls, Peer
from shardcache.bench.scenarios.case import Case
from shardcache.bench.scenarios.servers import Addresses
from shardcache.urls import parse_url

__all__ = ("PEER",)

MS = 10_000


def _open(at: Addresses, _case: Case) -> Calls:
    from redlock import Redlock

    places = [parse_url(url).address for url in at.urls.values()]
    manager = Redlock([{"host": place.host, "port": place.port, "db": 0} for place in places])

    def lock(name: str) -> None:
        held = manager.lock(name, MS)
        if not held:
            raise RuntimeError(f"did not get the free lock {name}")
        manager.unlock(held)

    return Calls(lambda: None, lock=lock)


PEER = Peer("redlock-py", _open, "redlock-py", "redlock", "shards")
