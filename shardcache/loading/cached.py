"""`cached`: a function whose results are kept in the cache, each loaded once in the fleet.

What decorates a method binds as methods do; the instance is no part of the key unless the template names it.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from shardcache.errors import InvalidArgument
from shardcache.policy import LoadPolicy
from shardcache.templates import DefaultKey, KeyTemplate
from shardcache.ttl import DEFAULT, TTL, Default, milliseconds

__all__ = ("AsyncBound", "AsyncCached", "Bound", "Cached", "P", "R", "Recipe", "sync_only", "unwrapped")

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")


class Recipe:
    """What `cached` was given, checked against the function when it is decorated."""

    def __init__(
        self,
        function: Callable[..., Any],
        key: str | None,
        ttl: TTL | Default,
        policy: LoadPolicy,
        tags: Iterable[str],
    ) -> None:
        if not callable(function):
            raise InvalidArgument(f"cached decorates a function, got {type(function).__name__}")
        if isinstance(tags, (str, bytes)):
            raise InvalidArgument(f"tags must be an iterable of templates, got the single {tags!r:.80}")
        self.function = function
        self.key: Callable[..., str] = DefaultKey(function) if key is None else KeyTemplate(key, function)
        self.tags = [KeyTemplate(tag, function) for tag in tags]
        if ttl is not DEFAULT:
            milliseconds(ttl)  # a wrong one is an error here, not at the call
        self.ttl = ttl
        self.policy = policy

    def tags_of(self, args: Any, kwargs: Any) -> list[str] | None:
        """Return the tags of one call."""
        return [tag(*args, **kwargs) for tag in self.tags] or None


def unwrapped(function: Any) -> tuple[Any, type | None]:
    """Return the plain function, and whether it was a classmethod or staticmethod."""
    if isinstance(function, (classmethod, staticmethod)):
        return function.__func__, type(function)
    return function, None


class _Decorated:
    """What both colours share: names, keys, binding."""

    def __init__(self, client: Any, recipe: Recipe, kind: type | None) -> None:
        self._client = client
        self._recipe = recipe
        self._kind = kind
        functools.update_wrapper(self, recipe.function)  # type: ignore[arg-type]  # callable where it is derived from

    def _bound_to(self, instance: Any, owner: Any) -> tuple[Any, ...]:
        """Return what is put before the arguments when this is reached through an instance or a class."""
        if self._kind is staticmethod:
            return ()
        if self._kind is classmethod:
            return (owner if owner is not None else type(instance),)
        return () if instance is None else (instance,)

    def __repr__(self) -> str:
        return f"<cached {self._recipe.function!r}>"


class Cached(_Decorated, Generic[P, R]):
    """A function of the sync client's. Called like the function itself."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        recipe = self._recipe
        result: R = self._client.get_or_set(
            recipe.key(*args, **kwargs),
            lambda: recipe.function(*args, **kwargs),
            recipe.ttl,
            policy=recipe.policy,
            tags=recipe.tags_of(args, kwargs),
        )
        return result

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key under which the result of this call is kept."""
        return self._recipe.key(*args, **kwargs)

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Delete the result of this call, and void its load if one is under way; return whether it was there."""
        return bool(self._client.delete(self.key(*args, **kwargs)))

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function now, store its result and return it."""
        recipe, loader = self._recipe, self._client._loader
        order = loader.order(
            recipe.key(*args, **kwargs),
            lambda: recipe.function(*args, **kwargs),
            recipe.ttl,
            recipe.policy,
            recipe.tags_of(args, kwargs),
        )
        result: R = loader.reload(order)
        return result

    @overload
    def __get__(self, instance: None, owner: type) -> "Cached[P, R]": ...
    @overload
    def __get__(self: "Cached[Concatenate[S, Q], R]", instance: S, owner: type) -> "Bound[Q, R]": ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        before = self._bound_to(instance, owner)
        return Bound(self, before) if before else self


class Bound(Generic[P, R]):
    """A `Cached` method of one instance or class."""

    __slots__ = ("_before", "_cached")

    def __init__(self, cached: "Cached[..., R]", before: tuple[Any, ...]) -> None:
        self._cached = cached
        self._before = before

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._cached(*self._before, *args, **kwargs)

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key under which the result of this call is kept."""
        return self._cached.key(*self._before, *args, **kwargs)

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Delete the result of this call, and void its load if one is under way; return whether it was there."""
        return self._cached.invalidate(*self._before, *args, **kwargs)

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function now, store its result and return it."""
        return self._cached.refresh(*self._before, *args, **kwargs)


class AsyncCached(_Decorated, Generic[P, R]):
    """A function of the asyncio client's. Called like the coroutine function itself."""

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        recipe = self._recipe
        result: R = await self._client.get_or_set(
            recipe.key(*args, **kwargs),
            lambda: recipe.function(*args, **kwargs),
            recipe.ttl,
            policy=recipe.policy,
            tags=recipe.tags_of(args, kwargs),
        )
        return result

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key under which the result of this call is kept."""
        return self._recipe.key(*args, **kwargs)

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Delete the result of this call, and void its load if one is under way; return whether it was there."""
        return bool(await self._client.delete(self.key(*args, **kwargs)))

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function now, store its result and return it."""
        recipe, loader = self._recipe, self._client._loader
        order = loader.order(
            recipe.key(*args, **kwargs),
            lambda: recipe.function(*args, **kwargs),
            recipe.ttl,
            recipe.policy,
            recipe.tags_of(args, kwargs),
        )
        result: R = await loader.reload(order)
        return result

    @overload
    def __get__(self, instance: None, owner: type) -> "AsyncCached[P, R]": ...
    @overload
    def __get__(self: "AsyncCached[Concatenate[S, Q], R]", instance: S, owner: type) -> "AsyncBound[Q, R]": ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        before = self._bound_to(instance, owner)
        return AsyncBound(self, before) if before else self


class AsyncBound(Generic[P, R]):
    """An `AsyncCached` method of one instance or class."""

    __slots__ = ("_before", "_cached")

    def __init__(self, cached: "AsyncCached[..., R]", before: tuple[Any, ...]) -> None:
        self._cached = cached
        self._before = before

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
        return self._cached(*self._before, *args, **kwargs)

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key under which the result of this call is kept."""
        return self._cached.key(*self._before, *args, **kwargs)

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Delete the result of this call, and void its load if one is under way; return whether it was there."""
        return await self._cached.invalidate(*self._before, *args, **kwargs)

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function now, store its result and return it."""
        return await self._cached.refresh(*self._before, *args, **kwargs)


def sync_only(function: Callable[..., Any]) -> None:
    """Raise if the sync client would keep a coroutine instead of its result."""
    if inspect.iscoroutinefunction(function):
        raise InvalidArgument(f"{function!r} is a coroutine function: decorate it with an AsyncShardCache's cached")
