"""`cached`: a function whose results are stored in the cache, each loaded once in the fleet.

A decorated method binds as methods do; the instance is no part of the key unless the template names
it. To other code (`inspect`, a web framework, `pickle`) the result looks like the function that was
decorated.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from shardcache.errors import InvalidArgument
from shardcache.key_templates import DefaultKey, KeyTemplate, ShortKey
from shardcache.policy import LoadPolicy
from shardcache.ttl import DEFAULT, TTL, Default, milliseconds

__all__ = (
    "AsyncBound",
    "AsyncCached",
    "AsyncCachedOfClass",
    "AsyncDecorator",
    "Bound",
    "Cached",
    "CachedOfClass",
    "Decorator",
    "Recipe",
    "sync_only",
    "unwrapped",
)

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")


class Recipe:
    """The arguments of `cached`, checked against the function when it is decorated."""

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
        _no_generator(function)
        if isinstance(tags, (str, bytes)):
            raise InvalidArgument(
                f"tags must be an iterable of templates, got the single {tags!r:.80}"
            )
        self.function = function
        self.key: Callable[..., str] = ShortKey(
            DefaultKey(function) if key is None else KeyTemplate(key, function)
        )
        self.tags = [KeyTemplate(tag, function) for tag in tags]
        if ttl is not DEFAULT:
            milliseconds(ttl)  # a wrong one is an error here, not at the call
        self.ttl = ttl
        self.policy = policy
        self.of_class = next(iter(inspect.signature(function).parameters), None) == "cls"

    def tags_of(self, args: Any, kwargs: Any) -> list[str] | None:
        """Return the tags of one call."""
        return [tag(*args, **kwargs) for tag in self.tags] or None


def unwrapped(function: Any) -> tuple[Any, type | None]:
    """Return the plain function, and whether it was a classmethod or staticmethod."""
    if isinstance(function, (classmethod, staticmethod)):
        return function.__func__, type(function)
    return function, None


def sync_only(function: Callable[..., Any]) -> None:
    """Raise if the sync client would keep a coroutine instead of its result."""
    if inspect.iscoroutinefunction(function):
        raise InvalidArgument(
            f"{function!r} is a coroutine function: decorate it with an AsyncShardCache's cached"
        )


def _no_generator(function: Callable[..., Any]) -> None:
    # Of an object that can be called, its method may be the generator function.
    for one in (function, getattr(function, "__call__", None)):  # noqa: B004
        if inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one):
            raise InvalidArgument(
                f"{function!r} is a generator function: what it returns can be read once "
                "and not be stored. Decorate a function that returns a list"
            )


class _Decorated:
    """What both clients share: names, keys, binding."""

    def __init__(self, client: Any, recipe: Recipe, kind: type | None) -> None:
        self._client = client
        self._recipe = recipe
        self._kind = kind
        # For an object that has no name of its own; a function's name replaces it.
        self.__name__ = self.__qualname__ = type(recipe.function).__name__
        # The classes that are derived from this one are callable.
        functools.update_wrapper(self, recipe.function)  # type: ignore[arg-type]

    def _bound_to(self, instance: Any, owner: Any) -> tuple[Any, ...]:
        """Return the arguments that come first for a call through an instance or a class."""
        if self._kind is staticmethod:
            return ()
        if self._kind is classmethod:
            return (owner if owner is not None else type(instance),)
        return () if instance is None else (instance,)

    def _key(self, args: Any, kwargs: Any) -> str:
        # From 3.13 on, a classmethod around this object passes the class to calls only.
        if args and self._recipe.of_class and not isinstance(args[0], type):
            raise InvalidArgument(
                f"the first argument of {self.__qualname__} is the class, got {args[0]!r:.80}: "
                "to use key, invalidate and refresh of a classmethod, put cached above classmethod"
            )
        return self._recipe.key(*args, **kwargs)

    def _request(self, args: Any, kwargs: Any) -> Any:
        """Return the request that loads the result of one call, whether or not there is one."""
        recipe, loader = self._recipe, self._client._loader
        key = self._key(args, kwargs)
        ttl_ms, tags = loader.checked(recipe.ttl, recipe.tags_of(args, kwargs))
        return loader.request(
            key, lambda: recipe.function(*args, **kwargs), ttl_ms, recipe.policy, tags
        )

    def _looked_up(self, args: Any, kwargs: Any) -> Any:
        """Return what `get_or_set` returns for one call."""
        recipe = self._recipe
        return self._client.get_or_set(
            recipe.key(*args, **kwargs),
            lambda: recipe.function(*args, **kwargs),
            recipe.ttl,
            policy=recipe.policy,
            tags=recipe.tags_of(args, kwargs),
        )

    def __repr__(self) -> str:
        return f"<cached {self._recipe.function!r}>"

    def __reduce__(self) -> str:
        """Pickle by reference, as functions are: by the module and the name."""
        return self.__qualname__


class _BoundBase:
    """A decorated method of one instance or class, which looks like a bound method."""

    def __init__(self, cached: Any, before: tuple[Any, ...]) -> None:
        self._cached = cached
        self._before = before
        self.__doc__ = cached.__doc__
        self.__module__ = cached.__module__
        # Of the object itself: CPython gives a class an empty one as soon as anybody asks it.
        self.__annotations__ = getattr(cached, "__annotations__", {})

    @property
    def __func__(self) -> Any:
        return self._cached

    @property
    def __self__(self) -> Any:
        return self._before[0]

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the function; the signature is without the bound argument."""
        if name in ("_cached", "_before"):  # not there yet
            raise AttributeError(name)
        if name != "__signature__":
            return getattr(self._cached, name)
        whole = inspect.signature(self._cached)
        return whole.replace(parameters=_without_first(list(whole.parameters.values())))

    def __repr__(self) -> str:
        return f"<bound {self._cached!r} of {self._before[0]!r}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _BoundBase):
            return NotImplemented
        return self._cached is other._cached and self._before[0] is other._before[0]

    def __hash__(self) -> int:
        return hash((id(self._cached), id(self._before[0])))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as bound methods are: the object, and the name of its method."""
        return getattr, (self._before[0], self._cached.__name__)


def _without_first(parameters: list[inspect.Parameter]) -> list[inspect.Parameter]:
    takes_any = bool(parameters) and parameters[0].kind is inspect.Parameter.VAR_POSITIONAL
    return parameters if takes_any else parameters[1:]


class Cached(_Decorated, Generic[P, R]):
    """A function that was decorated by the sync client. It is called like the function itself."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = self._looked_up(args, kwargs)
        return result

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key under which the result of this call is stored."""
        return self._key(args, kwargs)

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Delete the stored result of this call, and invalidate its load if one is running.

        Return whether there was a result.
        """
        return bool(self._client.delete(self._key(args, kwargs)))

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function now, store its result and return it."""
        result: R = self._client._loader.reload(self._request(args, kwargs))
        return result

    @overload
    def __get__(self, instance: None, owner: type) -> "Cached[P, R]": ...
    @overload
    def __get__(
        self: "Cached[Concatenate[S, Q], R]", instance: S, owner: type[S]
    ) -> "Bound[Q, R]": ...
    @overload
    def __get__(self, instance: object, owner: type) -> "Cached[P, R]": ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        before = self._bound_to(instance, owner)
        return Bound(self, before) if before else self


class Bound(_BoundBase, Generic[P, R]):
    """A `Cached` method of one instance or class."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = self._cached(*self._before, *args, **kwargs)
        return result

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key under which the result of this call is stored."""
        return str(self._cached.key(*self._before, *args, **kwargs))

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Delete the stored result of this call, and invalidate its load if one is running.

        Return whether there was a result.
        """
        return bool(self._cached.invalidate(*self._before, *args, **kwargs))

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function now, store its result and return it."""
        result: R = self._cached.refresh(*self._before, *args, **kwargs)
        return result


class AsyncCached(_Decorated, Generic[P, R]):
    """A function that was decorated by the asyncio client, called like the coroutine function."""

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = await self._looked_up(args, kwargs)
        return result

    # `inspect.iscoroutinefunction` looks at these, in each version of Python: the code of a call.
    __code__ = __call__.__code__
    __defaults__ = __kwdefaults__ = None

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key under which the result of this call is stored."""
        return self._key(args, kwargs)

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Delete the stored result of this call, and invalidate its load if one is running.

        Return whether there was a result.
        """
        return bool(await self._client.delete(self._key(args, kwargs)))

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function now, store its result and return it."""
        result: R = await self._client._loader.reload(self._request(args, kwargs))
        return result

    @overload
    def __get__(self, instance: None, owner: type) -> "AsyncCached[P, R]": ...
    @overload
    def __get__(
        self: "AsyncCached[Concatenate[S, Q], R]", instance: S, owner: type[S]
    ) -> "AsyncBound[Q, R]": ...
    @overload
    def __get__(self, instance: object, owner: type) -> "AsyncCached[P, R]": ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        before = self._bound_to(instance, owner)
        return AsyncBound(self, before) if before else self


