"""URLs: what is understood, what is refused, and that credentials stay hidden."""

import re
import traceback
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shardcache import Node, ShardCache
from shardcache.errors import InvalidArgument, InvalidURL
from shardcache.topology.nodes import members
from shardcache.url_options import read_url
from shardcache.urls import Address, parse_many, parse_url, redact


def test_plain_url_has_defaults() -> None:
    """A host alone means port 6379, database 0, no TLS."""
    assert parse_url("redis://cache").address == Address(host="cache", port=6379, db=0)


def test_full_url() -> None:
    """User, password, port, database and query all arrive, percent signs decoded."""
    parsed = parse_url("rediss://us%40er:p%3Aw@h.example:7000/3?name=a&weight=2")
    assert parsed.address == Address(
        host="h.example", port=7000, db=3, tls=True, username="us@er", password="p:w"
    )
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
        "h",
        "user:password@h:6379",
        "/run/v.sock",
        "h1:1,h2",
        "redis:h",
        "redis:/h",
        "redis://h1,",
        "redis://h1:1/0,h2:2/0",
        "redis://h1,:p@h2",
        "redis://:p@h1,h2,:p@h3",
        "redis://:pa/ss@h",
        "redis://:pa?ss@h",
        "redis://:pa#ss@h",
        "redis://:pa,ss@h",
        "redis://:%ff@h",
        "redis://a..b",
        "redis://h h",
        "redis://h\nx",
        "redis://::1",
        "redis://[::1",
        "redis://[h]",
        "redis://h?a=%ff",
        "unix:///a@b",
        "unix://:pa/ss@/run/v.sock",
        "unix:///a,b",
        "redis://h1,,h2",
        "redis+cluster://h/1",
        "redis+cluster://h?db=1",
        "redis+sentinel://s/mymaster",
        "redis+sentinel://s?masters=a&sentinel_password=a+b",
        "unix+cluster://h",
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


PLAIN = {
    "spaces after commas": (
        "redis://h1:1, h2:2 ,h3/4",
        [("h1", 1, 4), ("h2", 2, 4), ("h3", 6379, 4)],
    ),
    "spaces between URLs": ("redis://h1/1 , redis://h2/2", [("h1", 6379, 1), ("h2", 6379, 2)]),
    "host:port": ("h:7", [("h", 7, 0)]),
    "host:port with database and settings": ("h1:7, h2:8/3?weight=2", [("h1", 7, 3), ("h2", 8, 3)]),
    "host:port and a URL": ("h1:7,redis://h2", [("h1", 7, 0), ("h2", 6379, 0)]),
    "brackets": ("[::1]:7", [("::1", 7, 0)]),
    "valkey": ("valkey://h/1", [("h", 6379, 1)]),
    "in capitals": ("REDIS://H", [("h", 6379, 0)]),
}


@pytest.mark.parametrize(("text", "expected"), PLAIN.values(), ids=PLAIN)
def test_plain(text: str, expected: list[tuple[str, int, int]]) -> None:
    """What can be meant in one way only is read in that way."""
    assert [
        (one.address.host, one.address.port, one.address.db) for one in parse_many(text)
    ] == expected


@pytest.mark.parametrize(
    ("scheme", "tls"), [("redis", False), ("valkey", False), ("rediss", True), ("valkeys", True)]
)
def test_schemes(scheme: str, tls: bool) -> None:
    """The schemes of Valkey mean what those of Redis do."""
    assert parse_url(f"{scheme}://h").address.tls is tls


@pytest.mark.parametrize("scheme", ["redis", "rediss", "valkey", "valkeys"])
@pytest.mark.parametrize(("kind", "port"), [("cluster", 6379), ("sentinel", 26379)])
def test_kinds(scheme: str, kind: str, port: int) -> None:
    """Nodes of a cluster and Sentinels are read as servers are, with the usual port of their own.

    Their URL is not that of one server.
    """
    text = f"{scheme}+{kind}://u:p@h1,h2:7?db=0"
    found = parse_many(text)
    tls = scheme in ("rediss", "valkeys")
    assert [(one.kind, one.address) for one in found] == [
        (kind, Address("h1", port, tls=tls, username="u", password="p")),
        (kind, Address("h2", 7, tls=tls, username="u", password="p")),
    ]
    with pytest.raises(InvalidURL, match="one URL of one server is expected"):
        parse_url(f"{scheme}+{kind}://h1")


