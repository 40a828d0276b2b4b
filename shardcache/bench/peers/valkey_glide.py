"""valkey-glide, whose core is written in Rust: one server, and a cluster."""

from collections.abc import Sequence
from typing import Any

from shardcache.bench.peers.peer import Calls, Peer
from shardcache.bench.scenarios.case import Case
from shardcache.bench.scenarios.servers import Addresses
from shardcache.bench.scenarios.values import raw_codec
from shardcache.urls import parse_url

__all__ = ("PEERS",)

SECONDS = 300
TIMEOUT = 30_000  # ms: the machine may be busy with something else


def _ports(at: Addresses) -> Sequence[int]:
    return at.ports or [parse_url(url).address.port for url in at.urls.values()]


def _milliseconds(case: Case) -> int:
    return TIMEOUT if case.timeout is None else round(case.timeout * 1000)


def _opener(cluster: str) -> Any:
    def open_(at: Addresses, case: Case) -> Calls:
        import glide_sync as glide

        glide.Logger.set_logger_config(glide.LogLevel.OFF)
        encode, decode = raw_codec(case)
        expiry = glide.ExpirySet(glide.ExpiryType.SEC, SECONDS)
        settings = getattr(glide, f"Glide{cluster}ClientConfiguration")
        client: Any = getattr(glide, f"Glide{cluster}Client").create(
            settings(
                [glide.NodeAddress("127.0.0.1", _ports(at)[0])], request_timeout=_milliseconds(case)
            )
        )
        return Calls(
            client.close,
            get=lambda key: decode(client.get(key)),
            set=lambda key, value: client.set(key, encode(value), expiry=expiry),
            get_many=lambda keys: dict(zip(keys, map(decode, client.mget(keys)), strict=True)),
            incr=client.incr,
        )

    return open_


def _async_opener(cluster: str) -> Any:
    async def open_(at: Addresses, case: Case) -> Calls:
        import glide

        glide.Logger.set_logger_config(glide.LogLevel.OFF)
        encode, decode = raw_codec(case)
        expiry = glide.ExpirySet(glide.ExpiryType.SEC, SECONDS)
        settings = getattr(glide, f"Glide{cluster}ClientConfiguration")
        client: Any = await getattr(glide, f"Glide{cluster}Client").create(
            settings(
                [glide.NodeAddress("127.0.0.1", _ports(at)[0])], request_timeout=_milliseconds(case)
            )
        )

        async def get(key: str) -> Any:
            return decode(await client.get(key))

        async def get_many(keys: Sequence[str]) -> dict[str, Any]:
            return dict(zip(keys, map(decode, await client.mget(keys)), strict=True))

        return Calls(
            client.close,
            get=get,
            set=lambda key, value: client.set(key, encode(value), expiry=expiry),
            get_many=get_many,
            incr=client.incr,
        )

    return open_


PEERS = (
    Peer("valkey-glide", _opener(""), "valkey-glide-sync", "glide_sync"),
    Peer("valkey-glide cluster", _opener("Cluster"), "valkey-glide-sync", "glide_sync", "cluster"),
    Peer("valkey-glide, asyncio", _async_opener(""), "valkey-glide", "glide", asyncio=True),
    Peer(
        "valkey-glide cluster, asyncio",
        _async_opener("Cluster"),
        "valkey-glide",
        "glide",
        "cluster",
        asyncio=True,
    ),
)
