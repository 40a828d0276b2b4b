"""Django: one configuration of the process, and caches of each kind with a prefix of their own."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from shardcache import ShardCache
from shardcache.contrib import process_clients
from shardcache.embedded import LocalShards

# Under `tox -e web` the conftest above has it that Django is there.
collect_ignore_glob = [] if find_spec("django") else ["*.py"]

if find_spec("django"):
    import django
    from django.conf import settings

    if not settings.configured:
        settings.configure(
            SECRET_KEY="a secret of fifty characters, as Django makes them",
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
            INSTALLED_APPS=["django.contrib.sessions", "shardcache.contrib.django"],
            ROOT_URLCONF="no.urls",
            TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
            USE_TZ=True,
        )
        django.setup()


class Async:
    """A backend whose methods are those with the "a" before their names, on a running loop."""

    def __init__(self, backend: Any, loop: asyncio.AbstractEventLoop) -> None:
        self.backend = backend
        self._loop = loop

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.backend, f"a{name}")

        def call(*args: Any, **kwargs: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(method(*args, **kwargs), self._loop).result()

        return call

    def __contains__(self, key: object) -> bool:
        return bool(self.has_key(key))


@pytest.fixture(autouse=True)
def _clients_end() -> Iterator[None]:
    """Close what the backend keeps for the process: a thread would probe dead shards for ever.

    Other tests notice: hypothesis refuses draws during which somebody else used `random`.
    """
    before = len(process_clients._shared)
    yield
    for _, clients in process_clients._shared[before:]:
        if ShardCache in clients._made:
            clients.sync.close()
        clients.close_aio()
    del process_clients._shared[before:]


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.fixture
def backend(shards: LocalShards, namespace: str) -> Callable[..., Any]:
    """Make a `ShardCacheBackend` by OPTIONS and other settings; calls are not about time."""
    from shardcache.contrib.django import ShardCacheBackend

    def make(location: Any = None, options: Any = (), **params: Any) -> Any:
        given = {"timeout": 20.0, **dict(options)}
        return ShardCacheBackend(
            shards.url if location is None else location,
            {"KEY_PREFIX": namespace, "OPTIONS": given, **params},
        )

    return make


@pytest.fixture
def django_redis(shards: LocalShards, namespace: str) -> Iterator[Callable[..., Any]]:
    """Make caches of django-redis over one server."""
    module = pytest.importorskip("django_redis.cache")
    made = []

    def make(**params: Any) -> Any:
        made.append(module.RedisCache(shards.servers[0].url, {"KEY_PREFIX": namespace, **params}))
        return made[-1]

    yield make
    for one in made:
        one.client.get_client().connection_pool.disconnect()


# What django-redis does otherwise than Django says, by the test that shows it.
DIFFERS = {
    "test_timeout_of_no_time": "set_many returns None, not the keys that were not stored",
    "test_delete": "delete_many returns how many there were",
    "test_incr": "to count on a text is a TypeError",
    "test_versions": "set_many returns None, not the keys that were not stored",
    "test_key_warnings": "it warns of no key",
}


@pytest.fixture(params=["sync", "async", "django", "django-redis"])
def new_cache(
    request: pytest.FixtureRequest, shards: LocalShards, namespace: str
) -> Callable[..., Any]:
    """Make a cache: ours, ours by its asyncio methods, Django's own, or that of django-redis."""
    from django.core.cache.backends.redis import RedisCache

    if request.param == "django-redis":
        differs = DIFFERS.get(request.node.originalname)
        if differs is not None:
            request.applymarker(pytest.mark.xfail(reason=differs, strict=True))
        made: Callable[..., Any] = request.getfixturevalue("django_redis")
        return made
    backend = request.getfixturevalue("backend")

    def make(**params: Any) -> Any:
        if request.param == "django":
            return RedisCache(shards.servers[0].url, {"KEY_PREFIX": namespace, **params})
        made = backend(**params)
        return made if request.param == "sync" else Async(made, request.getfixturevalue("loop"))

    return make


@pytest.fixture
def cache(new_cache: Callable[..., Any]) -> Any:
    """A cache of each kind."""
    return new_cache()


@pytest.fixture(params=["sync", "async"])
def ours(request: pytest.FixtureRequest, backend: Callable[..., Any]) -> Any:
    """Our backend, by both kinds of methods."""
    made = backend()
    return made if request.param == "sync" else Async(made, request.getfixturevalue("loop"))
