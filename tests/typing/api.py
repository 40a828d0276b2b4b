"""Uses of the public names that must type-check under mypy --strict; nothing here is run."""

from datetime import timedelta
from typing import Any, Literal, assert_type

import redis
import redis.asyncio

from shardcache import (
    DEFAULT,
    MISS,
    TLS,
    AsyncLockSet,
    AsyncPipeline,
    AsyncQuorumLock,
    AsyncShardCache,
    Event,
    Explanation,
    Failed,
    HashRing,
    Hit,
    HotKey,
    KetamaRing,
    LoadPolicy,
    LoadResult,
    LockSet,
    Miss,
    Node,
    Options,
    PingResult,
    Pipeline,
    QuorumLock,
    Results,
    ShardCache,
    Stats,
    ValueType,
    errors,
)
from shardcache.locks.voter_nodes import VoterNodes, change_voters, finish_change, voter_nodes
from shardcache.results import Missing


def a_node_is_a_name_and_a_weight() -> None:
    node = Node("a", weight=2.0, url="redis://127.0.0.1:6379/0")
    assert_type(node.name, str)
    assert_type(node.url, str | None)


def rings_take_names_nodes_and_weights() -> None:
    ring = HashRing(["a", Node("b", 2.0)])
    assert_type(ring.owner("key"), str)
    assert_type(ring.owners(b"key", 2), tuple[str, ...])
    assert_type(ring.shares(), dict[str, float])
    assert_type(ring.moved(ring.with_node("c", weight=0.5).without_node("a")).total, float)
    KetamaRing({"a": 1.0, "b": 2.0}, key_hash="fnv1a_64")


def heard(event: Event) -> None:
    assert_type(event.shard, str)
    assert_type(event.error, BaseException | None)


def the_sync_client(cache: ShardCache, mixed: list[str | bytes]) -> None:
    assert_type(cache.get("key"), Any)
    assert_type(cache.get_many(["a"]), dict[str, Any])
    assert_type(cache.get_many({b"a": 1}), dict[bytes, Any])
    assert_type(cache.get_many(f"user:{n}" for n in range(3)), dict[str, Any])
    assert_type(cache.get_many(mixed), dict[str | bytes, Any])
    assert_type(cache.fetch_many(("a",)), Results[Any])
    for outcome in cache.fetch_many({"a"}).values():
        match outcome:
            case Hit(value):
                print(value)
            case Miss():
                print("not there")
            case Failed(error):
                assert_type(error, errors.ShardCacheError)
    assert_type(cache.set("key", object(), ttl=timedelta(minutes=1)), bool)
    assert_type(cache.set("key", 1, DEFAULT), bool)
    assert_type(cache.set_many({"a": 1}), list[str])
    assert_type(cache.set_many(dict.fromkeys(mixed, 1)), list[str | bytes])
    assert_type(cache.add("key", 1, ttl=0.5), bool)
    assert_type(cache.replace(b"key", None), bool)
    assert_type(cache.incr("n", 2, initial=0, ttl=None), int | None)
    assert_type(cache.decr("n"), int | None)
    assert_type(cache.delete("key"), bool)
    assert_type(cache.touch("key", None), bool)
    assert_type(cache.contains("key"), bool)
    assert_type(cache.clear(flush=True), int)
    assert_type(cache.ttl("key"), float | None)
    assert_type("key" in cache, bool)
    assert_type(cache.delete_many(["a"]), int)
    assert_type(list(cache.scan("user:*")), list[str | bytes])
    assert_type(cache.explain("key"), Explanation)
    assert_type(cache.stats(), Stats)
    assert_type(cache.hot_keys(5), list[HotKey])
    assert_type(cache.ping(), dict[str, PingResult])
    with cache.pipeline() as pipe:
        assert_type(pipe, Pipeline)
        assert_type(pipe.get("key", MISS), int)
    assert_type(pipe.results, list[Any])
    assert_type(pipe.execute(), list[Any])
    with cache as same:
        assert_type(same, ShardCache)
    cache.close()


def a_miss_narrows(cache: ShardCache) -> None:
    value: int | Literal[Missing.MISS] = cache.get("key", MISS)
    if value is not MISS:
        assert_type(value, int)


def results_are_a_mapping_with_views(results: Results[int]) -> None:
    assert_type(results.hits, dict[str | bytes, int])
    assert_type(results.misses, list[str | bytes])
    assert_type(results.failures, dict[str | bytes, errors.ShardCacheError])


def explanations_and_stats_are_plain_data(explanation: Explanation, stats: Stats) -> None:
    assert_type((explanation.shard, explanation.successors), tuple[str, tuple[str, ...]])
    assert_type((stats.hits, stats.shards["a"].state), tuple[int, str])


