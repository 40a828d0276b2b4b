"""Both colours are one API: the same methods, parameters, defaults, annotations and docstrings."""

import inspect
import types
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from typing import Any

import pytest

from shardcache import AsyncShardCache, ShardCache
from shardcache.loading.cached import AsyncCached, AsyncDecorator, Cached, Decorator
from shardcache.locks import AsyncLockSet, AsyncQuorumLock, LockSet, QuorumLock
from shardcache.pipeline import AsyncPipeline, Pipeline
from shardcache.ttl import DEFAULT, Default

# Names that only one of the two has, and why.
pytestmark = pytest.mark.long  # it does not depend on the interpreter

# No URL can say these.
OBJECTS = {"options", "near"}
ONLY_SYNC = {
    "__contains__": "`in` cannot be awaited: contains() is the asyncio way",
    "__enter__": "the asyncio client is used by `async with`",
    "__exit__": "the asyncio client is used by `async with`",
    "mapping": "the methods of a mapping cannot be awaited",
}
ONLY_ASYNC = {
    "__aenter__": "`async with`",
    "__aexit__": "`async with`",
    "aclose": (
        "what contextlib.aclosing and asyncio's own objects call it; the same function as close"
    ),
}
PLAIN = {
    "from_url",
    "embedded",
    "explain",
    "hot_keys",
    "stats",
    "pipeline",
    "lock",
    "lock_many",
    "redis",
    "cached",
    "__init__",
    "__copy__",
    "__deepcopy__",
    "__reduce__",
    "__repr__",
}
PLAIN |= {
    "remaining",
    "ensure_held",
    "handover",
    "fencing_tokens",
}  # of locks; none of these has anything to wait for
LOCKS = [(QuorumLock, AsyncQuorumLock), (LockSet, AsyncLockSet)]
PAIRS = [(ShardCache, AsyncShardCache), (Pipeline, AsyncPipeline), *LOCKS]
# A thread cannot be cancelled from outside, so the sync lock can only tell.
ONLY_ASYNC_PARAMETERS = {
    (kind, name): {"cancel_on_loss"}
    for kind, name in [
        (AsyncQuorumLock, "__init__"),
        (AsyncShardCache, "lock"),
        (AsyncShardCache, "lock_many"),
    ]
}
COUNTERPART = {
    AsyncQuorumLock: QuorumLock,
    AsyncLockSet: LockSet,
    "Nodes | CacheBase | AsyncQuorumLock": "Nodes | CacheBase | QuorumLock",
    AsyncShardCache: ShardCache,
    AsyncPipeline: Pipeline,
    AsyncIterator: Iterator,
    "AsyncRedis": "Redis",
    AsyncCached: Cached,
    AsyncDecorator: Decorator,
    Callable[[AsyncQuorumLock], object] | None: Callable[[QuorumLock], object] | None,
}


def public(kind: type) -> dict[str, Any]:
    """Return what a user may call, special methods that the package itself defines among it."""
    return {
        name: inspect.unwrap(getattr(kind, name))
        for name in dir(kind)
        if (not name.startswith("_") or name.startswith("__"))
        and name != "__del__"  # nobody calls it
        and inspect.isroutine(getattr(kind, name))
        and (getattr(inspect.unwrap(getattr(kind, name)), "__module__", None) or "").startswith(
            "shardcache"
        )
    }


def shared() -> list[Any]:
    """Return each method that both colours of a pair have, as a test parameter."""
    return [
        pytest.param(sync, other, name, id=f"{sync.__name__}.{name}")
        for sync, other in PAIRS
        for name in sorted(public(sync).keys() & public(other).keys())
    ]


def as_sync(hint: Any) -> Any:
    """Return an annotation of the asyncio colour as the sync colour would write it."""
    origin = typing.get_origin(hint)
    if origin is None or origin is types.UnionType:
        return COUNTERPART.get(hint, hint)
    args = typing.get_args(hint)
    if origin is Awaitable:  # a coroutine function that is decorated
        return as_sync(args[0])
    if origin is Callable:
        return Callable[
            [as_sync(one) for one in args[0]] if isinstance(args[0], list) else args[0],
            as_sync(args[1]),
        ]
    if origin in COUNTERPART:
        return COUNTERPART[origin][args]
    return hint


@pytest.mark.parametrize(("sync", "other"), PAIRS, ids=["client", "pipeline", "lock", "locks"])
def test_same_names(sync: type, other: type) -> None:
    """What one colour has the other has too, but for what is listed with its reason."""
    only_sync, only_async = (
        public(sync).keys() - public(other).keys(),
        public(other).keys() - public(sync).keys(),
    )
    assert only_sync - ONLY_SYNC.keys() == set()
    assert only_async - ONLY_ASYNC.keys() == set()