OTHER_WORDS = {
    "redis-sentinel": "redis+sentinel",
    "rediss-sentinel": "rediss+sentinel",
    "redis-cluster": "redis+cluster",
    "valkeys-cluster": "valkeys+cluster",
    "sentinel": "redis+sentinel",
    "redis-socket": "unix",
    "redis+socket": "unix",
}


@pytest.mark.parametrize(("wrong", "right"), OTHER_WORDS.items())
def test_words_of_others(wrong: str, right: str) -> None:
    """The scheme that another client has for the same is refused with the one that is meant."""
    with pytest.raises(InvalidURL, match=re.escape(f"begin with {right}://, got {wrong}:")):
        parse_many(f"{wrong}://:p@h")


def test_masters_in_the_path() -> None:
    """A path with the name of a master, as others have it, is refused with the right place."""
    with pytest.raises(InvalidURL, match=r"stand in the query: \?masters=a,b"):
        parse_many("redis+sentinel://s1:26379/mymaster/0")


def test_plus_in_a_password() -> None:
    """A '+' in a password in the query would be a space: it is refused, without the password."""
    secret = "2retnuh"[::-1]  # the lines of this file stand in tracebacks
    with pytest.raises(InvalidURL, match="write it as %2B") as caught:
        parse_many(f"redis+sentinel://s1?masters=a&sentinel_password={secret}+x")
    assert secret not in "".join(traceback.format_exception(caught.value))
    [found] = parse_many("redis+sentinel://s1?masters=a&sentinel_password=%2B%20&namespace=a+b")
    assert (found.query["sentinel_password"], found.query["namespace"]) == ("+ ", "a b")


NO_HOSTS = (
    *(f"h{sign}h2" for sign in ";|!$&'()*+=~^`{}<>\"\\"),
    *(f"h%{ord(sign):02X}h2" for sign in ";|,:@/ \t\x7f\0"),
    # What a resolver takes for ; and / and a space.
    *("h\uff1bh2", "h\uff0fh2", "h\u3000h2", "h\u200bé;h2"),
    *("6379", "127.1", "h.1", "300.1.1.1", "1.2.3.4.5", "0x7f000001", "127.0.0.1."),
    *("[fe80::1%25a;b]", "[fe80::1%25]", "[fe80::1%25a b]"),
)


@pytest.mark.parametrize("host", NO_HOSTS)
@pytest.mark.parametrize(
    "form", ["redis://{}", "redis://{}:7/1?name=a", "redis://h0,{}", "redis://:p@{}", "{}:7"]
)
def test_no_host(host: str, form: str) -> None:
    """A host that no server can have is refused as that, and not looked up at the first call."""
    if form == "{}:7" and "%40" in host:  # an "@" is a login's sign there
        return
    with pytest.raises(InvalidURL, match=r"^the URL has a (malformed )?host"):
        parse_many(form.format(host))


@pytest.mark.parametrize(
    "host",
    [
        "a_b-1.c",
        "h.",
        "redis-0.redis.default.svc.cluster.local",
        "xn--bcher-kva.example",
        "bücher.example",
        "1a",
        "हिन्दी.example",
    ],
)
def test_host(host: str) -> None:
    """Names with underscores, names of one's own script and a dot at the end are names of hosts."""
    assert parse_url(f"redis://{host}").address.host == host


def test_zone() -> None:
    """An IPv6 address may have a zone."""
    assert parse_url("redis://[fe80::1%25eth0.1]").address.host == "fe80::1%eth0.1"


LOGINS = {
    "each its own": ("redis://:p1@h1, b:p2@h2", [(None, "p1"), ("b", "p2")]),
    "one for all": ("redis://a:p1@h1,h2,h3", [("a", "p1")] * 3),
    "none": ("redis://h1,h2", [(None, None)] * 2),
    "one for all sockets": ("unix://a:p@/1,/2", [("a", "p")] * 2),
    "each socket its own": ("unix://a:p@/1, b:q@/2", [("a", "p"), ("b", "q")]),
    "escaped": ("redis://%40:%2C%2f%3f%23@h", [("@", ",/?#")]),
    "a second @": ("redis://:p@ss@h", [(None, "p@ss")]),
    "empty": ("redis://@h", [(None, None)]),
}


@pytest.mark.parametrize(("text", "expected"), LOGINS.values(), ids=LOGINS)
def test_logins(text: str, expected: list[tuple[str | None, str | None]]) -> None:
    """A login at the first host counts for all; otherwise each has its own."""
    assert [(one.address.username, one.address.password) for one in parse_many(text)] == expected


