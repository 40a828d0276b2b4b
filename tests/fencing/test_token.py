"""What is a fencing token, and what is refused before anything is touched."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache import errors
from shardcache.fencing import FencedFile, FencedRedis, FencedSQL
from shardcache.fencing.token import MAX_TOKEN, check_token

WRONG = [True, False, -1, 0, 2**63, 1.0, "5", b"5", None]
each_wrong = pytest.mark.parametrize("token", WRONG, ids=repr)


class Untouched:
    """Stands for a client, a connection or a cursor that nobody may use."""

    paramstyle = "qmark"

    def __getattr__(self, name: str) -> Any:
        def used(*args: Any) -> Any:
            raise AssertionError(f"{name} was called with {args}")

        return used


@given(st.integers(1, MAX_TOKEN))
def test_every_positive_int_of_64_bits_is_a_token(token) -> None:
    """A token comes back as it is."""
    assert check_token(token) == token


@each_wrong
def test_no_token(token) -> None:
    """What no lock gives out is refused with the reason."""
    with pytest.raises(errors.InvalidToken, match="a fencing token"):
        check_token(token)


@each_wrong
def test_database_is_not_touched(token) -> None:
    """A wrong token sends nothing to the database."""
    with pytest.raises(errors.InvalidToken):
        FencedSQL(paramstyle="qmark").check(Untouched(), "report", token)


@each_wrong
def test_server_is_not_touched(token) -> None:
    """A wrong token sends nothing to the server."""
    fenced = FencedRedis(Untouched())
    for call in (
        lambda: fenced.set("report", "x", token),
        lambda: fenced.delete("report", token),
        lambda: fenced.run("return 1", ["report"], [], token),
    ):
        with pytest.raises(errors.InvalidToken):
            call()


@each_wrong
def test_folder_is_not_touched(token, tmp_path) -> None:
    """A wrong token leaves no file behind."""
    fenced = FencedFile(tmp_path / "report")
    for call in (lambda: fenced.write(b"x", token), lambda: fenced.delete(token)):
        with pytest.raises(errors.InvalidToken):
            call()
    assert list(tmp_path.iterdir()) == []


def test_stale_token_says_what_was_seen() -> None:
    """The error has the resource and both tokens."""
    error = errors.StaleToken("report", 5, 6)
    assert (error.resource, error.token, error.seen) == ("report", 5, 6)
    assert str(error) == "'report' has seen token 6, so 5 is refused: the lock has a newer holder"