async def the_asyncio_client(cache: AsyncShardCache, mixed: list[str | bytes]) -> None:
    assert_type(await cache.get("key"), Any)
    assert_type(await cache.get_many(["a"]), dict[str, Any])
    assert_type(await cache.get_many(mixed), dict[str | bytes, Any])
    assert_type(await cache.fetch_many(["a"]), Results[Any])
    assert_type(await cache.set("key", 1, ttl=None), bool)
    assert_type(await cache.add("key", 1), bool)
    assert_type(await cache.replace("key", 1), bool)
    assert_type(await cache.set_many({"a": 1}), list[str])
    assert_type(await cache.delete("key"), bool)
    assert_type(await cache.delete_many(["a"]), int)
    assert_type(await cache.incr("n"), int | None)
    assert_type(await cache.decr("n", initial=3), int | None)
    assert_type(await cache.touch("key", 60), bool)
    assert_type(await cache.ttl("key"), float | None)
    assert_type(await cache.contains("key"), bool)
    assert_type(await cache.clear(), int)
    assert_type(await cache.ping(), dict[str, PingResult])
    assert_type(cache.explain("key"), Explanation)
    assert_type(cache.stats(), Stats)
    assert_type(cache.hot_keys(5), list[HotKey])
    assert_type([key async for key in cache.scan()], list[str | bytes])
    async with cache.pipeline() as pipe:
        assert_type(pipe, AsyncPipeline)
        assert_type(pipe.set("key", 1), int)
    assert_type(await pipe.execute(), list[Any])
    async with cache as same:
        assert_type(same, AsyncShardCache)
    await cache.aclose()


def clients_are_made_in_several_ways() -> None:
    options = Options(on_event=heard, tls=TLS(verify=False), placement=KetamaRing)
    assert_type(ShardCache(["redis://h1", "redis://h2"], options=options), ShardCache)
    assert_type(ShardCache({"a": "redis://h1"}, on_unavailable="raise"), ShardCache)
    assert_type(ShardCache.from_url("redis://h1,h2"), ShardCache)
    assert_type(AsyncShardCache.embedded(shards=2), AsyncShardCache)


