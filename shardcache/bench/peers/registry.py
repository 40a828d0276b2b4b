"""All peers by name; the client itself is none."""

from shardcache.bench.peers import (
    aiocache,
    bare_protocol,
    bare_socket,
    cashews,
    coredis,
    django_redis,
    dogpile,
    pottery,
    pylibmc,
    pymemcache,
    redis_py,
    redlock,
    uhashring,
    valkey_glide,
)

__all__ = ("PEERS",)

PEERS = {
    peer.name: peer
    for peer in (
        bare_socket.PEER,
        bare_protocol.PEER,
        *redis_py.PEERS,
        uhashring.PEER,
        *valkey_glide.PEERS,
        coredis.PEER,
        pymemcache.PEER,
        pylibmc.PEER,
        django_redis.PEER,
        dogpile.PEER,
        cashews.PEER,
        aiocache.PEER,
        redlock.PEER,
        pottery.PEER,
    )
}
