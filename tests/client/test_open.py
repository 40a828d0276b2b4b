"""Making, asking about, and closing a client."""

import json
from dataclasses import asdict

import pytest
import redis

from shardcache import HashRing, Node, Options, PingResult
from shardcache.errors import (
    ClientClosed,
    InvalidArgument,
    InvalidOption,
    InvalidURL,
    ShardUnavailable,
)

LONG_TIMEOUT = 20.0


def test_url_says_every_setting(colour, shards, namespace) -> None:
    """Client parameters and options stand in one text."""
    url = (
        f"{shards.url}&namespace={namespace}&default_ttl=77&serializer=json&compression=zlib&"
        "timeout=19&on_unavailable=raise&compress_min=10&max_value=4096&max_idle=3&"
        "placement=ketama&failures=5&first_probe=0.2&"
        "max_probe=3&max_out=0.5&protocol=2&client_name=tester"
    )
    with colour.from_url(url) as cache:
        cache.set("k", ["a" * 100])
        explanation = cache.explain("k")
        with redis.Redis.from_url(shards.urls[explanation.shard]) as plain:
            stored = plain.get(f"{namespace}:k")
            names = {client["name"] for client in plain.client_list()}
        assert (cache.get("k"), len(stored) < 100, 70 < cache.ttl("k") <= 77) == (
            ["a" * 100],
            True,
            True,
        )
        assert ("tester" in names, explanation.wire_key) == (True, f"{namespace}:k".encode())
        with pytest.raises(ValueError, match="4096"):
            cache.set("k", "x" * 5000)
        with pytest.raises(ValueError, match=r"JSON|json"):
            cache.set("k", {1})


def test_overrides_win(colour, shards, namespace) -> None:
    """What is given to from_url wins over what the URL says."""
    with colour.from_url(
        f"{shards.url}&default_ttl=5&timeout=1", namespace=namespace, default_ttl=None
    ) as cache:
        cache.set("k", 1)
        assert (cache.ttl("k"), cache.explain("k").wire_key) == (None, f"{namespace}:k".encode())


def test_environment(colour, shards, namespace, monkeypatch) -> None:
    """Without a URL the environment variable is taken."""
    monkeypatch.setenv("SHARDCACHE_URL", f"{shards.url}&namespace={namespace}")
    with colour.from_url(timeout=LONG_TIMEOUT) as cache:
        assert (cache.set("k", 1), cache.get("k")) == (True, 1)


def test_environment_not_set(colour, monkeypatch) -> None:
    """Without a URL and without the variable there is a message that names it."""
    monkeypatch.delenv("SHARDCACHE_URL", raising=False)
    with pytest.raises(InvalidURL, match="SHARDCACHE_URL"):
        colour.from_url()


def test_forms_of_nodes(make, shards) -> None:
    """A mapping, Node objects, and URLs with names in list or text make the same ring."""
    keys = [str(number) for number in range(200)]
    forms = [
        shards.urls,
        [Node(name, url=url) for name, url in shards.urls.items()],
        [f"{url}&name={name}" for name, url in shards.urls.items()],
        shards.url,
    ]
    owners = [[cache.explain(key).shard for key in keys] for cache in map(make, forms)]
    assert owners == [owners[0]] * 4


def test_order_of_nodes_does_not_matter(make, shards) -> None:
    """A node is placed by its name, not by its place in the list."""
    one, two = make(shards.urls), make(dict(reversed(shards.urls.items())))
    one.set_many({str(number): number for number in range(100)})
    assert two.get_many(str(number) for number in range(100)) == {
        str(number): number for number in range(100)
    }


def test_weights(make, shards) -> None:
    """A weight in a Node and in a URL's query count alike, and the heavy node has more keys."""
    names, urls = zip(*shards.urls.items(), strict=True)
    as_nodes = make(
        [
            Node(name, 8.0 if at == 0 else 1.0, url)
            for at, (name, url) in enumerate(shards.urls.items())
        ]
    )
    in_urls = make(
        [
            f"{url}&name={name}&weight={8 if name == names[0] else 1}"
            for name, url in zip(names, urls, strict=True)
        ]
    )
    keys = [str(number) for number in range(1000)]
    owners = [cache.explain(key).shard for cache in (as_nodes, in_urls) for key in keys]
    assert owners[:1000] == owners[1000:]
    assert owners.count(names[0]) > 1200


