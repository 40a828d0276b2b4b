"""Where a shard is: URLs parsed into addresses, and credentials kept out of sight.

Forms (the notation of redis-py, so that existing URLs work)::

    redis://[[user]:password@]host[:port][/db][?name=a&weight=2]
    rediss://…                                   the same over verified TLS
    unix://[[user]:password@]/path/to.sock[?db=1&name=a&weight=2]

Several shards in one text: hosts joined by commas share everything else
(``redis://h1:6379,h2:6379/0``); whole URLs joined by commas stand for themselves.
"""

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from shardcache.errors import InvalidURL

__all__ = ("Address", "ParsedURL", "parse_many", "parse_url", "redact")

SCHEMES = ("redis", "rediss", "unix")
# Up to the last "@": a password that was not percent-encoded may hold any of "/?#".
_CREDENTIALS = re.compile(r"(?<=://).*@", re.DOTALL)
_NEXT_URL = re.compile(r",(?=[a-z][a-z0-9+.-]*://)")


def redact(url: str) -> str:
    """Return ``url`` with user and password replaced, fit for a log or a repr."""
    return _CREDENTIALS.sub("***@", url)


@dataclass(frozen=True, slots=True)
class Address:
    """Where one server listens and how to log in; ``path`` is set for a Unix socket."""

    host: str = ""
    port: int = 6379
    path: str = ""
    db: int = 0
    tls: bool = False
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @property
    def label(self) -> str:
        """``host:port/db`` or ``path/db``: the name of a node that was given none."""
        where = self.path or (f"[{self.host}]" if ":" in self.host else self.host) + f":{self.port}"
        return f"{where}/{self.db}"


@dataclass(frozen=True, slots=True)
class ParsedURL:
    """One URL: its address and what its query said, each option as text."""

    address: Address
    query: dict[str, str]


def parse_url(url: str) -> ParsedURL:
    """Parse the URL of one server; raise `InvalidURL` naming what is wrong, without the credentials."""
    if not isinstance(url, str):
        raise InvalidURL(f"a URL must be a str such as 'redis://127.0.0.1:6379/0', got {type(url).__name__}")
    shown = redact(url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidURL(f"URL {shown!r} cannot be parsed: {_without_credentials(str(error), url)}") from None
    if parts.scheme not in SCHEMES:
        raise InvalidURL(f"URL {shown!r} has the scheme {parts.scheme!r}; allowed are {', '.join(SCHEMES)}")
    if parts.fragment:
        raise InvalidURL(f"URL {shown!r} has a fragment ('#…'); write a '#' in a password as %23")
    query = _query(parts.query, shown)
    username = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    if parts.scheme == "unix":
        if parts.hostname or not parts.path.startswith("/") or parts.path == "/":
            raise InvalidURL(f"URL {shown!r} needs an absolute path to a socket, as in 'unix:///run/valkey.sock'")
        db = _db(query.pop("db", "0"), shown)
        address = Address(path=unquote(parts.path), port=0, db=db, username=username, password=password)
        return ParsedURL(address, query)
    if not parts.hostname:
        raise InvalidURL(f"URL {shown!r} names no host")
    if port == 0:
        raise InvalidURL(f"URL {shown!r} has port 0; allowed are 1 to 65535")
    in_path = parts.path.strip("/")
    if in_path and "db" in query:
        raise InvalidURL(f"URL {shown!r} names a database in its path and in its query; use one")
    db = _db(in_path or query.pop("db", "0"), shown)
    return ParsedURL(
        Address(
            host=unquote(parts.hostname),
            port=port or 6379,
            db=db,
            tls=parts.scheme == "rediss",
            username=username,
            password=password,
        ),
        query,
    )


def parse_many(text: str) -> list[ParsedURL]:
    """Parse one or several shards out of one text (see the module's docstring for the forms)."""
    if not isinstance(text, str) or not text.strip():
        raise InvalidURL(f"expected URLs such as 'redis://h1:6379,h2:6379/0', got {text!r}")
    return [parse_url(one) for url in _NEXT_URL.split(text.strip()) for one in _spread(url)]


def _spread(url: str) -> list[str]:
    """Give each of the hosts that one URL lists a URL of its own."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return [url]
    if scheme == "unix":
        paths, mark, query = rest.partition("?")
        return [f"unix://{path}{mark}{query}" for path in paths.split(",")]
    end = min((at for at in map(rest.find, "/?#") if at >= 0), default=len(rest))
    authority, tail = rest[:end], rest[end:]
    login, at, hosts = authority.rpartition("@")
    return [f"{scheme}://{login}{at}{host}{tail}" for host in hosts.split(",")]


def _query(text: str, shown: str) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=bool(text))
    except ValueError:
        raise InvalidURL(f"URL {shown!r} has a query that is not of the form name=value&name=value") from None
    for name, value in pairs:
        if name in found:
            raise InvalidURL(f"URL {shown!r} gives {name!r} twice")
        found[name] = value
    return found


def _db(text: str, shown: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise InvalidURL(f"URL {shown!r} has the database {text!r}; allowed is a whole number from 0")
    return int(text)


def _without_credentials(message: str, url: str) -> str:
    """Drop a library's message altogether where it quotes part of the login."""
    login = url.partition("://")[2].partition("/")[0].rpartition("@")[0]
    return "its host or port is malformed" if login else message
