"""The methods of `ShardCache` on many keys: one exchange per shard, all shards at once."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, overload

from shardcache.client_base import CacheBase
from shardcache.codecs import Loaded
from shardcache.drivers import Runner
from shardcache.flows import batch
from shardcache.flows.load import tags as tagging
from shardcache.keys import Key, distinct
from shardcache.results import MISS, Hit, Results
from shardcache.ttl import DEFAULT, TTL, Default

__all__ = ("ManyKeys",)

K = TypeVar("K", bound=Key)


class ManyKeys(CacheBase):
    """What the sync client does with many keys at once."""

    _runner: Runner

    @overload
    def get_many(self, keys: Iterable[K]) -> dict[K, Any]: ...
    # The second overload is for a list of both kinds of keys.
    @overload
    def get_many(  # type: ignore[overload-cannot-match]
        self, keys: Iterable[Key]
    ) -> dict[Key, Any]: ...
    def get_many(self, keys: Iterable[Any]) -> dict[Any, Any]:
        """Return the keys that are there with their values.

        One exchange per shard, all shards at once.
        """
        asked = distinct(keys)
        wires = self._context.keys.wire_many(asked)
        if self._hot_keys is not None:
            self._hot_keys.read_many(wires)
        if self._near is not None:
            near, rest, rest_wires = self._near_many(self._near, asked, wires)
            if near:
                near |= self._found(rest, rest_wires)
                return {key: near[key] for key in asked if key in near}
        return self._found(asked, wires)

    def _found(self, asked: list[Any], wires: list[bytes]) -> dict[Any, Any]:
        """Ask the shards for values."""
        began = self._load_context.clock()
        found = self._reply_policy.hits(
            asked,
            wires,
            self._runner.run(
                self._fetching(asked)(self._context.topology, wires, self._runner.place_of_read)
            ),
        )
        # Some have tags to check, or are remembered refusals.
        if Loaded in set(map(type, found.values())):
            rest = self._load_context.budget(began)
            values = self._runner.run(
                tagging.plain_many(list(found.values()), MISS, self._load_context), rest
            )
            return {
                key: value for key, value in zip(found, values, strict=True) if value is not MISS
            }
        return found

    def fetch_many(self, keys: Iterable[Key]) -> Results[Any]:
        """Return an outcome for each key: `Hit`, `Miss`, or `Failed` with the error.

        `Failed`: the shard is out, the value does not decode, or the key holds a list or hash of
        another program (`WrongType`). One exchange per shard, and a second exchange, about their
        types, for keys that the first did not find.
        """
        asked = distinct(keys)
        wires = self._context.keys.wire_many(asked)
        if self._hot_keys is not None:
            self._hot_keys.read_many(wires)
        if self._near is not None:
            near, rest, rest_wires = self._near_many(self._near, asked, wires)
            if near:
                outcomes = self._outcomes(rest, rest_wires)
                return Results(
                    {key: Hit(near[key]) if key in near else outcomes[key] for key in asked}
                )
        return self._outcomes(asked, wires)

    def _outcomes(self, asked: list[Key], wires: list[bytes]) -> Results[Any]:
        """Ask the shards for outcomes."""
        began = self._load_context.clock()
        raws = self._runner.run(
            batch.fetch_told(
                self._current, wires, self._runner.place_of_read, self._fetching(asked)
            )
        )
        found = self._reply_policy.outcomes("fetch_many", asked, wires, raws)
        hits = found.hits
        if Loaded in set(map(type, hits.values())):
            rest = self._load_context.budget(began)
            values = self._runner.run(
                tagging.plain_many(list(hits.values()), MISS, self._load_context), rest
            )
            return found.with_hits(zip(hits, values, strict=True))
        return found

    @overload
    def set_many(self, mapping: Mapping[K, object], ttl: TTL | Default = DEFAULT) -> list[K]: ...
    @overload
    def set_many(  # type: ignore[overload-cannot-match]
        self, mapping: Mapping[Key, object], ttl: TTL | Default = DEFAULT
    ) -> list[Key]: ...
    def set_many(self, mapping: Mapping[Any, Any], ttl: TTL | Default = DEFAULT) -> list[Any]:
        """Store several values; return the keys that were not stored.

        ``mapping``: the values by their keys.

        An empty list says that all values were stored.
        """
        asked, wires, raws, ms = self._context.encoded(mapping, ttl)
        try:
            failed = self._runner.run(self._context.store(wires, raws, ms))
        finally:
            self._runner.forget_flights(wires)
        return self._reply_policy.stored(asked, failed)

    def delete_many(self, keys: Iterable[Key]) -> int:
        """Delete the keys; return how many were there."""
        wires = self._context.keys.wire_many(distinct(keys))
        try:
            deleted = self._runner.run(self._context.delete(wires))
        finally:
            self._runner.forget_flights(wires)
        return self._reply_policy.counted("delete_many", *deleted)
