"""dogpile.cache over redis-py: one server."""

from shardcache.bench.peers.peer import Calls, Peer
from shardcache.bench.scenarios.case import Case
from shardcache.bench.scenarios.servers import Addresses

__all__ = ("PEER",)

SECONDS = 300


def _open(at: Addresses, _case: Case) -> Calls:
    from dogpile.cache import make_region

    arguments = {"url": next(iter(at.urls.values())), "redis_expiration_time": SECONDS * 2}
    region = make_region().configure(
        "dogpile.cache.redis", expiration_time=SECONDS, arguments=arguments
    )
    return Calls(
        lambda: None,
        get=region.get,
        set=region.set,
        get_many=lambda keys: dict(zip(keys, region.get_multi(keys), strict=True)),
        set_many=region.set_multi,
    )


PEER = Peer("dogpile.cache", _open, "dogpile.cache", "dogpile")
