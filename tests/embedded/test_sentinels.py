"""Local Sentinels: they agree when the block begins, fail over, and are gone with their process."""

from collections.abc import Iterator

import pytest
import redis

from shardcache import errors
from shardcache.embedded import LocalSentinels

pytestmark = pytest.mark.long

PASSWORD, OTHER = "m@ster", "s&ntinel"


@pytest.fixture(scope="module")
def local(program) -> Iterator[LocalSentinels]:
    """Two masters with a replica each, and passwords; each test leaves all of them running."""
    with LocalSentinels(
        ("a", "b"), password=PASSWORD, sentinel_password=OTHER, binary=program
    ) as local:
        yield local


def asked(local) -> set[object]:
    """Return the ports at which redis-py is told that the master a is, by each Sentinel."""
    found = set()
    for sentinel in local.sentinels:
        with redis.Redis(port=sentinel.port, password=OTHER) as client:
            # redis-py's method for it fails on 7.0 (its parser refuses an option of its own).
            _, port = client.execute_command("SENTINEL", "get-master-addr-by-name", "a")
            found.add(int(port))
    return found


def test_all_agree_at_the_start(local, ask):
    """Every Sentinel names the same master, which serves, and its replica has what it stores."""
    assert [server.name for server in local.servers] == [
        *("a-1", "b-1", "a-2", "b-2"),
        *("sentinel-1", "sentinel-2", "sentinel-3"),
    ]
    master = local.master("a")
    assert asked(local) == {master.port}
    assert ask(master, "SET", "k", "v", password=PASSWORD) == b"OK"
    local.wait_until_ok()
    [replica] = local.replicas("a")
    assert ask(replica, "GET", "k", password=PASSWORD) == b"v"
    assert local.members["a"] == tuple(one for one in local.servers if one.name[0] == "a")


def test_url(local):
    """It has the Sentinels, the names, and both passwords; a repr has none."""
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in local.sentinels)
    assert local.url == (
        f"redis+sentinel://:m%40ster@{hosts}?masters=a,b&sentinel_password=s%26ntinel"
    )
    assert local.urls["a-1"].startswith("redis://:m%40ster@127.0.0.1:")
    assert local.urls["sentinel-1"].startswith("redis://:s%26ntinel@127.0.0.1:")
    for secret in ("m@ster", "m%40ster", "s&ntinel", "s%26ntinel"):
        assert secret not in repr(local)


def test_failover(local, ask):
    """Another server becomes the master, the former one its replica, and no value is lost."""
    before = local.master("a")
    assert ask(before, "SET", "kept", "v", password=PASSWORD) == b"OK"
    local.wait_until_ok()
    after = local.fail_over("a")
    assert after is local.master("a")
    assert after is not before
    assert local.replicas("a") == (before,)
    assert asked(local) == {after.port}
    assert ask(after, "GET", "kept", password=PASSWORD) == b"v"
    with pytest.raises(redis.exceptions.ReadOnlyError):
        ask(before, "SET", "k", "v", password=PASSWORD)


@pytest.mark.parametrize("end", ["kill", "pause"])
def test_silent_master_is_replaced(local, end):
    """The wait ends when the replica is the master; the former one comes back as its replica."""
    before = local.master("b")
    [replica] = local.replicas("b")
    getattr(before, end)()
    local.wait_until_ok()
    assert local.master("b") is replica
    before.resume()
    before.start()
    local.wait_until_ok()
    assert local.replicas("b") == (before,)


def test_two_sentinels_are_a_majority(local):
    """With one of three down the others fail over, and it learns of that when it comes back."""
    first = local.sentinels[0]
    first.kill()
    after = local.fail_over("a")
    first.start()
    local.wait_until_ok()
    assert asked(local) == {after.port}


def test_nobody_is_left_to_ask(ask):
    """Without Sentinels, or without its only server, a wait ends with what is missing."""
    with LocalSentinels(["only"], replicas=0, sentinels=1) as local:
        assert local.replicas("only") == ()
        assert ask(local.sentinels[0], "PING") == b"PONG"
        local.master("only").kill()
        with pytest.raises(errors.ServerNotStarted, match="the master only does not answer"):
            local.wait_until_ok(timeout=0)
        local.sentinels[0].kill()
        with pytest.raises(errors.ServerNotStarted, match="no Sentinel runs"):
            local.wait_until_ok(timeout=0)
        with pytest.raises(errors.ShardUnavailable, match="no Sentinel runs"):
            local.master("only")


def test_all_is_gone_after_the_block(tmp_path):
    """Closing ends all servers and removes what they wrote; it can be started once more."""
    group = LocalSentinels(("x",), replicas=0, sentinels=1, directory=tmp_path)
    for _ in range(2):
        with group as local:
            servers = local.servers
            assert len(servers) == 2
            assert list(local.members) == ["x"]
        assert [server.running for server in servers] == [False, False]
        assert list(tmp_path.iterdir()) == []
        assert (local.servers, local.sentinels, local.members, local.url) == ((), (), {}, "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"masters": ()}, r"masters must be 1 to 16 different names, got \(\)"),
        ({"masters": ("a", "a")}, "masters must be 1 to 16 different names"),
        ({"masters": "abc"}, "masters must be 1 to 16 different names, got 'abc'"),
        ({"masters": 3}, "masters must be 1 to 16 different names, got 3"),
        ({"masters": ("a b",)}, "the name of a master has 1 to 50 letters.*got 'a b'"),
        ({"masters": (1,)}, "the name of a master has 1 to 50 letters.*got 1"),
        ({"replicas": -1}, "replicas must be a whole number from 0 to 3, got -1"),
        ({"sentinels": 0}, "sentinels must be a whole number from 1 to 9, got 0"),
        ({"down_after": 0}, "down_after must be seconds from 0.1 to 3600, got 0"),
        ({"down_after": "1"}, "down_after must be seconds"),
        ({"password": 'a"b'}, "password must have no spaces, quotation marks or backslashes"),
        ({"sentinel_password": "a b"}, "password must have no spaces"),
    ],
)
def test_wrong_arguments(arguments, complaint):
    """An argument outside what is allowed is refused before anything is started."""
    with pytest.raises(errors.InvalidOption, match=complaint):
        LocalSentinels(**arguments)


def test_unknown_master(local):
    """The error says which masters there are."""
    with pytest.raises(errors.InvalidOption, match="there are the masters a, b, not 'c'"):
        local.master("c")
