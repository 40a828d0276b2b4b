"""URLs: what is understood, what is refused, and that credentials stay hidden."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.errors import InvalidURL
from shardcache.urls import Address, parse_many, parse_url, redact


def test_plain_url_has_defaults() -> None:
    """A host alone means port 6379, database 0, no TLS."""
    assert parse_url("redis://cache").address == Address(host="cache", port=6379, db=0)


def test_full_url() -> None:
    """User, password, port, database and query all arrive, percent signs decoded."""
    parsed = parse_url("rediss://us%40er:p%3Aw@h.example:7000/3?name=a&weight=2")
    assert parsed.address == Address(host="h.example", port=7000, db=3, tls=True, username="us@er", password="p:w")
    assert parsed.query == {"name": "a", "weight": "2"}


def test_unix_socket() -> None:
    """A Unix socket has a path, and its database in the query."""
    assert parse_url("unix://:secret@/run/v.sock?db=2").address == Address(
        path="/run/v.sock", port=0, db=2, password="secret"
    )


def test_ipv6_host() -> None:
    """An IPv6 host keeps its brackets in the label only."""
    address = parse_url("redis://[::1]:7000/0").address
    assert (address.host, address.label) == ("::1", "[::1]:7000/0")


def test_hosts_share_login_database_and_query() -> None:
    """Hosts joined by commas share everything else."""
    parsed = parse_many("redis://u:p@h1:1,h2:2,h3/4?timeout=1")
    assert [(one.address.host, one.address.port, one.address.db) for one in parsed] == [
        ("h1", 1, 4),
        ("h2", 2, 4),
        ("h3", 6379, 4),
    ]
    assert {one.address.password for one in parsed} == {"p"}
    assert {one.query["timeout"] for one in parsed} == {"1"}


def test_whole_urls_joined_by_commas() -> None:
    """Whole URLs stand for themselves, each with its own query."""
    parsed = parse_many("redis://h1/0?name=a,unix:///tmp/b.sock?name=b,unix:///c,/d")
    assert [one.query.get("name") for one in parsed] == ["a", "b", None, None]
    assert [one.address.path for one in parsed] == ["", "/tmp/b.sock", "/c", "/d"]


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "redis://",
        "redis://h:0",
        "redis://h:99999",
        "redis://h:x",
        "redis://h/x",
        "redis://h/-1",
        "redis://h/1?db=2",
        "redis://h?name",
        "redis://h?name=a&name=b",
        "redis://h#x",
        "unix://host/path",
        "unix:///",
        "h:6379",
        "redis://h1,,h2",
        "",
        "   ",
    ],
)
def test_refused(url: str) -> None:
    """What cannot be an address is refused with a message that quotes it."""
    with pytest.raises(InvalidURL, match=r"."):
        parse_many(url)


@pytest.mark.parametrize("url", [None, 1, b"redis://h"])
def test_wrong_type(url: object) -> None:
    """Anything but text is refused."""
    with pytest.raises(InvalidURL, match=r"expected|must be"):
        parse_many(url)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hunter2@h:x",
        "redis://user:hunter2@/0",
        "http://user:hunter2@h",
        "redis://user:hunter2@h/zero",
        "redis://user:hunter2@h/0#hunter2",
        "redis://user:hun#ter2@h/0",
        "redis://user:[hunter2@h/0",
    ],
)
def test_credentials_stay_out_of_messages(url: str) -> None:
    """No error quotes the password or part of it (G7)."""
    with pytest.raises(InvalidURL) as caught:
        parse_url(url)
    assert "hunter2" not in str(caught.value).replace("#hunter2", "")
    assert "ter2@" not in str(caught.value)


def test_repr_hides_credentials() -> None:
    """An address shows neither user nor password."""
    shown = repr(parse_url("redis://someone:hunter2@h/0").address)
    assert ("someone" in shown, "hunter2" in shown) == (False, False)


def test_redact() -> None:
    """Redaction keeps the rest of the URL."""
    assert redact("redis://u:p@h:1/0") == "redis://***@h:1/0"
    assert redact("redis://h:1/0") == "redis://h:1/0"


@given(st.text())
def test_any_text_parses_or_is_refused(text: str) -> None:
    """No text makes the parser raise anything but its own error."""
    try:
        parsed = parse_many(text)
    except InvalidURL:
        return
    assert parsed
