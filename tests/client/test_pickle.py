"""Pickling a client: what came from the environment is read again there; no secret is in it."""

import copy
import pickle

import pytest

from shardcache import AsyncShardCache, Options, QuorumLock, ShardCache

URL = "redis://user:s3cret@127.0.0.1:1/3?namespace=shop&timeout=0.2"
KINDS = pytest.mark.parametrize("kind", [ShardCache, AsyncShardCache])


@KINDS
def test_made_from_the_environment(kind, monkeypatch):
    """Pickled without address or password; the reader takes them from its own environment."""
    monkeypatch.setenv("SHARDCACHE_URL", URL)
    raw = pickle.dumps(kind.from_url(namespace="other", default_ttl=7))
    assert [word in raw for word in (b"s3cret", b"user", b"127.0.0.1", b"shop")] == [False] * 4
    monkeypatch.setenv("SHARDCACHE_URL", "redis://10.0.0.1:7/3?timeout=0.1")
    back = pickle.loads(raw)
    assert (type(back), repr(back), back.explain("k").wire_key) == (
        kind,
        f"{kind.__name__}(10.0.0.1:7/3)",
        b"other:k",
    )
    assert (back._context.timeout, back._context.requests.ttl_ms(copy.copy(7))) == (0.1, 7000)


@KINDS
@pytest.mark.parametrize("made", ["nodes", "url", "options"])
def test_all_others_are_refused(kind, made, monkeypatch):
    """One sentence says why, and what to do."""
    monkeypatch.setenv("SHARDCACHE_URL", URL)
    client = {
        "nodes": lambda: kind([URL.partition("?")[0]]),
        "url": lambda: kind.from_url(URL),
        "options": lambda: kind.from_url(options=Options(signing_key="0123456789abcdef")),
    }[made]()
    with pytest.raises(
        TypeError, match=f"{kind.__name__} cannot be pickled.*SHARDCACHE_URL"
    ) as caught:
        pickle.dumps(client)
    assert "s3cret" not in str(caught.value)
    # These stay in the process.
    assert (copy.copy(client), copy.deepcopy(client)) == (client, client)


def test_locks_are_refused():
    """A lease belongs to its process; its text goes to another one."""
    with pytest.raises(TypeError, match=r"QuorumLock cannot be pickled or copied.*handover"):
        pickle.dumps(QuorumLock("a", nodes=["redis://127.0.0.1:1"]))
