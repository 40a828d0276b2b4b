"""Which answers are stored, and for how long."""

from typing import Any

import pytest

from shardcache.contrib.starlette.rules import lifetime_of, stored_headers

EXPIRES = "Expires: Thu, 01 Jan 2026 00:01:00 GMT"
DATE = "Date: Thu, 01 Jan 2026 00:00:00 GMT"


def life(*headers: str, status: int = 200, **how: Any) -> Any:
    """Return fresh and stale seconds of an answer; None if it is not stored."""
    pairs = [tuple(part.strip().encode() for part in one.split(":", 1)) for one in headers]
    standard = {"ttl": None, "stale_ttl": 60, "plain": True, "authorized": False}
    found = lifetime_of(status, pairs, **(standard | how))  # type: ignore[arg-type]
    return found and (found.fresh, found.stale)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([], None),
        (["Cache-Control: public"], None),
        (["Cache-Control: max-age=10"], (10, 0)),
        (["Cache-Control: max-age=10, s-maxage=20"], (20, 0)),
        (["Cache-Control: s-maxage=0, max-age=10"], None),
        (["Cache-Control: max-age=0"], None),
        (["Cache-Control: max-age=10, max-age=20"], None),
        (["Cache-Control: max-age=10", "Age: 4"], (6, 0)),
        (["Cache-Control: max-age=10", "Age: 10"], None),
        ([EXPIRES, DATE], (60, 0)),
        ([EXPIRES], None),
        (["Expires: 0", DATE], None),
        ([EXPIRES, DATE, "Cache-Control: max-age=5"], (5, 0)),
        (["Cache-Control: max-age=9, stale-while-revalidate=30"], (9, 30)),
        (["Cache-Control: max-age=9, stale-while-revalidate=300"], (9, 60)),
        (["Cache-Control: max-age=9, stale-while-revalidate=30, must-revalidate"], (9, 0)),
        (["Cache-Control: max-age=9, stale-while-revalidate=30, proxy-revalidate"], (9, 0)),
        (["Cache-Control: max-age=9, no-store"], None),
        (["Cache-Control: max-age=9, no-cache"], None),
        (["Cache-Control: max-age=9, private"], None),
        (['Cache-Control: max-age=9, private="x-user"'], None),
        (["Cache-Control: max-age=9", "Set-Cookie: a=1"], None),
        (["Cache-Control: max-age=9", "Vary: *"], None),
        (["Cache-Control: max-age=9", "Vary: a b"], None),
        (["Cache-Control: max-age=9", "Vary: " + ",".join(map(str, range(11)))], None),
        (["Cache-Control: max-age=9", "Vary: " + ",".join(map(str, range(10)))], (9, 0)),
    ],
)
def test_what_it_says(headers: list[str], found: Any) -> None:
    """RFC 9111 for a shared cache."""
    assert life(*headers) == found


@pytest.mark.parametrize(
    ("status", "stored"),
    [(200, True), (301, True), (404, True), (206, False), (304, False), (400, False), (500, False)],
)
def test_status(status: int, stored: bool) -> None:
    """Parts of pages, wrong requests and errors of the server are never stored."""
    assert (life("Cache-Control: max-age=9", status=status) is not None) is stored


def test_ttl_for_those_that_say_nothing() -> None:
    """It counts for status 200, for requests that tell no user; what is forbidden stays so."""
    assert life(ttl=30) == (30, 60)
    assert life("Cache-Control: public", ttl=30) == (30, 60)
    assert life("Cache-Control: must-revalidate", ttl=30) == (30, 0)
    assert life("Cache-Control: max-age=0", ttl=30) is None
    assert life("Cache-Control: no-store", ttl=30) is None
    assert life("Set-Cookie: a=1", ttl=30) is None
    assert life(ttl=30, status=404) is None
    assert life(ttl=30, plain=False) is None
    assert life(ttl=30, authorized=True) is None


def test_authorization() -> None:
    """An answer to it must say that it is for all (section 3.5)."""
    assert life("Cache-Control: max-age=9", authorized=True) is None
    assert life("Cache-Control: max-age=9, public", authorized=True) == (9, 0)
    assert life("Cache-Control: s-maxage=9", authorized=True) == (9, 0)


def test_allowed() -> None:
    """What forbids may be allowed, one by one."""
    headers = ("Cache-Control: max-age=9, no-store", "Set-Cookie: a=1")
    assert life(*headers, allowed={"no-store"}) is None
    assert life(*headers, allowed={"no-store", "set-cookie"}) == (9, 0)


def test_headers_of_one_connection() -> None:
    """They are not stored, nor those that Connection names, nor cookies."""
    gone = [b"Connection", b"Transfer-Encoding", b"X-Mine", b"Set-Cookie", b"Age"]
    headers = [(name, b"x-mine") for name in gone]
    assert stored_headers([*headers, (b"X-Other", b"1")]) == [(b"X-Other", b"1")]
