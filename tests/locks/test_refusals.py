"""Each impossible argument is refused by name before anything is sent.

The message says what is allowed and what came.
"""

import pytest

from shardcache import QuorumLock, errors
from shardcache.errors import InvalidArgument, InvalidKey, InvalidOption
from shardcache.locks import LockSet


@pytest.fixture
def nowhere(alone):
    """Make locks of voters that do not exist: what is sent would fail in another way."""
    return lambda name="l", ttl=10.0, **settings: alone(
        name, ttl, nodes={"a": "redis://127.0.0.1:1", "b": "redis://127.0.0.1:1"}, **settings
    )


@pytest.mark.parametrize(
    "name", ["", b"", None, 7, "x" * 70_000, "\ud800"], ids=lambda name: repr(name)[:12]
)
def test_name(nowhere, name) -> None:
    """A lock's name is what a key may be."""
    with pytest.raises(InvalidKey):
        nowhere(name)


@pytest.mark.parametrize(
    "ttl", [0, -1, 0.0199, 604_801, "10", None, True, float("nan"), float("inf")], ids=str
)
def test_ttl(nowhere, ttl) -> None:
    """A ttl of zero would be a lock without an end (redis-py), so it has bounds."""
    with pytest.raises(
        InvalidOption, match=r"a lock's ttl must be from 0.02 to 604800 seconds, got"
    ):
        nowhere(ttl=ttl)


@pytest.mark.parametrize("timeout", [0, -1, 10, 11, "1", True, float("nan")], ids=str)
def test_voter_timeout(nowhere, timeout) -> None:
    """A voter must have answered before the lease is over."""
    with pytest.raises(
        InvalidOption, match="voter_timeout must be a number of seconds below the ttl of 10 s, got"
    ):
        nowhere(voter_timeout=timeout)


@pytest.mark.parametrize("timeout", [-2, "1", True, float("nan"), float("inf")], ids=str)
def test_timeout(nowhere, timeout) -> None:
    """The timeout of `with` is a length of time, or None."""
    with pytest.raises(InvalidArgument, match="timeout must be a number of seconds from 0"):
        nowhere(timeout=timeout)


@pytest.mark.parametrize("voters", [[], "a", ["c"], ["a", "a"], [1], [b"a"], ["a", "c"]], ids=repr)
def test_voters(nowhere, voters) -> None:
    """Voters are distinct names of nodes."""
    with pytest.raises(
        InvalidOption, match=r"voters must be (distinct names among 'a', 'b'|names of nodes), got"
    ):
        nowhere(voters=voters)


@pytest.mark.parametrize(
    "label", ["", "a|b", "a\nb", "x" * 201, 7, b"a", "\ud800"], ids=lambda label: repr(label)[:9]
)
def test_label(nowhere, label) -> None:
    """A label is printable, and does not break the key's form."""
    with pytest.raises(
        InvalidOption, match=r"label must be printable text of up to 200 bytes without '\|', got"
    ):
        nowhere(label=label)


def test_on_lost(nowhere) -> None:
    """on_lost is to be called."""
    with pytest.raises(InvalidOption, match="on_lost must be callable or None, got 7"):
        nowhere(on_lost=7)


def test_nodes_of_the_other_colour(cache, alone) -> None:
    """A lock needs a client of its own colour."""
    target = getattr(cache, "_target", None)
    if target is None:
        with pytest.raises(
            InvalidArgument,
            match="nodes of an AsyncQuorumLock may be an AsyncShardCache, got ShardCache",
        ):
            __import__("shardcache").AsyncQuorumLock("l", nodes=cache)
    else:
        with pytest.raises(
            InvalidArgument, match="nodes of a QuorumLock may be a ShardCache, got AsyncShardCache"
        ):
            QuorumLock("l", nodes=target)


@pytest.mark.parametrize("nodes", [[], "http://h", None, 7], ids=repr)
def test_nodes(alone, nodes) -> None:
    """Nodes are what a client takes."""
    with pytest.raises(errors.InvalidArgument):
        alone("l", nodes=nodes)


def test_unknown_setting(cache) -> None:
    """A misspelt setting is no setting."""
    with pytest.raises(TypeError, match="unexpected keyword argument 'ttls'"):
        cache.lock("l", ttls=3)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "at least one name is needed, got none"),
        ("abc", "expected an iterable of keys"),
        ([""], "empty"),
        (7, "iterable"),
    ],
    ids=repr,
)
def test_names_of_a_set(cache, names, said) -> None:
    """Several locks have names, and a lone text is not a list of letters."""
    with pytest.raises(InvalidArgument, match=said):
        cache.lock_many(names)


def test_set_is_not_reentrant() -> None:
    """Several locks at once cannot be entered again: an error, not a wait for oneself."""
    with pytest.raises(InvalidOption, match="several locks at once are not re-entrant"):
        LockSet(["a"], nodes={"a": "redis://127.0.0.1:1"}, reentrant=True)