def test_unnamed_nodes_are_called_by_address(make, shards) -> None:
    """A node without a name takes its address and database."""
    url = shards.urls["shard-1"]
    path = url.removeprefix("unix://").partition("?")[0]
    assert list(make(url).ping()) == [f"{path}/0"]


def test_placement_of_the_callers_own(make, shards) -> None:
    """A callable from the nodes to a placement is taken; one that loses nodes is refused."""
    cache = make(options=Options(placement=HashRing))
    assert (cache.set("k", 1), cache.get("k")) == (True, 1)
    with pytest.raises(InvalidOption, match="placement"):
        make(options=Options(placement=lambda nodes: HashRing(list(nodes)[1:])))


def test_explain(cache, shards, namespace, raw) -> None:
    """Explain says where a key lives, and asks nobody."""
    cache.set("{tag}k", 1)
    found = cache.explain("{tag}k")
    assert (found.key, found.wire_key, found.hashed) == (
        "{tag}k",
        f"{namespace}:{{tag}}k".encode(),
        b"tag",
    )
    assert (found.shard, found.state) == (found.successors[0], "closed")
    assert sorted(found.successors) == sorted(shards.urls)
    assert raw(cache, "{tag}k").exists(f"{namespace}:{{tag}}k") == 1
    assert all(part in str(found) for part in ("{tag}k", found.shard, found.address, "in service"))


def test_ping(cache, shards) -> None:
    """Ping answers seconds for each shard by name, as data that can be sent as JSON."""
    found = cache.ping()
    assert {name: (one.ok, one.error) for name, one in found.items()} == dict.fromkeys(
        shards.urls, (True, None)
    )
    assert all(0 < one.seconds < LONG_TIMEOUT for one in found.values())
    sent = json.loads(json.dumps({name: one.as_dict() for name, one in found.items()}))
    assert {name: PingResult(**one) for name, one in sent.items()} == found


def test_ping_tells_the_dead(mortal, make) -> None:
    """Ping says of a dead shard why, and of the living in how many seconds; or raises, if asked."""
    cache = make(mortal.urls)
    mortal.servers[1].kill()
    found = cache.ping()
    assert {name: answer.ok for name, answer in found.items()} == {
        "shard-1": True,
        "shard-2": False,
        "shard-3": True,
    }
    dead = found["shard-2"]
    assert (dead.seconds, dead.error_type, dead.error.partition(":")[0]) == (
        None,
        "ShardUnavailable",
        "cannot connect",
    )
    assert asdict(dead) == dead.as_dict() == json.loads(json.dumps(dead.as_dict()))
    with pytest.raises(ShardUnavailable, match="shard 'shard-2': cannot connect"):
        dead.raise_for_error()
    found["shard-1"].raise_for_error()


def test_stats_are_frozen(cache, shards) -> None:
    """Stats is a snapshot that does not change under its reader."""
    before = cache.stats()
    cache.set("k", 1)
    cache.get("k")
    after = cache.stats()
    assert (before.hits, after.hits, sorted(after.shards)) == (0, 1, sorted(shards.urls))
    with pytest.raises(AttributeError):
        after.hits = 5
    shard = after.shards[cache.explain("k").shard]
    assert (shard.state, shard.connects, shard.failures) == ("closed", 1, 0)


def test_no_connection_before_the_first_call(cache) -> None:
    """Making a client opens no connection."""
    assert sum(shard.connects for shard in cache.stats().shards.values()) == 0


