"""Calls about many keys.

Encoded, packed and decoded by parts, so that an event loop does not stand still for all of them.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import shardcache.drivers.aio.broadcast
from shardcache import AsyncShardCache, Event, Hit, Options
from shardcache.errors import SerializationError, ShardOut
from shardcache.flows import batch
from shardcache.turns import IN_ONE_TURN

KEYS = [f"key-{number}" for number in range(5 * IN_ONE_TURN + 7)]
DATA = {key: [key] for key in KEYS}
FAR = 60.0


class Counting:
    """A serializer that counts what it does."""

    done = 0

    def dumps(self, value: Any) -> bytes:
        Counting.done += 1
        return json.dumps(value).encode()

    def loads(self, data: bytes) -> Any:
        Counting.done += 1
        return json.loads(data)


async def pipeline_of(cache: AsyncShardCache, queue: Callable[[Any, str], object]) -> list[Any]:
    pipe = cache.pipeline()
    for key in KEYS:
        queue(pipe, key)
    Counting.done = 0
    return await pipe.execute()


CALLS: dict[str, tuple[Callable[[AsyncShardCache], Awaitable[Any]], Any]] = {
    "set_many": (lambda cache: cache.set_many(DATA), []),
    "get_many": (lambda cache: cache.get_many(KEYS), DATA),
    "fetch_many": (lambda cache: cache.fetch_many(KEYS), {key: Hit([key]) for key in KEYS}),
    "delete_many": (lambda cache: cache.delete_many(KEYS), len(KEYS)),
    "pipeline get": (
        lambda cache: pipeline_of(cache, lambda pipe, key: pipe.get(key)),
        list(DATA.values()),
    ),
    "pipeline set": (
        lambda cache: pipeline_of(cache, lambda pipe, key: pipe.set(key, [key])),
        [True] * len(KEYS),
    ),
    "pipeline delete": (
        lambda cache: pipeline_of(cache, lambda pipe, key: pipe.delete(key)),
        [True] * len(KEYS),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_others_run_meanwhile(run, shards, monkeypatch, name) -> None:
    """No turn of the loop does the work of more than one part, and the result is the same."""
    call, expected = CALLS[name]
    packed = 0
    real = shardcache.drivers.aio.broadcast.pack_all
    real_command, real_sets = batch.pack_command, batch.pack_sets

    def pack_all(commands):
        nonlocal packed
        packed += sum(
            max(len(command) - 1, 1) for command in commands if command[0] not in (b"SET", b"PX")
        )
        packed += sum(command[0] == b"SET" for command in commands)
        return real(commands)

    def pack_command(words):
        nonlocal packed
        packed += len(words) - 1
        return real_command(words)

    def pack_sets(keys, values, positions, life):
        nonlocal packed
        packed += len(positions)
        return real_sets(keys, values, positions, life)

    async def main() -> None:
        nonlocal packed
        urls = [server.url for server in shards.servers]
        options = Options(void_loads=False)
        async with AsyncShardCache(
            urls, namespace=f"turns {name}", timeout=FAR, serializer=Counting(), options=options
        ) as cache:
            await cache.set_many(DATA)
            monkeypatch.setattr(shardcache.drivers.aio.broadcast, "pack_all", pack_all)
            monkeypatch.setattr(batch, "pack_command", pack_command)
            monkeypatch.setattr(batch, "pack_sets", pack_sets)
            Counting.done = packed = 0
            most, over = [0, 0], False

            async def watch() -> None:
                nonlocal packed
                while not over:
                    most[:] = max(most[0], Counting.done), max(most[1], packed)
                    Counting.done = packed = 0
                    await asyncio.sleep(0)

            watching = asyncio.create_task(watch())
            found = await call(cache)
            over = True
            await watching
            assert found == expected
            assert (most[0] <= IN_ONE_TURN, 0 < most[1] <= IN_ONE_TURN) == (True, True)

    run(main())


@pytest.mark.parametrize("size", [10, len(KEYS)])
def test_pipeline_keeps_its_order(run, shards, size) -> None:
    """Calls for one key follow each other, however many parts lie between them."""

    async def main() -> None:
        urls = [server.url for server in shards.servers]
        async with AsyncShardCache(urls, namespace=f"order {size}", timeout=FAR) as cache:
            await cache.clear()
            pipe = cache.pipeline()
            for number in range(size):
                pipe.incr("n", initial=0)
                pipe.set("last", "x" * (number % 7 * 20))
                if number % 500 == 0:
                    pipe.set("big", str(number) * 30_000)
            found = await pipe.execute()
            assert [one for one in found if one is not True] == list(range(1, size + 1))
            assert await cache.get("last") == "x" * ((size - 1) % 7 * 20)

    run(main())


def test_nothing_is_sent_before_all_is_checked(run, shards) -> None:
    """One value that cannot be stored, however far behind, and none is."""

    async def main() -> None:
        urls = [server.url for server in shards.servers]
        async with AsyncShardCache(urls, namespace="checked", timeout=FAR) as cache:
            with pytest.raises(SerializationError):
                await cache.set_many({**DATA, "odd": object()})
            assert await cache.get_many(KEYS) == {}

    run(main())


def test_a_shard_that_is_out(run, shards) -> None:
    """What was not reached is told once for each shard, with the number of all its keys."""

    async def main() -> None:
        events: list[Event] = []
        options = Options(on_event=events.append, first_probe=60, max_probe=60)
        async with AsyncShardCache(
            {"a": "redis://127.0.0.1:1"}, timeout=FAR, options=options
        ) as cache:
            while cache.stats().shards["a"].state != "open":
                await cache.get("k")
            events.clear()
            assert await cache.set_many(DATA) == KEYS
            assert await cache.delete_many(KEYS) == 0
            assert [type(one.error) for one in (await cache.fetch_many(KEYS)).values()] == [
                ShardOut
            ] * len(KEYS)
            told = [(event.kind, event.operation, event.keys) for event in events[:2]]
            assert told == [
                ("dropped_write", name, len(KEYS)) for name in ("set_many", "delete_many")
            ]

    run(main())


@pytest.mark.parametrize("turns", [0, 1, 3, 8, 20])
def test_cancelled(run, shards, turns) -> None:
    """However far a call has come, nothing of it is left behind: `run` looks for tasks."""

    async def main() -> None:
        urls = [server.url for server in shards.servers]
        async with AsyncShardCache(urls, namespace="cancelled", timeout=FAR) as cache:
            for call, _ in CALLS.values():
                task = asyncio.ensure_future(call(cache))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
            assert (await cache.set("k", 1), await cache.get("k")) == (True, 1)

    run(main())
