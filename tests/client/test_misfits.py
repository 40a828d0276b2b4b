"""Replies of a kind that a command cannot have, from a server that is out of step: nobody sees them, and nothing crashes."""

import pytest

from shardcache import LoadPolicy
from shardcache.errors import OutOfStep, QuorumUnavailable
from tests.hostile.server import HostileServer

# A value where a number is due, and the other way round.
SWAPPED = {
    b"GET": b":1\r\n",
    b"PTTL": b"$1\r\nv\r\n",
    b"UNLINK": b"$1\r\nv\r\n",
    b"SET": b":1\r\n",
    b"MGET": b":1\r\n",
    b"EVAL": b"$1\r\nv\r\n",
}
ANSWERS = {b"GET": b"$-1\r\n", b"PTTL": b":-2\r\n", b"UNLINK": b":0\r\n", b"SET": b"+OK\r\n"}


def server(misfit: bytes, reply: bytes | None = None) -> HostileServer:
    """Return a server that answers as it should, but for one command."""
    wrong = {**ANSWERS, misfit: SWAPPED.get(misfit, b":1\r\n") if reply is None else reply}
    return HostileServer(lambda command: [wrong.get(command[0], b"-ERR unknown command\r\n")])


@pytest.mark.parametrize(
    ("call", "command"),
    [
        (lambda cache: cache.get("k"), b"GET"),
        (lambda cache: cache.set("k", "v"), b"SET"),
        (lambda cache: cache.set("k", "v"), b"UNLINK"),
        (lambda cache: cache.delete("k"), b"UNLINK"),
        (lambda cache: cache.ttl("k"), b"EVAL"),
        (lambda cache: cache.get_many(["k", "l"]), b"MGET"),
        (lambda cache: cache.set_many({"k": "v", "l": "w"}), b"SET"),
        (lambda cache: cache.set_many({"k": "v", "l": "w"}), b"UNLINK"),
    ],
    ids=["get", "set", "set void", "delete", "ttl", "get_many", "set_many", "set_many void"],
)
def test_misfit_is_out_of_step(make, call, command) -> None:
    """A reply of the wrong kind, to whichever of the commands that went out together, is an error and ends the connection."""
    with server(command) as broken:
        cache = make([broken.url], on_unavailable="raise")
        with pytest.raises(OutOfStep):
            call(cache)
        [stats] = cache.stats().shards.values()
        assert stats.idle == 0


@pytest.mark.parametrize("reply", [b":1\r\n", b"*2\r\n$1\r\n0\r\n*1\r\n*0\r\n", b"*2\r\n+x\r\n*0\r\n"], ids=repr)
def test_misfit_of_a_page(make, reply) -> None:
    """A page of a walk that is none, or has something else than keys on it."""
    with server(b"SCAN", reply) as broken, pytest.raises(OutOfStep):
        list(make([broken.url], on_unavailable="raise").scan())


def test_misfit_among_values(make) -> None:
    """A list of the right length that holds something else than values."""
    with server(b"MGET", b"*2\r\n:7\r\n$1\r\nv\r\n") as broken, pytest.raises(OutOfStep):
        make([broken.url], on_unavailable="raise").get_many(["k", "l"])


@pytest.mark.parametrize("command", [b"GET", b"PTTL"])
def test_misfit_of_a_look_is_loaded(make, command) -> None:
    """get_or_set loads where the shard is out of step, and raises nothing of its own."""
    with server(command) as broken:
        cache = make([broken.url])
        assert cache.get_or_set("k", lambda: "mine", policy=LoadPolicy(protect="none")) == "mine"
        assert cache.get_or_set_many(["k", "l"], lambda keys: dict.fromkeys(keys, 1)) == {"k": 1, "l": 1}


@pytest.mark.parametrize(
    "reply",
    [b"+OK\r\n", b"$-1\r\n", b"*0\r\n", b"*1\r\n:1\r\n", b"*3\r\n+a\r\n+b\r\n+c\r\n", b"%1\r\n+a\r\n:1\r\n"],
    ids=repr,
)
def test_misfit_of_a_vote(make, reply) -> None:
    """A voter that answers nonsense is no voter: the lock is not granted, and says so."""
    with server(b"EVAL", reply) as broken:
        cache = make([broken.url], timeout=1)
        with pytest.raises(QuorumUnavailable, match="fit"):
            cache.lock("k", ttl=5).acquire(blocking=False) or cache.lock("k", ttl=5, timeout=0).__enter__()
        assert cache.get_or_set("k", lambda: "mine") == "mine"