# Letters that no message of ours has: wherever one shows, it came out of the login.
SECRET = st.lists(
    st.sampled_from(
        [
            *"ΞΨΔΘ",
            *"/?#,:&=[]%; .@",
            "://",
            "%2F",
            "%zz",
            "\n",
            "ΞΨ=",
            "name=Ξ",
            "@w?timeout=Ξ,redis://",
            "@w?Ξ=Ξ, redis://",
        ]
    ),
    min_size=1,
    max_size=12,
).map(lambda parts: "Ξ" + "".join(parts) + "Ψ")
BEFORE = st.sampled_from(
    [
        "redis://",
        "redis+sentinel://",
        "redis-cluster://",
        "rediss://",
        "valkey://",
        "unix://",
        "http://",
        "redis:/",
        "redis",
        "",
        "redis://g,",
        "h:1, ",
    ]
)
HOST = st.sampled_from(
    [
        "h",
        "h:x",
        "h:0",
        "h:99999",
        "",
        "[::1",
        "[::1]:7",
        "h1,h2",
        "h1,,h2",
        "/run/v.sock",
        "h,h",
        "a..b",
        "h h",
    ]
)
AFTER = st.sampled_from(
    ["", "/", "/x", "/-1", "/1?db=2", "?tiemout=1", "?timeout=x", "?name", "?weight=heavy",
     "?weight=1&weight=2", "#f",
     ",redis://h?x=1", ", redis://:p@h2/y", "?ssl_cert_reqs=x", "?echo_check=ture",
     "?name=n,redis://i?name=n"]
)  # fmt: skip


@pytest.mark.filterwarnings("ignore::shardcache.AddressAsNameWarning")
@pytest.mark.parametrize(
    "read",
    [
        parse_many,
        parse_url,
        members,
        read_url,
        ShardCache.from_url,
        lambda url: members({"a": url}),
    ],
)
@given(BEFORE, SECRET, HOST, AFTER)
@example("redis://", "Ξ/Ψ", "h", "")
@example("redis://", ":Ξ?Ψ", "h", "")
@example("redis://", ":Ξ#Ψ", "h:x", "")
@example("redis://", ":Ξ,Ψ", "h,h", "")
@example("redis://", ":[Ξ]Ψ", "h:x", "")
def test_no_character_of_a_login_in_a_message(
    read: Any, before: str, secret: str, host: str, after: str
) -> None:
    """Whatever is wrong with a URL, no error and no traceback has a part of the login (G7)."""
    try:
        found = read(f"{before}{secret}@{host}{after}")
    except InvalidArgument as error:
        told = (
            "".join(traceback.format_exception(error))
            + repr(error)
            + repr(error.args)
            + repr(error.__context__)
        )
        assert not {*told} & {*"ΞΨΔΘ"}
        assert "u03" not in told
    else:
        assert not {*repr(found)} & {*"ΞΨΔΘ"} or "@" in secret


@given(SECRET, st.sampled_from(["http://", "redis://", "", "u:"]))
def test_no_login_in_the_repr_of_a_node(secret: str, before: str) -> None:
    """A node shows its URL without the login, malformed or not."""
    assert not {*repr(Node("a", 1, f"{before}{secret}@h"))} & {*"ΞΨΔΘ"}


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2",
        "redis://user:hunter2/0",
        "user:hunter2",
        "redis://h:1/hunter2",
        "redis://h,user:hunter2",
    ],
)
def test_a_login_without_its_host(url: str) -> None:
    """Where the host and the "@" were forgotten, what stands there is not quoted either."""
    with pytest.raises(InvalidURL) as caught:
        parse_many(url)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_repr_hides_credentials() -> None:
    """An address shows neither user nor password."""
    shown = repr(parse_url("redis://someone:hunter2@h/0").address)
    assert ("someone" in shown, "hunter2" in shown) == (False, False)


def test_redact() -> None:
    """Redaction keeps the rest of the URL."""
    assert redact("redis://u:p@h:1/0") == "redis://***@h:1/0"
    assert redact("redis://h:1/0") == "redis://h:1/0"
    assert redact("redis+sentinel://:p@h?sentinel_username=u&sentinel_password=p&db=1 x") == (
        "redis+sentinel://***@h?sentinel_username=***&sentinel_password=***&db=1 x"
    )


@given(st.text())
def test_any_text_parses_or_is_refused(text: str) -> None:
    """No text makes the parser raise anything but its own error."""
    try:
        parsed = parse_many(text)
    except InvalidURL:
        return
    assert parsed
