"""Results: a read-only mapping of keys to outcomes."""

from collections.abc import Mapping

import pytest

from shardcache import MISS, Failed, Hit, Miss, Results
from shardcache.errors import ShardTimeout

ERROR = ShardTimeout("a", "late")
FOUND: Results[object] = Results({"a": Hit(1), b"b": Miss(), "c": Failed(ERROR), "d": Hit(None)})


def test_mapping() -> None:
    """It is a mapping in the order of asking."""
    assert (isinstance(FOUND, Mapping), len(FOUND), list(FOUND)) == (True, 4, ["a", b"b", "c", "d"])
    assert (FOUND["a"], FOUND[b"b"], "x" in FOUND, FOUND.get("x")) == (Hit(1), Miss(), False, None)
    assert {"a": Hit(1), b"b": Miss(), "c": Failed(ERROR), "d": Hit(None)} == FOUND


def test_views() -> None:
    """Hits with their values, misses and failures are told apart."""
    assert (FOUND.hits, FOUND.misses, FOUND.failures) == ({"a": 1, "d": None}, [b"b"], {"c": ERROR})


def test_absent_key() -> None:
    """A key that was not asked for is a KeyError."""
    with pytest.raises(KeyError):
        FOUND["x"]


def test_read_only() -> None:
    """Nothing can be put in or taken out."""
    with pytest.raises(TypeError):
        FOUND["a"] = Miss()  # type: ignore[index]
    with pytest.raises(TypeError):
        del FOUND["a"]  # type: ignore[attr-defined]


def test_matching() -> None:
    """Outcomes serve in a match statement."""
    said = []
    for outcome in FOUND.values():
        match outcome:
            case Hit(value):
                said.append(value)
            case Miss():
                said.append("miss")
            case Failed(error):
                said.append(error.shard)
    assert said == [1, "miss", "a", None]


def test_miss_is_falsy_and_unlike_any_value() -> None:
    """MISS equals nothing that can be stored."""
    assert (bool(MISS), repr(MISS), [value == MISS for value in (None, False, 0, "", "MISS")]) == (
        False,
        "MISS",
        [False] * 5,
    )


def test_repr() -> None:
    """The repr shows the outcomes."""
    assert repr(Results({"a": Hit(1)})) == "Results({'a': Hit(value=1)})"
