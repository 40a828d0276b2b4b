"""Replies of a kind that a command cannot have, from a server that is out of step.

No caller sees them, and nothing crashes.
"""

import pytest

from shardcache import LoadPolicy
from shardcache.errors import OutOfStep, QuorumUnavailable, WrongType
from shardcache.flows.load.tags import ENSURE
from shardcache.flows.lock.scripts import ACQUIRE, CONFIGURE, REGISTER
from shardcache.flows.scripts import ADD_TO
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
ANSWERS = {
    b"GET": b"$-1\r\n",
    b"PTTL": b":-2\r\n",
    b"UNLINK": b":0\r\n",
    b"SET": b"+OK\r\n",
    ACQUIRE: b"*5\r\n:1\r\n:7\r\n:0\r\n:1000\r\n:100000\r\n",
}


def server(misfit: bytes, reply: bytes | None = None) -> HostileServer:
    """Return a server that answers as it should, but for one command, or one script."""
    said = {**ANSWERS, misfit: SWAPPED.get(misfit, b":1\r\n") if reply is None else reply}

    def answer(command: tuple[bytes, ...]) -> list[bytes]:
        found = said.get(command[1]) if command[0] == b"EVAL" != misfit else None
        return [found or said.get(command[0], b"-ERR unknown command\r\n")]

    return HostileServer(answer)


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
    """A reply of the wrong kind, to any command of a batch, is an error and ends the connection."""
    with server(command) as broken:
        cache = make([broken.url], on_unavailable="raise")
        with pytest.raises(OutOfStep):
            call(cache)
        [stats] = cache.stats().shards.values()
        assert stats.idle == 0


@pytest.mark.parametrize(
    "reply",
    [
        b":1\r\n",
        b"+0\r\n",
        b"*0\r\n",
        b"*2\r\n$1\r\n0\r\n*1\r\n*0\r\n",
        b"*2\r\n$1\r\n0\r\n*1\r\n:7\r\n",
        b"*2\r\n:0\r\n*0\r\n",
        b"*2\r\n+x\r\n*0\r\n",
        b"*2\r\n$-1\r\n*0\r\n",
        b"*2\r\n+%b\r\n*0\r\n" % (b"9" * 5000),
    ],
    ids=range(9),
)
def test_misfit_of_a_page(make, reply) -> None:
    """A page of a walk that is none, or has something else than keys on it."""
    with server(b"SCAN", reply) as broken:
        with pytest.raises(OutOfStep):
            list(make([broken.url], on_unavailable="raise").scan())
        with pytest.raises(OutOfStep):
            make([broken.url], on_unavailable="raise").clear()


@pytest.mark.parametrize(
    "reply",
    [
        b"*2\r\n:7\r\n$1\r\nv\r\n",
        b"*2\r\n*0\r\n$-1\r\n",
        b"*1\r\n$-1\r\n",
        b"*3\r\n$-1\r\n$-1\r\n$-1\r\n",
        b"$-1\r\n",
    ],
    ids=repr,
)
def test_misfit_among_values(make, reply) -> None:
    """A list of another length or content is an error if asked for, a miss if not."""
    with server(b"MGET", reply) as broken:
        strict, lenient = make([broken.url], on_unavailable="raise"), make([broken.url])
        with pytest.raises(OutOfStep):
            strict.get_many(["k", "l"])
        assert lenient.get_many(["k", "l"]) == {}
        found = lenient.fetch_many(["k", "l"])
        assert [type(one.error) for one in found.values()] == [OutOfStep] * 2


@pytest.mark.parametrize(
    "reply", [b"+OK\r\n", b":1\r\n", b"+\r\n", b"+1_0\r\n", b"*0\r\n"], ids=repr
)
@pytest.mark.parametrize("method", ["incr", "decr"])
def test_misfit_of_a_sum(make, method, reply) -> None:
    """What no counter can say is no sum, alone and in a pipeline."""
    with server(ADD_TO, reply) as broken:
        cache = make([broken.url], on_unavailable="raise")
        with pytest.raises(OutOfStep):
            getattr(cache, method)("k", initial=1)
        lenient = make([broken.url])
        assert getattr(lenient, method)("k", initial=1) is None
        pipeline = lenient.pipeline()
        getattr(pipeline, method)("k", initial=1)
        assert list(pipeline.execute()) == [None]


