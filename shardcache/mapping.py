"""`CacheMapping`: a client as a mutable mapping, for `cachetools.cached` and the like."""

from collections.abc import ItemsView, Iterator, Mapping, MutableMapping, ValuesView
from itertools import islice
from typing import TYPE_CHECKING, Any

from shardcache.errors import InvalidOption
from shardcache.key_templates.short_key import shortened
from shardcache.key_templates.stable_text import to_stable_text
from shardcache.keys import literal
from shardcache.results import MISS
from shardcache.ttl import TTL, Default

if TYPE_CHECKING:
    from shardcache.client import ShardCache

__all__ = ("CacheMapping", "WrittenKey")

_PAGE = 500  # keys of one step of a walk
# Stands before the text of a key that is no str, and no such text begins with it.
_MARK = "="


class WrittenKey(str):
    """A key that is no str, as it is written on the server: what a walk yields in its place."""

    __slots__ = ()


class CacheMapping(MutableMapping[Any, Any]):
    """A mutable mapping over a client; `ShardCache.mapping` makes it.

    ``cache``: the client.
    ``ttl``: that of the values stored here.
    ``prefix``: the text before every key; only keys with it belong to the mapping.

    Keys are str, which are the client's keys behind the prefix, or whatever has a text that is the
    same in every process: numbers, dates, UUIDs, Enums, tuples of such … Else `InvalidArgument`. 1,
    1.0 and True are three keys here.

    To read, store or delete a key costs one exchange; `update` one for each shard. `len`,
    iteration, `items`, `values` and `clear` walk over **all keys of every shard** (SCAN), whatever
    belongs to the mapping: for tests and tools, not for a request. A walk yields keys that are no
    str as texts, by which they can be read; it may yield a key twice, and keys that expire
    meanwhile.

    A shard that is out is an absent key, and what is stored there is dropped, as the client does
    with ``on_unavailable="degrade"``.
    """

    __slots__ = ("_cache", "_glob", "_prefix", "_ttl")

    def __init__(self, cache: "ShardCache", ttl: TTL | Default, prefix: str) -> None:
        if not isinstance(prefix, str):
            raise InvalidOption(f"prefix must be a str, got a {type(prefix).__name__}")
        self._cache = cache
        self._ttl = ttl
        self._prefix = prefix
        self._glob = literal(prefix.encode()) + b"*"

    def __getitem__(self, key: Any) -> Any:
        value = self._cache.get(self._text(key), MISS)
        if value is MISS:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        self._cache.set(self._text(key), value, self._ttl)

    def __delitem__(self, key: Any) -> None:
        if not self._cache.delete(self._text(key)):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        return self._cache.contains(self._text(key))

    def __iter__(self) -> Iterator[str]:
        for key in self._cache.scan(self._glob):
            if isinstance(key, str):  # no mapping has written the others
                yield self._key(key)

    def __len__(self) -> int:
        """Count the keys by a walk over every shard."""
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"CacheMapping({self._cache!r}, prefix={self._prefix!r})"

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Store ``default`` if ``key`` is absent, which is atomic; return what is there then.

        ``key``: the key.
        ``default``: the value. Default: None.
        """
        text = self._text(key)
        if self._cache.add(text, default, self._ttl):
            return default
        return self._cache.get(text, default)

    def update(self, other: Any = (), /, **named: Any) -> None:
        """Store many values, in one exchange for each shard.

        ``other``: a mapping, or pairs of key and value.
        """
        pairs = other.items() if isinstance(other, Mapping) else other
        values = {self._text(key): value for key, value in (*pairs, *named.items())}
        self._cache.set_many(values, self._ttl)

    def clear(self) -> None:
        """Delete all keys of the mapping, by a walk over every shard."""
        self._cache.clear(match=self._glob)

    def items(self) -> ItemsView[Any, Any]:
        return _Items(self)

    def values(self) -> ValuesView[Any]:
        return _Values(self)

    def pages(self) -> Iterator[list[str]]:
        """Walk over the keys, some hundreds at a time."""
        keys = iter(self)
        while page := list(islice(keys, _PAGE)):
            yield page

    def found(self) -> Iterator[tuple[str, Any]]:
        """Walk over the keys with their values; each page is one exchange for each shard."""
        for keys in self.pages():
            texts = list(map(self._text, keys))
            found = self._cache.get_many(texts)
            yield from (
                (key, found[text]) for key, text in zip(keys, texts, strict=True) if text in found
            )

    def _text(self, key: object) -> str:
        if type(key) is WrittenKey:
            written = str(key)
        elif isinstance(key, str):
            written = f"{_MARK}{key}" if key.startswith(_MARK) else key
        else:
            # cachetools once had tuples of a class of its own.
            written = _MARK + to_stable_text(tuple(key) if isinstance(key, tuple) else key)
        return shortened(self._prefix + written)

    def _key(self, text: str) -> str:
        written = text[len(self._prefix) :]
        if not written.startswith(_MARK):
            return written
        return written[1:] if written.startswith(2 * _MARK) else WrittenKey(written)


class _Items(ItemsView[Any, Any]):
    _mapping: CacheMapping

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return self._mapping.found()


class _Values(ValuesView[Any]):
    _mapping: CacheMapping

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping.found())
