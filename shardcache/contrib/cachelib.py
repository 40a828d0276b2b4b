"""cachelib: `ShardCacheBackend`, a `cachelib.BaseCache` over several servers.

The words mean what they mean in cachelib: no timeout is the default timeout, 0 is for ever, a miss
is None, and `inc` starts an absent key.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol

from cachelib.base import BaseCache

from shardcache.client import ShardCache
from shardcache.contrib.settings import client_of, namespace_of
from shardcache.errors import InvalidOption

__all__ = ("ShardCacheBackend",)

_INT64 = 2**63


class _Serializer(Protocol):
    def dumps(self, value: Any, /) -> bytes | None: ...
    def loads(self, data: bytes, /) -> Any: ...


class ShardCacheBackend(BaseCache):
    """A cache of cachelib over several Redis or Valkey servers.

    ``url``: the servers, as for `ShardCache.from_url`; None (the default): SHARDCACHE_URL. Or other
        nodes as for `ShardCache`.
    ``default_timeout``: whole seconds or a timedelta; 0: for ever. Default: 300.
    ``key_prefix``: the namespace: a text before every key, with a colon; None (the default): none.
    ``ignore_delete_many_errors``: False: `delete_many` raises RuntimeError if a shard is out.
        Default: True.
    ``options``: parameters of `ShardCache` and fields of `Options`, such as ``timeout`` or
        ``signing_key``.

    ``serializer`` may be set to one of cachelib's: it then makes the bytes of every value but ints.
    None (the default): the client's.

    Raises `InvalidOption`, `InvalidURL` and the like for what cannot be, before anything is sent.
    A shard that is out is a miss, a False or a None, never an exception.
    """

    serializer: _Serializer | None = None

    def __init__(
        self,
        url: Any = None,
        default_timeout: int | timedelta = 300,
        key_prefix: str | None = None,
        *,
        ignore_delete_many_errors: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(default_timeout, ignore_delete_many_errors=ignore_delete_many_errors)
        if key_prefix is not None:
            if "namespace" in options:
                raise InvalidOption("key_prefix and namespace are one: give one of the two")
            options = {**options, "namespace": namespace_of(key_prefix)}
        # The timeout of each call is said here, so the client's own is never used.
        self.client = client_of(ShardCache, url, options)

    def get(self, key: str) -> Any:
        return self._value(self.client.get(_text(key)))

    def get_many(self, *keys: str) -> list[Any]:
        texts = list(map(_text, keys))
        found = self.client.get_many(texts)
        return [self._value(found.get(text)) for text in texts]

    def set(self, key: str, value: Any, timeout: int | timedelta | None = None) -> bool:
        return self.client.set(_text(key), self._form(value), self._ttl(timeout))

    def add(self, key: str, value: Any, timeout: int | timedelta | None = None) -> bool:
        return self.client.add(_text(key), self._form(value), self._ttl(timeout))

    def set_many(
        self, mapping: Mapping[str, Any], timeout: int | timedelta | None = None
    ) -> list[Any]:
        forms = {_text(key): self._form(value) for key, value in mapping.items()}
        failed = set(self.client.set_many(forms, self._ttl(timeout)))
        return [key for key in mapping if _text(key) not in failed]

    def delete(self, key: str) -> bool:
        return self.client.delete(_text(key))

    def delete_many(self, *keys: str) -> list[Any]:
        # `delete_many` of the client counts; here it matters which. An expiry in the past deletes,
        # and its reply tells "was not there" (0) from "no answer" (None).
        with self.client.pipeline() as pipe:
            for key in keys:
                pipe.command(_text(key), "PEXPIRE", 0)
        failed = [key for key, reply in zip(keys, pipe.results, strict=True) if reply is None]
        if failed and not self.ignore_delete_many_errors:
            raise RuntimeError(f"Failed to delete keys: {failed}")
        return [key for key, reply in zip(keys, pipe.results, strict=True) if reply is not None]

    def has(self, key: str) -> bool:
        return self.client.contains(_text(key))

    def clear(self) -> bool:
        """Delete the values of this prefix, or without a prefix all values; locks stay."""
        self.client.clear()
        return True

    def inc(self, key: str, delta: int = 1) -> int | None:
        return self.client.incr(_text(key), delta, initial=0, ttl=self._ttl(None))

    def dec(self, key: str, delta: int = 1) -> int | None:
        return self.client.decr(_text(key), delta, initial=0, ttl=self._ttl(None))

    def close(self) -> None:
        """Close all connections; later calls raise `ClientClosed`."""
        self.client.close()

    def _ttl(self, timeout: int | timedelta | None) -> int | None:
        return self._normalize_timeout(timeout) or None

    def _form(self, value: Any) -> Any:
        """Return what the client stores: ints bare, so that `inc` works on them."""
        if self.serializer is None or (type(value) is int and -_INT64 <= value < _INT64):
            return value
        return self.serializer.dumps(value)

    def _value(self, form: Any) -> Any:
        if self.serializer is None or type(form) is not bytes:
            return form
        return self.serializer.loads(form)


def _text(key: object) -> str:
    # cachelib's own caches format the key into a text, so any object will do.
    return key if isinstance(key, str) else f"{key}"
