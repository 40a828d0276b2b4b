"""The tree of errors: one root, names of its own, and each can be sent to another process."""

import builtins
import copy
import pickle
import re

import pytest

from shardcache import errors

ALL = [getattr(errors, name) for name in errors.__all__]
each = pytest.mark.parametrize("kind", ALL, ids=errors.__all__)


def example(kind: type[Exception]) -> Exception:
    if issubclass(kind, errors.NegativeHit):
        return kind("LookupError", "no such user")
    if kind is errors.StaleToken:
        return kind("report", 5, 6)
    return (
        kind("shard-1", "NOPERM no")
        if issubclass(kind, (errors.ShardError, errors.LockError))
        else kind("no")
    )


def test_all_is_complete() -> None:
    """Every error of the module is public."""
    found = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, Exception)
    }
    assert found == set(errors.__all__)


@each
def test_one_tree(kind) -> None:
    """Catching the root catches everything."""
    assert issubclass(kind, errors.ShardCacheError)


@each
def test_no_builtin_is_shadowed(kind) -> None:
    """An import of an error hides no builtin."""
    assert not hasattr(builtins, kind.__name__)


@each
def test_travels(kind) -> None:
    """An error survives pickling and copying with all that it says."""
    error = example(kind)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(twin), str(twin), vars(twin)) == (kind, str(error), vars(error))


def test_docstring_draws_the_tree() -> None:
    """The drawing at the top of the module is the tree as it is."""
    drawn = {}
    above = {0: "ShardCacheError"}
    for line in errors.__doc__.splitlines():
        if found := re.match(r"^    ([│ ]*)[├└]── (\w+)", line):
            depth = len(found[1]) // 4 + 1
            above[depth] = found[2]
            drawn[found[2]] = above[depth - 1]
    real = {
        kind.__name__: next(
            base.__name__ for base in kind.__bases__ if issubclass(base, errors.ShardCacheError)
        )
        for kind in ALL
        if kind is not errors.ShardCacheError
    }
    assert drawn == real


@pytest.mark.parametrize(
    "name", ["InvalidArgument", "InvalidKey", "SerializationError", "DamagedPayload", "KeyMissing"]
)
def test_value_errors(name) -> None:
    """What a caller did wrong is a ValueError too."""
    assert issubclass(getattr(errors, name), ValueError)


def test_shard_error_names_its_shard() -> None:
    """The message has the shard's name, the attributes both parts."""
    error = errors.CommandRefused("b", "NOPERM this user has no permissions")
    assert (str(error), error.shard, error.code) == (
        "shard 'b': NOPERM this user has no permissions",
        "b",
        "NOPERM",
    )
