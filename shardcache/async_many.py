"""The methods of `AsyncShardCache` on many keys: the work is done in turns of the event loop."""

import asyncio
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, TypeVar, overload

from shardcache.client_base import CacheBase
from shardcache.codecs import Loaded
from shardcache.drivers.aio.runner import AsyncRunner
from shardcache.errors import ShardError
from shardcache.flows import batch
from shardcache.flows.load import tags as tagging
from shardcache.keys import Key, distinct
from shardcache.results import MISS, Hit, Results
from shardcache.ttl import DEFAULT, TTL, Default
from shardcache.turns import IN_ONE_TURN, Turns, in_turns, parts_of

__all__ = ("AsyncManyKeys",)

K = TypeVar("K", bound=Key)


class AsyncManyKeys(CacheBase):
    """What an asyncio client does with many keys at once; other tasks run between two parts."""

    _runner: AsyncRunner

    @overload
    async def get_many(self, keys: Iterable[K]) -> dict[K, Any]: ...
    @overload
    async def get_many(  # type: ignore[overload-cannot-match]
        self, keys: Iterable[Key]
    ) -> dict[Key, Any]: ...
    async def get_many(self, keys: Iterable[Any]) -> dict[Any, Any]:
        """Return the keys that are there with their values.

        One exchange per shard, all shards at once.
        """
        asked = distinct(keys)
        if len(asked) > IN_ONE_TURN:
            parts = await in_turns(partial(self._found, turns=Turns()), parts_of(asked))
            return {key: value for found in parts for key, value in found.items()}
        return await self._found(asked)

    async def _found(self, asked: list[Key], turns: Turns | None = None) -> dict[Key, Any]:
        wires = self._context.keys.wire_many(asked)
        if self._hot_keys is not None:
            self._hot_keys.read_many(wires)
        near: dict[Any, Any] = {}
        every = asked
        if self._near is not None:
            near, asked, wires = self._near_many(self._near, asked, wires)
        found = near | await self._asked(asked, wires, turns)
        return {key: found[key] for key in every if key in found} if near else found

    async def _asked(
        self, asked: list[Key], wires: list[bytes], turns: Turns | None
    ) -> dict[Key, Any]:
        began = self._load_context.clock()
        raws = await self._runner.run(
            self._fetching(asked)(self._context.topology, wires, self._runner.place_of_read)
        )
        if turns is not None:
            await turns.next()
        found = self._reply_policy.hits(asked, wires, raws)
        if Loaded in set(map(type, found.values())):
            rest = self._load_context.budget(began)
            values = await self._runner.run(
                tagging.plain_many(list(found.values()), MISS, self._load_context), rest
            )
            return {
                key: value for key, value in zip(found, values, strict=True) if value is not MISS
            }
        return found

    async def fetch_many(self, keys: Iterable[Key]) -> Results[Any]:
        """Return an outcome for each key: `Hit`, `Miss`, or `Failed` with the error.

        `Failed`: the shard is out, the value does not decode, or the key holds a list or hash of
        another program (`WrongType`). One exchange per shard, and a second exchange, about their
        types, for keys that the first did not find.
        """
        asked = distinct(keys)
        if len(asked) > IN_ONE_TURN:
            parts = await in_turns(partial(self._outcomes, turns=Turns()), parts_of(asked))
            return Results({key: outcome for found in parts for key, outcome in found.items()})
        return await self._outcomes(asked)

    async def _outcomes(self, asked: list[Key], turns: Turns | None = None) -> Results[Any]:
        wires = self._context.keys.wire_many(asked)
        if self._hot_keys is not None:
            self._hot_keys.read_many(wires)
        if self._near is None:
            return await self._told_of(asked, wires, turns)
        near, rest, wires = self._near_many(self._near, asked, wires)
        told = await self._told_of(rest, wires, turns)
        return Results({key: Hit(near[key]) if key in near else told[key] for key in asked})

    async def _told_of(
        self, asked: list[Key], wires: list[bytes], turns: Turns | None
    ) -> Results[Any]:
        began = self._load_context.clock()
        raws = await self._runner.run(
            batch.fetch_told(
                self._current, wires, self._runner.place_of_read, self._fetching(asked)
            )
        )
        if turns is not None:
            await turns.next()
        found = self._reply_policy.outcomes("fetch_many", asked, wires, raws)
        hits = found.hits
        if Loaded in set(map(type, hits.values())):
            rest = self._load_context.budget(began)
            values = await self._runner.run(
                tagging.plain_many(list(hits.values()), MISS, self._load_context), rest
            )
            return found.with_hits(zip(hits, values, strict=True))
        return found

    @overload
    async def set_many(
        self, mapping: Mapping[K, object], ttl: TTL | Default = DEFAULT
    ) -> list[K]: ...
    @overload
    async def set_many(  # type: ignore[overload-cannot-match]
        self, mapping: Mapping[Key, object], ttl: TTL | Default = DEFAULT
    ) -> list[Key]: ...
    async def set_many(self, mapping: Mapping[Any, Any], ttl: TTL | Default = DEFAULT) -> list[Any]:
        """Store several values; return the keys that were not stored.

        ``mapping``: the values by their keys.

        An empty list says that all values were stored.
        """
        if isinstance(mapping, Mapping) and len(mapping) > IN_ONE_TURN:
            return await self._set_in_turns(mapping, ttl)
        part = self._context.encoded(mapping, ttl)
        return self._reply_policy.stored(part[0], await self._store(part))

    async def _set_in_turns(self, mapping: Mapping[Key, Any], ttl: TTL | Default) -> list[Key]:
        parts = []
        for items in parts_of(list(mapping.items())):  # all of them, before anything is sent
            parts.append(self._context.encoded(dict(items), ttl))
            await asyncio.sleep(0)
        asked, failed = list[Key](), dict[int, ShardError]()
        for part, errors in zip(parts, await in_turns(self._store, parts), strict=True):
            failed |= {len(asked) + at: error for at, error in errors.items()}
            asked += part[0]
        return self._reply_policy.stored(asked, failed)

    async def _store(
        self, part: tuple[list[Key], list[bytes], list[bytes], int | None]
    ) -> dict[int, ShardError]:
        try:
            return await self._runner.run(self._context.store(*part[1:]))
        finally:
            self._runner.forget_flights(part[1])

    async def delete_many(self, keys: Iterable[Key]) -> int:
        """Delete the keys; return how many were there."""
        wires = self._context.keys.wire_many(distinct(keys))
        delete = self._context.delete
        try:
            many = parts_of(wires) if len(wires) > IN_ONE_TURN else []
            parts = await in_turns(lambda part: self._runner.run(delete(part)), many) or [
                await self._runner.run(delete(wires))
            ]
        finally:
            self._runner.forget_flights(wires)
        failed = [miss for part in parts for miss in part[1]]
        return self._reply_policy.counted("delete_many", sum(part[0] for part in parts), failed)
