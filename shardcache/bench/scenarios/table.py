"""The table of scenarios: each a line of data."""

from collections.abc import Mapping

from shardcache.bench.scenarios.case import Case, Scenario

__all__ = ("SCENARIOS",)

FLOOR = "bare socket + hiredis"
ASYNC_FLOOR = "bare Protocol + hiredis"
# Clients that spread keys over servers.
SHARDED = (
    "redis-py + uhashring",
    "redis-py RedisCluster",
    "valkey-glide cluster",
    "django-redis ShardClient",
    "pymemcache HashClient",
    "pylibmc",
)
ONE = ("redis-py", "valkey-glide", "dogpile.cache", *SHARDED)
TASKS_ONE = ("redis.asyncio", "valkey-glide, asyncio", "coredis", "cashews", "aiocache")
TASKS_SHARDED = ("redis.asyncio RedisCluster", "valkey-glide cluster, asyncio")
# Clients whose serializer or codec the application chooses.
CODECS = ("redis-py", "django-redis ShardClient")

SIZES = (10, 100, 1_000, 10_000, 100_000)
KINDS = ("bytes", "str", "int", "dict", "list")
SHARDS = (1, 4, 16)
KEYS = (1, 10, 100, 1_000, 10_000)
MANY = Case("get_many", shards=4, keys=100)
SETS = Case("set_many", shards=4, keys=100)

SCENARIOS: Mapping[str, Scenario] = {
    "operations": Scenario(Case(), "operation", ("get", "set", "incr"), (FLOOR, *ONE)),
    "get-size": Scenario(Case("get"), "size", SIZES, (FLOOR, *ONE)),
    "set-size": Scenario(Case("set"), "size", SIZES, (FLOOR, *ONE)),
    "get-type": Scenario(Case("get"), "value", KINDS, (FLOOR, *ONE)),
    "set-type": Scenario(Case("set"), "value", KINDS, (FLOOR, *ONE)),
    "get-shards": Scenario(Case("get"), "shards", SHARDS, (FLOOR, *SHARDED)),
    "get-threads": Scenario(Case("get"), "threads", (1, 4, 16), ONE),
    "get_many-keys": Scenario(MANY, "keys", KEYS, (FLOOR, *SHARDED)),
    "get_many-type": Scenario(MANY, "value", KINDS, (FLOOR, *SHARDED)),
    "get_many-shards": Scenario(MANY, "shards", SHARDS, (FLOOR, *SHARDED)),
    "get_many-threads": Scenario(MANY, "threads", (1, 4, 16), SHARDED),
    "set_many-keys": Scenario(SETS, "keys", KEYS, (FLOOR, *SHARDED)),
    "set_many-type": Scenario(SETS, "value", KINDS, (FLOOR, *SHARDED)),
    "get-tasks": Scenario(
        Case("get", tasks=1), "tasks", (1, 16, 64, 1_000), (ASYNC_FLOOR, *TASKS_ONE)
    ),
    "set-tasks": Scenario(Case("set", tasks=1), "tasks", (1, 64), (ASYNC_FLOOR, *TASKS_ONE)),
    "get_many-tasks": Scenario(
        Case("get_many", shards=4, keys=100, tasks=1),
        "tasks",
        (1, 16),
        (ASYNC_FLOOR, *TASKS_SHARDED),
    ),
    "serializers": Scenario(Case(value="dict"), "serializer", ("safe", "json", "pickle"), CODECS),
    "compression": Scenario(
        Case("set", size=10_000), "compression", (None, "zlib", "zstd"), CODECS
    ),
    "lock": Scenario(Case("lock"), "shards", (1, 5), ("redis-py", "redlock-py", "pottery Redlock")),
    "transports": Scenario(Case(), "transport", ("tcp", "unix", "tls"), (FLOOR, "redis-py")),
}