CALLS = {
    "get": lambda cache: cache.get("k"),
    "get_many": lambda cache: cache.get_many(["k"]),
    "fetch_many": lambda cache: cache.fetch_many(["k"]),
    "set": lambda cache: cache.set("k", 1),
    "add": lambda cache: cache.add("k", 1),
    "replace": lambda cache: cache.replace("k", 1),
    "set_many": lambda cache: cache.set_many({"k": 1}),
    "delete": lambda cache: cache.delete("k"),
    "delete_many": lambda cache: cache.delete_many(["k"]),
    "incr": lambda cache: cache.incr("k", initial=0),
    "decr": lambda cache: cache.decr("k", initial=0),
    "touch": lambda cache: cache.touch("k"),
    "ttl": lambda cache: cache.ttl("k"),
    "contains": lambda cache: cache.contains("k"),
    "ping": lambda cache: cache.ping(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
def test_closed(make, call, used) -> None:
    """Every call on a closed client raises ClientClosed, under "degrade" too; close may repeat."""
    cache = make()
    if used:
        cache.set("k", 1)
    cache.close()
    cache.close()
    with pytest.raises(ClientClosed):
        call(cache)
    assert [shard.idle for shard in cache.stats().shards.values()] == [0, 0, 0]


def test_closed_with_a_shard_out(mortal, make) -> None:
    """A closed client raises ClientClosed, not a miss, where the key's shard was out of service."""
    cache = make(mortal.urls, options=Options(failures=1, first_probe=60, max_probe=60))
    name = cache.explain("k").shard
    next(server for server in mortal.servers if server.name == name).kill()
    assert (cache.get("k"), cache.stats().shards[name].state) == (None, "open")
    cache.close()
    with pytest.raises(ClientClosed):
        cache.get("k")


def test_context_manager_closes(make, shards, colour, namespace) -> None:
    """Leaving the block closes; the block's own exception goes through."""
    with pytest.raises(ZeroDivisionError), colour(shards.urls, namespace=namespace) as cache:
        cache.set("k", 1)
        1 / 0  # noqa: B018
    with pytest.raises(ClientClosed):
        cache.get("k")


def test_embedded(colour) -> None:
    """Local servers come with the client and go with it."""
    with colour.embedded(shards=2, namespace="n", timeout=LONG_TIMEOUT) as cache:
        assert (cache.set("k", 1), cache.get("k"), len(cache.ping())) == (True, 1, 2)


def test_repr_names_the_shards_only(colour) -> None:
    """The repr has names and no credentials, as have errors and explanations."""
    with colour({"a": "redis://user:hunter2@127.0.0.1:1/0"}) as cache:
        assert (repr(cache).endswith("ShardCache(a)"), "hunter2" in repr(cache.explain("k"))) == (
            True,
            False,
        )
        assert "hunter2" not in str(cache.ping()["a"])


@pytest.mark.parametrize(
    "settings",
    [
        {"namespace": "a{b"},
        {"namespace": 1},
        {"default_ttl": "5"},
        {"serializer": "yaml"},
        {"serializer": object()},
        {"compression": "lz77"},
        {"timeout": 0},
        {"timeout": "1"},
        {"timeout": float("nan")},
        {"timeout": True},
        {"on_unavailable": "ignore"},
        {"on_unavailable": None},
        {"options": {"max_idle": 1}},
    ],
    ids=lambda settings: " ".join(f"{name} {value!r:.12}" for name, value in settings.items()),
)
def test_wrong_setting(colour, settings) -> None:
    """A wrong setting is refused with a message that quotes what came."""
    [(name, value)] = settings.items()
    with pytest.raises(InvalidArgument) as caught:
        colour("redis://127.0.0.1:1", **settings)
    shown = (
        type(value).__name__
        if name in ("options", "serializer") and not isinstance(value, str)
        else repr(value)
    )
    assert (name.split("_")[-1] in str(caught.value), shown in str(caught.value)) == (True, True)


def test_wrong_options_in_from_url(colour) -> None:
    """from_url refuses options of another type as the constructor does."""
    with pytest.raises(InvalidOption, match="options must be"):
        colour.from_url("redis://127.0.0.1:1", options="fast")