@pytest.mark.parametrize("reply", [b":1\r\n", b"$-1\r\n", b"*0\r\n"], ids=repr)
def test_misfit_of_a_version(make, reply) -> None:
    """A tag whose version is none: the value is not stored, and no argument is blamed."""
    with server(ENSURE, reply) as broken:
        with pytest.raises(OutOfStep):
            make([broken.url], on_unavailable="raise").set("k", "v", tags=["t"])
        assert make([broken.url]).set("k", "v", tags=["t"]) is False


def test_tag_with_another_content(make) -> None:
    """A tag's key under which another program has stored something is told as any other key."""
    with server(ENSURE, b"+odd\r\n") as broken, pytest.raises(WrongType, match="tag"):
        make([broken.url]).set("k", "v", tags=["t"])


@pytest.mark.parametrize(
    ("script", "reply"),
    [
        (REGISTER, b"*3\r\n:1\r\n:2\r\n:3\r\n"),
        (REGISTER, b"*5\r\n:1\r\n:2\r\n:3\r\n:0\r\n:0\r\n"),
        (REGISTER, b"+OK\r\n"),
        (ACQUIRE, b"*4\r\n:0\r\n:5\r\n:7\r\n*0\r\n"),
        (ACQUIRE, b"*3\r\n:7\r\n:5\r\n:7\r\n"),
        (ACQUIRE, b"*2\r\n:2\r\n+odd\r\n"),
        (ACQUIRE, b"*2\r\n:2\r\n+[1,2,3]\r\n"),
        (ACQUIRE, b"*2\r\n:2\r\n+" + b"[" * 5000 + b"\r\n"),
    ],
    ids=[
        "register short",
        "register long",
        "register text",
        "holder",
        "word",
        "members",
        "json",
        "deep",
    ],
)
def test_misfit_of_the_protocol(make, script, reply) -> None:
    """A voter that answers nonsense to a script of a lock grants none, and nothing else follows."""
    with server(script, reply) as broken:
        cache = make([broken.url], timeout=1)
        with pytest.raises(QuorumUnavailable):
            cache.lock("k", ttl=5).acquire(blocking=False) or cache.lock(
                "k", ttl=5, timeout=0
            ).__enter__()


@pytest.mark.parametrize(
    "reply", [b"+OK\r\n", b"*3\r\n+1-a\r\n+odd\r\n+odd\r\n", b"*1\r\n+1-a\r\n"], ids=repr
)
def test_misfit_of_a_membership(make, reply) -> None:
    """The same for a voter's answer about the list of voters."""
    with server(CONFIGURE, reply) as broken:
        answer = broken.answer
        broken.answer = lambda command: (
            [b"*2\r\n:2\r\n+\r\n"] if ACQUIRE in command else answer(command)
        )
        cache = make([broken.url], timeout=1)
        with pytest.raises(QuorumUnavailable):
            cache.lock("k", ttl=5).acquire(blocking=False) or cache.lock(
                "k", ttl=5, timeout=0
            ).__enter__()


@pytest.mark.parametrize("command", [b"GET", b"PTTL"])
def test_misfit_of_a_look_is_loaded(make, command) -> None:
    """get_or_set loads where the shard is out of step, and raises nothing of its own."""
    with server(command) as broken:
        cache = make([broken.url])
        assert cache.get_or_set("k", lambda: "mine", policy=LoadPolicy(protect="none")) == "mine"
        assert cache.get_or_set_many(["k", "l"], lambda keys: dict.fromkeys(keys, 1)) == {
            "k": 1,
            "l": 1,
        }


@pytest.mark.parametrize(
    "reply",
    [
        b"+OK\r\n",
        b"$-1\r\n",
        b"*0\r\n",
        b"*1\r\n:1\r\n",
        b"*3\r\n+a\r\n+b\r\n+c\r\n",
        b"%1\r\n+a\r\n:1\r\n",
    ],
    ids=repr,
)
def test_misfit_of_a_vote(make, reply) -> None:
    """A voter that answers nonsense is no voter: the lock is not granted, and says so."""
    with server(b"EVAL", reply) as broken:
        cache = make([broken.url], timeout=20)
        with pytest.raises(QuorumUnavailable, match="fit"):
            cache.lock("k", ttl=200).acquire(blocking=False) or cache.lock(
                "k", ttl=200, timeout=0
            ).__enter__()
        assert cache.get_or_set("k", lambda: "mine") == "mine"