def test_listed_differences_exist() -> None:
    """The list of differences names nothing that is gone."""
    assert {
        name for sync, other in PAIRS for name in public(sync).keys() - public(other).keys()
    } == set(ONLY_SYNC)
    assert {
        name for sync, other in PAIRS for name in public(other).keys() - public(sync).keys()
    } == set(ONLY_ASYNC)


@pytest.mark.parametrize(("sync", "other", "name"), shared())
def test_same_parameters(sync: type, other: type, name: str) -> None:
    """Names, order, kinds and defaults of the parameters."""
    ours, theirs = (inspect.signature(public(kind)[name]) for kind in (sync, other))
    if name == "__init__" and sync is Pipeline:
        ours, theirs = (
            each.replace(parameters=list(each.parameters.values())[:-1]) for each in (ours, theirs)
        )
    extra = ONLY_ASYNC_PARAMETERS.get((other, name), set())
    assert extra <= theirs.parameters.keys()
    theirs = theirs.replace(
        parameters=[p for p in theirs.parameters.values() if p.name not in extra]
    )
    strip = inspect.Parameter.empty
    assert [p.replace(annotation=strip) for p in theirs.parameters.values()] == [
        p.replace(annotation=strip) for p in ours.parameters.values()
    ]


@pytest.mark.parametrize(("sync", "other", "name"), shared())
def test_same_annotations(sync: type, other: type, name: str) -> None:
    """Types of parameters and results; an awaitable gives what the other client returns."""
    ours, theirs = (dict(inspect.get_annotations(public(kind)[name])) for kind in (sync, other))
    if name == "__init__" and sync is Pipeline:
        del ours["runner"], theirs["runner"]  # the driver: not called by users
    for extra in ONLY_ASYNC_PARAMETERS.get((other, name), set()):
        del theirs[extra]
    assert {key: as_sync(hint) for key, hint in theirs.items()} == ours


@pytest.mark.parametrize(("sync", "other", "name"), shared())
def test_same_docstrings(sync: type, other: type, name: str) -> None:
    """One text for both, so that neither promises more."""
    assert public(other)[name].__doc__ == public(sync)[name].__doc__


def test_same_class_docstrings() -> None:
    """The constructor's parameters are described once; an asyncio lock refers to the sync one."""
    assert AsyncShardCache.__doc__ == ShardCache.__doc__
    for sync, other in LOCKS:
        assert f"s `{sync.__name__}`, with ``await``" in (other.__doc__ or "")


@pytest.mark.parametrize(("sync", "other", "name"), shared())
def test_what_talks_to_a_server_is_awaited(sync: type, other: type, name: str) -> None:
    """Nothing that needs no server has to be awaited; all that needs one has to be."""
    del sync
    method = public(other)[name]
    waits = inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)
    queues = other is AsyncPipeline and name != "execute"
    assert waits is (name not in PLAIN and not queues)


def parameters(function: Any, without: Collection[str] = ()) -> list[tuple[str, Any, Any, Any]]:
    """Return name, kind, default and annotation of each parameter without ``self``."""
    return [
        (one.name, one.kind, one.default, one.annotation)
        for one in inspect.signature(function).parameters.values()
        if one.name not in {"self", *without}
    ]


@pytest.mark.parametrize("kind", [ShardCache, AsyncShardCache])
def test_embedded_takes_what_the_constructor_takes(kind: Any) -> None:
    """And says so, to type checkers and to `help`."""
    assert parameters(kind.embedded, ["shards"]) == parameters(kind, ["nodes"])


@pytest.mark.parametrize("kind", [ShardCache, AsyncShardCache])
def test_from_url_takes_what_the_constructor_takes(kind: Any) -> None:
    """All may be left out, since the URL may say it."""
    expected = [
        (
            name,
            how,
            default if name in OBJECTS else DEFAULT,
            hint if name in OBJECTS else hint | Default,
        )
        for name, how, default, hint in parameters(kind, ["nodes"])
    ]
    assert parameters(kind.from_url, ["url"]) == expected


@pytest.mark.parametrize(
    ("kind", "lock"), [(ShardCache, QuorumLock), (AsyncShardCache, AsyncQuorumLock)]
)
def test_lock_takes_what_the_lock_takes(kind: Any, lock: Any) -> None:
    """But for nodes and namespace, which are the client's; several at once are not re-entrant."""
    made = [
        (name, how, default, Callable[[lock], object] | None if name == "on_lost" else hint)
        for name, how, default, hint in parameters(lock, ["nodes", "namespace", "options"])
    ]
    assert parameters(kind.lock) == made
    assert parameters(kind.lock_many, ["names"]) == [
        one for one in made if one[0] not in {"name", "reentrant"}
    ]


def test_aclose_is_close() -> None:
    """Two names, one function."""
    assert AsyncShardCache.aclose is AsyncShardCache.close