def clients_say_what_they_take(options: Options) -> None:
    assert_type(
        ShardCache.from_url(namespace="shop", default_ttl=None, options=options), ShardCache
    )
    assert_type(
        AsyncShardCache.from_url("redis://h1", timeout=0.2, on_unavailable="raise"), AsyncShardCache
    )
    assert_type(ShardCache.embedded(2, serializer="json", compression="zlib"), ShardCache)
    ShardCache.from_url(timeuot=0.2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ShardCache.from_url(timeout="soon")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    AsyncShardCache.embedded(nodes=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ShardCache("redis://h1", serializer="yaml")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def locks_say_what_they_take(cache: ShardCache, other: AsyncShardCache) -> None:
    assert_type(cache.lock("a", 5, auto_renew=True, voters=["n1"], label="cron"), QuorumLock)
    assert_type(cache.lock_many(["a", b"b"], timeout=1.0, owner=7), LockSet)
    assert_type(other.lock("a", cancel_on_loss=True, on_lost=print), AsyncQuorumLock)
    assert_type(other.lock_many({"a"}, ttl=2), AsyncLockSet)
    assert_type(voter_nodes(cache), VoterNodes)
    assert_type(change_voters(cache).silent, tuple[str, ...])
    assert_type(finish_change(cache), VoterNodes)
    cache.lock("a", cancel_on_loss=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    cache.lock_many(["a"], reentrant=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def voters_are_changed_from_a_task(cache: AsyncShardCache) -> None:
    assert_type(await voter_nodes(cache), VoterNodes)
    assert_type((await change_voters(cache)).former, tuple[str, ...])
    assert_type(await finish_change(cache), VoterNodes)
    voter_nodes({"a": "redis://127.0.0.1:6379/0"})  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


def the_value_is_what_the_loader_returns(cache: ShardCache) -> None:
    def rows() -> list[int]:
        return [1]

    def sized(keys: list[str]) -> dict[str, int]:
        return dict.fromkeys(keys, 1)

    def lasting() -> LoadResult[list[int]]:
        return LoadResult([1], ttl=5)

    policy = LoadPolicy.swr(stale_ttl=60)
    assert_type(cache.get_or_set("key", rows, 60, policy=policy, tags=["a"]), list[int])
    assert_type(cache.get_or_set("key", lasting), list[int])
    assert_type(cache.get_or_set("key", lambda: LoadResult([1], ttl=5)), list[int])
    assert_type(cache.get_or_set("key", 1.5), float)
    assert_type(cache.get_or_set_many(["a"], sized, policy="swr"), dict[str, int])
    assert_type(
        cache.get_or_set_many(["a"], lambda keys: {key: LoadResult(1.5) for key in keys}),
        dict[str, float],
    )
    assert_type(cache.set("key", 1, tags=["a"]), bool)
    assert_type(cache.invalidate_tags(["a"]), int)


async def the_value_is_what_the_coroutine_returns(cache: AsyncShardCache) -> None:
    async def rows() -> list[int]:
        return [1]

    async def sized(keys: list[str]) -> dict[str, int]:
        return dict.fromkeys(keys, 1)

    async def lasting() -> LoadResult[list[int]]:
        return LoadResult([1], ttl=5)

    assert_type(await cache.get_or_set("key", rows), list[int])
    assert_type(await cache.get_or_set("key", lasting), list[int])
    assert_type(await cache.get_or_set("key", lambda: 1.5), float)
    assert_type(await cache.get_or_set_many(["a"], sized), dict[str, int])
    assert_type(
        await cache.get_or_set_many([b"a"], lambda keys: dict.fromkeys(keys, 1.5)),
        dict[bytes, float],
    )
    assert_type(await cache.invalidate_tags(["a"]), int)


def cached_functions_keep_their_signature(cache: ShardCache) -> None:
    @cache.cached(ttl=60, key="user:{id}:{lang}", tags=("user:{id}",))
    def user(id: int, lang: str = "en") -> list[str]:
        return [str(id), lang]

    assert_type(user(1, lang="de"), list[str])
    assert_type(user.key(1), str)
    assert_type(user.invalidate(1, "de"), bool)
    assert_type(user.refresh(id=1), list[str])
    user("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    user.key(1, language="de")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

    class Shop:
        @cache.cached(key="price:{item}")
        def price(self, item: str) -> float:
            return 1.0

    shop = Shop()
    assert_type(shop.price("a"), float)
    assert_type(shop.price.refresh(item="a"), float)
    assert_type(shop.price.key("a"), str)
    assert_type(Shop.price(shop, "a"), float)
    shop.price(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    shop.price.invalidate()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def cached_coroutine_functions_too(cache: AsyncShardCache) -> None:
    @cache.cached(ttl=60, key="user:{id}")
    async def user(id: int) -> list[str]:
        return [str(id)]

    assert_type(await user(1), list[str])
    assert_type(await user.invalidate(1), bool)
    assert_type(await user.refresh(1), list[str])
    await user("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    class Shop:
        @cache.cached(key="price:{item}")
        async def price(self, item: str) -> float:
            return 1.0

    assert_type(await Shop().price("a"), float)
    assert_type(await Shop().price.refresh("a"), float)
    assert_type(Shop().price.key("a"), str)
    assert_type(await cache.get_or_set("key", lambda: user(1)), list[str])


def class_and_static_methods(cache: ShardCache) -> None:
    class Shop:
        @cache.cached(key="{cls.__name__}:{item}")
        @classmethod
        def above(cls, item: int) -> list[int]:
            return [item]

        @classmethod
        @cache.cached(key="{cls.__name__}:{item}")
        def below(cls, item: int) -> list[int]:
            return [item]

        @cache.cached(key="{item}")
        @staticmethod
        def alone(item: int) -> list[int]:
            return [item]

        @staticmethod
        @cache.cached(key="{item}")
        def around(item: int) -> list[int]:
            return [item]

    assert_type(Shop.above(1), list[int])
    assert_type(Shop().above(1), list[int])
    assert_type(Shop.above.key(1), str)
    assert_type(Shop.above.refresh(1), list[int])
    assert_type(Shop.below(1), list[int])
    assert_type(Shop().below(1), list[int])
    assert_type(Shop.alone(1), list[int])
    assert_type(Shop.alone.invalidate(1), bool)
    assert_type(Shop.around(1), list[int])
    Shop.above("a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def class_methods_that_are_coroutine_functions(cache: AsyncShardCache) -> None:
    class Shop:
        @cache.cached(key="{cls.__name__}:{item}")
        @classmethod
        async def above(cls, item: int) -> list[int]:
            return [item]

        @staticmethod
        @cache.cached(key="{item}")
        async def around(item: int) -> list[int]:
            return [item]

    assert_type(await Shop.above(1), list[int])
    assert_type(await Shop().above(1), list[int])
    assert_type(Shop.above.key(1), str)
    assert_type(await Shop.around(1), list[int])


def types_of_ones_own_are_registered() -> None:
    money = ValueType("money", complex, str, complex)
    assert_type(money, ValueType[complex])
    Options(types=[Event, money, ValueType("node", Node)])
    ValueType("money", complex, len, complex)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def commands_without_a_method(cache: ShardCache) -> None:
    assert_type(cache.command("key", "HSET", "name", b"Ada", "age", 36, "score", 1.5), Any)
    assert_type(cache.redis("key"), redis.Redis)
    with cache.pipeline() as pipe:
        assert_type(pipe.command("key", "HGETALL"), int)
    cache.command("key", "HSET", None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def commands_without_a_method_in_asyncio(cache: AsyncShardCache) -> None:
    assert_type(await cache.command("key", "HGETALL"), Any)
    server: redis.asyncio.Redis = cache.redis("key")
    await server.aclose()
