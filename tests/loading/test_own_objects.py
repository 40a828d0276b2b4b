"""Each caller of one load gets a value and an exception of its own.

A loader's exceptions keep their type.
"""

import pytest

from shardcache import LoadPolicy, LoadResult, errors
from tests.waiting import until


class Odd(Exception):
    """An exception with arguments by name only."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


def test_each_caller_gets_a_value_of_his_own(cache, gate, begin) -> None:
    """One who changes what he was given changes nobody else's, nor what is stored."""
    calls = [begin(cache.get_or_set, "k", gate({"names": ["a"]})) for _ in range(4)]
    gate.begun()
    until(lambda: cache.stats().loading.joined == 3)
    gate.open()
    found = [call.result() for call in calls]
    assert found == [{"names": ["a"]}] * 4
    for value in found:
        value["names"].append("mine")
    assert found == [{"names": ["a", "mine"]}] * 4
    assert (len({id(value) for value in found}), cache.get("k")) == (4, {"names": ["a"]})


@pytest.mark.parametrize(
    "result", [(1, [2]), LoadResult([3], 0), [None]], ids=["tuple", "not-stored", "list"]
)
def test_values_of_ones_own_are_equal(cache, gate, begin, result) -> None:
    """Of the same types too, and also where nothing is stored."""
    calls = [begin(cache.get_or_set, "k", gate(result)) for _ in range(2)]
    gate.begun()
    until(lambda: cache.stats().loading.joined == 1)
    gate.open()
    expected = result.value if isinstance(result, LoadResult) else result
    assert [call.result() for call in calls] == [expected] * 2
    assert [type(call.result()) for call in calls] == [type(expected)] * 2


def test_each_caller_of_many_gets_values_of_his_own(cache, gate, begin) -> None:
    """The same for several keys at once."""
    calls = [begin(cache.get_or_set_many, ["a", "b"], gate({"a": [1], "b": [2]})) for _ in range(2)]
    gate.begun()
    until(lambda: cache.stats().loading.joined == 2)
    gate.open()
    one, two = (call.result() for call in calls)
    assert one == two == {"a": [1], "b": [2]}
    assert (one["a"] is not two["a"], one["b"] is not two["b"]) == (True, True)


@pytest.mark.parametrize(
    "kind",
    [
        lambda: ValueError("broken", 7),
        lambda: KeyError("k"),
        lambda: Odd(code=5),
        lambda: OSError(2, "gone", "file"),
    ],
    ids=["ValueError", "KeyError", "not-to-be-copied", "OSError"],
)
def test_each_caller_gets_an_exception_of_his_own(cache, gate, begin, kind) -> None:
    """The same type, arguments, attributes and cause; a note of one caller is not another's."""
    error = kind()
    error.__cause__ = cause = LookupError("underneath")
    calls = [begin(cache.get_or_set, "k", gate(error=error)) for _ in range(4)]
    gate.begun()
    until(lambda: cache.stats().loading.joined == 3)
    gate.open()
    found = [call.exception() for call in calls]
    assert [(type(one), str(one), one.args, one.__cause__) for one in found] == [
        (type(error), str(error), error.args, cause)
    ] * 4
    assert [getattr(one, "code", None) for one in found] == [getattr(error, "code", None)] * 4
    if not isinstance(error, Odd):  # which cannot be copied
        assert len({id(one) for one in found}) == 4
        found[0].add_note("mine")
        assert [hasattr(one, "__notes__") for one in found] == [True, False, False, False]


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration, GeneratorExit])
@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
@pytest.mark.parametrize("timeout", [None, 20])
def test_what_would_end_a_generator_is_an_error_like_others(
    cache, servers, is_async, kind, many, timeout
) -> None:
    """A loader's StopIteration and its kin are raised, and the lock is free at once.

    From a coroutine StopIteration is RuntimeError, as in Python itself.
    """

    def broken(*_):
        raise kind("mine")

    policy = LoadPolicy(lock_ttl=60, hard_timeout=timeout)
    expected = RuntimeError if is_async and kind is StopIteration else kind
    if timeout and not is_async and kind is GeneratorExit:
        expected = GeneratorExit
    ask = cache.get_or_set_many if many else cache.get_or_set
    with pytest.raises(expected, match="StopIteration" if expected is RuntimeError else "mine"):
        ask(["k"] if many else "k", broken, policy=policy)
    until(lambda: not servers.locked(cache, "k"))
    assert cache.get_or_set("k", "next", policy=policy) == "next"
    assert cache.stats().loading.failures == 1


def test_a_stop_can_be_remembered(cache, counter) -> None:
    """``negative_on`` sees the loader's own type."""

    def empty():
        return next(iter(()))

    policy = LoadPolicy(negative_on=(StopIteration,), negative_ttl=60)
    with pytest.raises((StopIteration, RuntimeError)):
        cache.get_or_set("k", empty, policy=policy)
    with pytest.raises(errors.NegativeHit, match="StopIteration"):
        cache.get_or_set("k", counter, policy=policy)


def test_who_asks_after_a_delete_elsewhere_gets_nothing_older(make, gate, begin) -> None:
    """A call after another process' delete may join an older load, but does not get its value."""
    one, two = make(), make()
    first = begin(one.get_or_set, "k", gate("old"))
    gate.begun()
    assert two.delete("k") is False
    second = begin(one.get_or_set, "k", lambda: "new")
    until(lambda: one.stats().loading.joined == 1)
    gate.open()
    assert (first.result(), second.result(), one.get("k")) == ("old", "new", "new")
