"""What all methods of the backend share: the clients, the made keys, the meaning of a timeout."""

import re
from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, NamedTuple

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache, default_key_func
from django.core.exceptions import ImproperlyConfigured
from redis.exceptions import ResponseError

from shardcache.async_client import AsyncShardCache
from shardcache.client import ShardCache
from shardcache.contrib.django.setup import clients_of
from shardcache.errors import LoadCycle, TooManyLoaders, WrongType
from shardcache.keys import Key, literal
from shardcache.results import MISS

__all__ = ("NO_LOAD", "Basis", "NotANumber", "loaded_alone", "not_a_number")

# A key that stands for any other, to see what KEY_FUNCTION puts around it.
_MARK = "@key@"

# The keys of which Django warns nobody.
_PORTABLE = re.compile(r"[^\x00-\x20\x7f]{1,250}")
_LONGEST_PORTABLE = 250
_STR: frozenset[type] = frozenset({str})

NO_LOAD = (LoadCycle, TooManyLoaders)
"""Errors of a load that Django has no word for: the caller then computes the value itself."""


class NotANumber(WrongType, ResponseError):
    """``incr`` of what is no number: redis-py's error too, as from Django's own backend."""


class Around(NamedTuple):
    """What KEY_FUNCTION puts before and behind a key."""

    before: str
    behind: str

    def glob(self, match: str) -> bytes:
        before, behind = (literal(text.encode()) for text in self)
        return before + match.encode("utf-8", "surrogateescape") + behind

    def key(self, made: Key) -> str:
        text = made if isinstance(made, str) else made.decode("utf-8", "backslashreplace")
        return text[len(self.before) : len(text) - len(self.behind)]


class Basis(BaseCache):
    """The common part of all methods. An object is cheap: Django makes one per thread or task."""

    def __init__(self, location: Any, params: dict[str, Any]) -> None:
        super().__init__(params)
        self._clients = clients_of(location, params.get("OPTIONS") or {})

    @cached_property
    def client(self) -> ShardCache:
        """The `ShardCache` of this process for these settings, which all threads share."""
        return self._clients.sync

    @cached_property
    def async_client(self) -> AsyncShardCache:
        """The same for asyncio."""
        return self._clients.aio

    def new_client(self) -> ShardCache:
        """Return a client for these settings that nobody shares, for whoever closes it."""
        return self._clients.new(ShardCache)

    def get_backend_timeout(self, timeout: Any = DEFAULT_TIMEOUT) -> float | None:
        """Return the ttl for a timeout: None never ends, 0 or less deletes."""
        seconds: float | None = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        return seconds

    def validate_key(self, key: Any) -> None:
        """Warn of a key that memcached would not take, as all of Django's backends do."""
        # Django looks at each character in Python, which takes longer than a key of a get_many.
        if not (isinstance(key, str) and _PORTABLE.fullmatch(key)):
            super().validate_key(key)

    def _made(self, key: Any, version: int | None) -> Key:
        made: Key = self.make_and_validate_key(key, version=version)
        return made

    def _made_many(self, keys: Iterable[Any], version: int | None) -> dict[Key, Any]:
        """Return the callers' keys by what is made of them."""
        asked = list(keys)
        # Usually Django's own functions make the keys and all are portable, which one look at all
        # of them shows.
        if self._makes_as_django() and set(map(type, asked)) <= _STR:
            before = self.make_key("", version=version)
            made = [before + key for key in asked]
            joined = "".join(made)
            if (
                joined.isprintable()
                and " " not in joined
                and max(map(len, made), default=0) <= _LONGEST_PORTABLE
            ):
                return dict(zip(made, asked, strict=True))
        return {self._made(key, version): key for key in asked}

    def _makes_as_django(self) -> bool:
        """Whether a key is made by putting the same text before it."""
        kind = type(self)
        return (
            self.key_func is default_key_func
            and kind.make_key is BaseCache.make_key
            and kind.make_and_validate_key is BaseCache.make_and_validate_key
            and kind.validate_key is Basis.validate_key
        )

    @staticmethod
    def _check_movable(key: Any, value: Any) -> None:
        """Raise as Django does if there is no value that could get another version."""
        if value is MISS:
            raise ValueError(f"Key {key!r:.80} not found")

    def around_keys(self, version: int | None = None) -> Around:
        """Return what KEY_FUNCTION puts around a key; raise if the key does not stand in it."""
        before, mark, behind = str(self.make_key(_MARK, version=version)).partition(_MARK)
        if not mark:
            raise ImproperlyConfigured(
                "KEY_FUNCTION makes keys in which the key itself does not stand, so nobody can say "
                "which keys belong to this cache: change VERSION or KEY_PREFIX instead of clear()"
            )
        return Around(before, behind)


def not_a_number(error: WrongType) -> NotANumber:
    """Return the error of Django's own backend in the place of ``error``."""
    return NotANumber(error.shard, error.reason, error.code)


def loaded_alone(default: Callable[[], Any] | Any) -> Any:
    """Return the default of `get_or_set` without a load."""
    return default() if callable(default) else default
