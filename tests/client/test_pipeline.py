"""Pipelines: order, errors, and what an exception in the block leaves behind."""

import pytest

from shardcache.errors import (
    ClientClosed,
    InvalidKey,
    InvalidTTL,
    KeyMissing,
    SerializationError,
    WrongType,
)


def test_results_in_order(cache) -> None:
    """Every method queues, and the results come in the order of queueing, whatever the shards."""
    with cache.pipeline() as pipe:
        places = [
            pipe.set("a", 1),
            pipe.get("a"),
            pipe.add("a", 2),
            pipe.replace("a", 3),
            pipe.incr("a", 4),
            pipe.decr("a"),
            pipe.get("a"),
            pipe.contains("a"),
            pipe.touch("a", None),
            pipe.ttl("a"),
            pipe.get("x", "default"),
            pipe.delete("a"),
            pipe.delete("a"),
            pipe.incr("n", initial=5),
        ]
        assert len(pipe) == 14
    assert places == list(range(14))
    assert pipe.results == [
        True,
        1,
        False,
        True,
        7,
        6,
        6,
        True,
        True,
        None,
        "default",
        True,
        False,
        6,
    ]


def test_many_keys(cache) -> None:
    """Thousands of calls over all shards keep their places."""
    with cache.pipeline() as pipe:
        for number in range(2000):
            pipe.set(str(number), number)
            pipe.get(str(number))
    assert pipe.results == [item for number in range(2000) for item in (True, number)]


def test_execute_returns_the_results(cache) -> None:
    """Without a with block, execute sends and returns; the pipeline is then empty and usable."""
    pipe = cache.pipeline()
    pipe.set("a", 1)
    first = pipe.execute()
    assert (first, len(pipe)) == ([True], 0)
    pipe.get("a")
    assert (pipe.execute(), pipe.execute(), first) == ([1], [], [True])


def test_empty(cache) -> None:
    """A pipeline without calls sends nothing and has no results."""
    with cache.pipeline() as pipe:
        pass
    assert pipe.results == []


def test_exception_in_the_block_sends_nothing(cache) -> None:
    """An exception in the block goes through, and nothing was written."""
    pipe = cache.pipeline()
    with pytest.raises(ZeroDivisionError), pipe:
        pipe.set("a", 1)
        1 / 0  # noqa: B018
    assert ("a" in cache, pipe.results) == (False, [])


def test_exception_in_the_block_forgets_the_queue(cache) -> None:
    """What a broken block queued is not sent by the next use of the pipeline."""
    pipe = cache.pipeline()
    with pytest.raises(ZeroDivisionError), pipe:
        pipe.set("a", 1)
        1 / 0  # noqa: B018
    with pipe:
        pipe.set("b", 1)
    assert (pipe.results, "a" in cache, "b" in cache) == ([True], False, True)


def test_first_error_after_all_results(cache) -> None:
    """An error has its place among the results; all others are there when the first raises."""
    cache.set("text", "x")
    pipe = cache.pipeline()
    pipe.set("a", 1)
    pipe.incr("missing")
    pipe.incr("text")
    pipe.get("a")
    with pytest.raises(KeyMissing):
        pipe.execute()
    assert [type(result) for result in pipe.results] == [bool, KeyMissing, WrongType, int]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda pipe: pipe.get(""), InvalidKey),
        (lambda pipe: pipe.set("k", object()), SerializationError),
        (lambda pipe: pipe.set("k", 1, "soon"), InvalidTTL),
    ],
    ids=["key", "value", "ttl"],
)
def test_wrong_argument_is_refused_at_once(cache, call, error) -> None:
    """A wrong argument is refused when it is queued, and takes no place."""
    pipe = cache.pipeline()
    pipe.set("a", 1)
    with pytest.raises(error):
        call(pipe)
    assert (len(pipe), pipe.execute()) == (1, [True])


def test_closed_client(make) -> None:
    """A pipeline of a closed client raises."""
    cache = make()
    pipe = cache.pipeline()
    pipe.set("a", 1)
    cache.close()
    with pytest.raises(ClientClosed):
        pipe.execute()