class AsyncBound(_BoundBase, Generic[P, R]):
    """An `AsyncCached` method of one instance or class."""

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = await self._cached(*self._before, *args, **kwargs)
        return result

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the key under which the result of this call is stored."""
        return str(self._cached.key(*self._before, *args, **kwargs))

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Delete the stored result of this call, and invalidate its load if one is running.

        Return whether there was a result.
        """
        return bool(await self._cached.invalidate(*self._before, *args, **kwargs))

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function now, store its result and return it."""
        result: R = await self._cached.refresh(*self._before, *args, **kwargs)
        return result


class CachedOfClass(Cached[Concatenate[type[S], Q], R], Generic[S, Q, R]):
    """For type checkers: a `Cached` whose first parameter is a class, as a classmethod's is.

    At run time there is `Cached` only.
    """

    def __get__(  # type: ignore[override,empty-body]
        self, instance: object, owner: type
    ) -> Bound[Q, R]: ...


class AsyncCachedOfClass(AsyncCached[Concatenate[type[S], Q], R], Generic[S, Q, R]):
    """For type checkers: an `AsyncCached` whose first parameter is a class.

    At run time there is `AsyncCached` only.
    """

    def __get__(  # type: ignore[override,empty-body]
        self, instance: object, owner: type
    ) -> AsyncBound[Q, R]: ...


class Decorator(Protocol):
    """What `ShardCache.cached` returns: it keeps the function's parameters and result.

    Type checkers pass the function of a classmethod as a function whose first parameter is a class,
    whichever decorator is the outer one.
    """

    @overload
    def __call__(
        self, function: Callable[Concatenate[type[S], Q], R], /
    ) -> CachedOfClass[S, Q, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Cached[P, R]: ...


class AsyncDecorator(Protocol):
    """What `AsyncShardCache.cached` returns; see `Decorator`."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[type[S], Q], Awaitable[R]], /
    ) -> AsyncCachedOfClass[S, Q, R]: ...
    @overload
    def __call__(self, function: Callable[P, Awaitable[R]], /) -> AsyncCached[P, R]: ...
