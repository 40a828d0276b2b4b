"""Flask-Caching and Flask-Session: applications whose caches are several servers."""

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shardcache.embedded import LocalShards
from shardcache.errors import InvalidOption

flask = pytest.importorskip("flask")
flask_caching = pytest.importorskip("flask_caching")

TYPE = "shardcache.contrib.flask_caching.ShardCacheBackend"
SECRET = "a secret of an application"


@pytest.fixture
def site(shards: LocalShards, namespace: str) -> Iterator[Callable[..., Any]]:
    """Make applications with a cache; return the cache and the application."""
    made = []

    def build(**config: Any) -> Any:
        app = flask.Flask("site")
        app.config.update(
            {
                "CACHE_TYPE": TYPE,
                "CACHE_SHARDCACHE_URL": shards.url,
                "CACHE_KEY_PREFIX": namespace,
                "CACHE_OPTIONS": {"timeout": 20},
                "SECRET_KEY": SECRET,
                **config,
            }
        )
        cache = flask_caching.Cache(app)
        made.append((cache, app))
        return cache, app

    yield build
    for cache, app in made:
        with app.app_context():
            cache.cache.close()


@pytest.fixture(params=["shardcache", "redis"])
def either(request: pytest.FixtureRequest, site: Any, shards: LocalShards) -> Iterator[Any]:
    """An application on our cache, and one on Flask-Caching's own of one server."""
    if request.param == "shardcache":
        yield site()
        return
    app = flask.Flask("site")
    app.config.update(CACHE_TYPE="RedisCache", CACHE_REDIS_URL=shards.servers[0].url)
    app.config["CACHE_KEY_PREFIX"] = request.getfixturevalue("namespace")
    cache = flask_caching.Cache(app)
    yield cache, app
    with app.app_context():
        cache.cache._write_client.close()


def test_views_and_functions(either: Any) -> None:
    """A response is cached, a memoized function too, None is a hit; each can be forgotten."""
    cache, app = either
    calls: list[object] = []

    @app.get("/")
    @cache.cached(timeout=60)
    def page() -> Any:
        calls.append("page")
        return flask.jsonify(number=len(calls))

    @cache.memoize(60, cache_none=True)
    def nothing(about: int) -> None:
        calls.append(about)

    with app.test_client() as http:
        first, second = http.get("/"), http.get("/")
        assert (first.json, second.json) == ({"number": 1}, {"number": 1})
    with app.app_context():
        assert [nothing(1), nothing(1), nothing(2)] == [None] * 3
        assert calls == ["page", 1, 2]
        cache.delete_memoized(nothing, 1)
        nothing(1)
        assert cache.set_many({"a": 1, "b": 2}) == ["a", "b"]
        assert cache.get_many("a", "c") == [1, None]
        assert cache.get_dict("a", "b") == {"a": 1, "b": 2}
        assert cache.delete_many("a", "b") == ["a", "b"]
        assert cache.unlink("a", "b") is not None
        cache.clear()
        nothing(2)
    assert calls == ["page", 1, 2, 1, 2]


def test_pickles_are_signed(site: Any, namespace: str) -> None:
    """What another wrote is a miss; what was signed with an older secret key is read."""
    cache, app = site()
    with app.app_context():
        cache.set("k", {"a": 1})
        client = cache.cache.client
        newer, its = site(SECRET_KEY="b" * 20, SECRET_KEY_FALLBACKS=[SECRET])
        with its.app_context():
            assert newer.get("k") == {"a": 1}
        with client.redis("k") as server:
            server.set(client.explain("k").wire_key, b"!" + pickle.dumps(1))
        assert cache.get("k") is None
        assert client.explain("k").wire_key == f"{namespace}:k".encode()


def test_no_secret_key(site: Any) -> None:
    """Without a SECRET_KEY the settings must say how values are kept."""
    with pytest.raises(InvalidOption, match="SECRET_KEY: set it, or CACHE_OPTIONS"):
        site(SECRET_KEY=None)
    cache, app = site(SECRET_KEY=None, CACHE_OPTIONS={"serializer": "safe", "timeout": 20})
    with app.app_context():
        assert cache.set("k", (1, 2))
        assert cache.get("k") == (1, 2)


def test_dead_shard_is_no_error(mortal: LocalShards) -> None:
    """A page whose shard is out is computed, with every request."""
    app = flask.Flask("site")
    app.config.update(CACHE_TYPE=TYPE, CACHE_SHARDCACHE_URL=mortal.url, SECRET_KEY=SECRET)
    app.config.update(CACHE_OPTIONS={"timeout": 20})
    cache = flask_caching.Cache(app)
    app.debug = True  # an error of the cache would be one of the page

    @app.get("/<name>")
    @cache.cached(timeout=60)
    def page(name: str) -> str:
        return name

    with app.test_client() as http:
        for n in range(10):
            http.get(f"/{n}")
        for server in mortal.servers:
            server.kill()
        assert {http.get(f"/{n}").status_code for n in range(10)} == {200}
    with app.app_context():
        cache.cache.close()


def test_sessions(shards: LocalShards, namespace: str) -> None:
    """Flask-Session keeps its sessions in a cache of `shardcache.contrib.cachelib`."""
    flask_session = pytest.importorskip("flask_session")
    from shardcache.contrib.cachelib import ShardCacheBackend

    store = ShardCacheBackend(shards.url, key_prefix=namespace, timeout=20)
    app = flask.Flask("site")
    app.config.update(SESSION_TYPE="cachelib", SESSION_CACHELIB=store)
    flask_session.Session(app)

    @app.get("/<int:number>")
    def count(number: int) -> str:
        flask.session["sum"] = flask.session.get("sum", 0) + number
        return str(flask.session["sum"])

    with app.test_client() as http:
        assert [http.get("/2").text, http.get("/3").text] == ["2", "5"]
    with app.test_client() as another:
        assert another.get("/1").text == "1"
    store.close()
