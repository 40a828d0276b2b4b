"""Where a shard is: URLs parsed into addresses, and credentials kept out of sight.

Forms (the notation of redis-py, so that existing URLs work)::

    redis://[[user]:password@]host[:port][/db][?name=a&weight=2]
    rediss://…                                   the same over verified TLS
    valkey://… valkeys://…                       other words for redis:// and rediss://
    unix://[[user]:password@]/path/to.sock[?db=1&name=a&weight=2]
    host:port[/db][?name=a&weight=2]             as redis://, without a login
    redis+cluster://[login@]h1:6379,h2:6379      some nodes of a Redis Cluster (also rediss+, …)
    redis+sentinel://[login@]s1:26379,s2[/db]?masters=a,b
                                                 the Sentinels of some masters (also rediss+, …)

Several shards in one text, with or without spaces after the commas: hosts (or paths of sockets)
joined by commas share everything else (``redis://:password@h1:6379,h2:6379/0``), except that each
may have a login of its own (``redis://:p1@h1,:p2@h2``); whole URLs joined by commas stand for
themselves. The nodes of a cluster, and the Sentinels, stand in one URL.

Outside of the login an ``@`` is written %40; within it ``/``, ``?``, ``#`` and ``,`` are written
%2F, %3F, %23 and %2C. So a login that was not escaped is refused rather than misread, and whatever
stands before the last ``@`` of a text, or in the place of a host, port or path, is never quoted in
a message (G7).
"""

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import NoReturn
from urllib.parse import parse_qsl, unquote

from shardcache.errors import InvalidURL

__all__ = ("Address", "ParsedURL", "host_name", "parse_many", "parse_url", "redact", "shown")

# Each scheme, and whether it means TLS.
SCHEMES = {
    "redis": False,
    "rediss": True,
    "valkey": False,
    "valkeys": True,
    "unix": False,
}
# Behind the "+" of a scheme: servers that are asked where the others are, and their usual port.
KINDS = {"cluster": 6379, "sentinel": 26379}
SCHEMES |= {
    f"{scheme}+{kind}": tls for kind in KINDS for scheme, tls in SCHEMES.items() if scheme != "unix"
}
# What other clients write, and what it is here.
_OTHER_WORDS = {
    **{name.replace("+", "-"): name for name in SCHEMES if "+" in name},
    **{kind: f"redis+{kind}" for kind in KINDS},
    **dict.fromkeys(("redis-socket", "redis+socket", "redis+unix", "socket"), "unix"),
}
# Up to the last "@": a password that was not percent-encoded may hold any of "/?#".
_CREDENTIALS = re.compile(r"(?<=://).*@", re.DOTALL)
# The login of Sentinels stands in the query.
_LOGIN_SETTINGS = {"sentinel_username", "sentinel_password"}
_LOGIN_SETTING = re.compile(r"(sentinel_(?:username|password)=)[^&\s'\"]+", re.IGNORECASE)
_NEXT_URL = re.compile(r"\s*,\s*(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# As in DNS and the hosts file; Docker has names with an underscore.
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_NUMBER = re.compile(r"(?:^|\.)(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?$")
_ZONE = re.compile(r"[A-Za-z0-9._~-]+")  # RFC 6874
_HOST_PORT = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::(.*))?", re.DOTALL)


def redact(text: str) -> str:
    """Return ``text`` with user and password of a URL in it replaced, fit for a log."""
    return _LOGIN_SETTING.sub(r"\1***", _CREDENTIALS.sub("***@", text))


def shown(url: str) -> str:
    """Return ``url``, however malformed, with user and password replaced, fit for a repr."""
    scheme = _SCHEME.match(url)
    login, _, rest = url.rpartition("@")
    text = f"{scheme[0] if scheme else ''}***@{rest}" if login else url
    return _LOGIN_SETTING.sub(r"\1***", text)


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
    """One URL: its address and what its query said, each option as text.

    ``quotable`` is False where an ``@`` stands further on in the text that it came from: then the
    query and the address may be part of a login that was not escaped, and no message quotes them.
    """

    address: Address
    query: dict[str, str] = field(repr=False)
    quotable: bool = True
    which: str = "the URL"  # of those in one text, for messages
    kind: str = ""  # "cluster" or "sentinel": asked where the servers are; "": a server by itself

    @property
    def shown(self) -> str:
        """This URL for a message: its address or, if that may be secret, its place in the text."""
        return f"the URL of {self.address.label!r}" if self.quotable else self.which

    def quote(self, value: str) -> str:
        """Return a setting's name or value for a message, without what may be secret."""
        return (
            f"{value!r:.80}"
            if self.quotable
            else "one that may be part of a password and is not shown"
        )


def parse_url(url: str) -> ParsedURL:
    """Parse the URL of one server; raise `InvalidURL` that names the wrong part.

    The message has no credentials in it.
    """
    found = parse_many(url)
    if len(found) > 1:
        raise InvalidURL(
            f"one URL of one server is expected here, got {len(found)} servers (a ',' in a "
            "password is %2C)"
        )
    if found[0].kind:
        raise InvalidURL(
            f"one URL of one server is expected here, got redis+{found[0].kind}://, which names "
            "servers that are asked for the others"
        )
    return found[0]


def parse_many(text: str) -> list[ParsedURL]:
    """Parse one or several shards out of one text (see the module's docstring for the forms)."""
    if not isinstance(text, str):
        raise InvalidURL(
            f"a URL must be a str such as 'redis://127.0.0.1:6379/0', got {type(text).__name__}"
        )
    if not text.strip():
        raise InvalidURL("expected URLs such as 'redis://h1:6379,h2:6379/0', got an empty text")
    if text.strip()[0] in "\"'":
        raise InvalidURL(
            "the URL begins with a quotation mark, as it may come out of a settings file: leave "
            "the quotes out"
        )
    urls = _NEXT_URL.split(text.strip())
    found: list[ParsedURL] = []
    for at, url in enumerate(urls):
        which = f"URL {at + 1} of {len(urls)}" if len(urls) > 1 else "the URL"
        found += _Text(url, which, "@" not in "".join(urls[at + 1 :])).parse()
    return found


class _Text:
    """One URL of one or several servers while it is taken apart."""

    def __init__(self, text: str, which: str, last: bool) -> None:
        self.which = which
        self.last = last  # no later URL has a login
        if _CONTROL.search(text):
            self.refuse("has a control character in it; write it as %0A and the like")
        found = _SCHEME.match(text)
        self.scheme = found[1].lower() if found else ""
        self.rest = text[found.end() :] if found else text
        self.kind = self.scheme.partition("+")[2]
        if found and self.scheme in _OTHER_WORDS:
            self.refuse(f"must begin with {_OTHER_WORDS[self.scheme]}://, got {self.scheme}://")
        if found and self.scheme not in SCHEMES:
            got = f", got {self.scheme!r:.40}" if last and "@" not in text else ""
            self.refuse(f"must begin with one of {', '.join(f'{one}://' for one in SCHEMES)}{got}")
        if not found and "@" in text:
            self.refuse(
                "has no scheme in front, which it needs where there is a login: "
                "redis://user:password@host:6379"
            )
        if not found and text.startswith(("/", ".")):
            self.refuse("has no scheme in front; a Unix socket is written unix:///run/valkey.sock")

    def refuse(self, what: str) -> NoReturn:
        raise InvalidURL(f"{self.which} {what}")

    def parse(self) -> list[ParsedURL]:
        """Return one `ParsedURL` for each host or path."""
        # Cut the text into hosts, path and query; what could be misread is an error.
        unix = self.scheme == "unix"
        head, tail = _cut(self.rest, "?#" if unix else "/?#")
        if "@" in tail:
            self.refuse(
                "has an '@' behind the host; in a password write '/', '?' and '#' as %2F, %3F "
                "and %23, elsewhere write '@' as %40"
            )
        if "#" in tail:
            self.refuse("has a '#'; write it as %23")
        path, _, query_text = tail.partition("?")
        query = self.query(query_text)
        in_path = path.strip("/")
        if in_path and "db" in query:
            self.refuse("names a database both in its path and in its query; use one")
        # Each host gets the same database and query, and a login.
        quotable = self.last and "@" not in head
        # A setting may be the rest of a password that was not escaped.
        quotable_query = self.last and not query.keys() & _LOGIN_SETTINGS
        db = self.database(in_path or query.pop("db", "0"))
        items = [item.strip() for item in head.split(",")]
        if "" in items and len(items) > 1:
            self.refuse("has an empty place between its commas")
        logins = self.logins(items)
        found = []
        for item, (username, password) in zip(items, logins, strict=True):
            where = item.rpartition("@")[2]
            if unix:
                address = Address(
                    path=self.socket(where), port=0, db=db, username=username, password=password
                )
            else:
                host, port = self.host_port(where)
                tls = SCHEMES.get(self.scheme, False)
                address = Address(host, port, db=db, tls=tls, username=username, password=password)
            found.append(
                ParsedURL(
                    address,
                    dict(query),
                    quotable_query if len(items) == 1 else quotable,
                    self.which,
                    self.kind,
                )
            )
        return found

    def logins(self, items: list[str]) -> list[tuple[str | None, str | None]]:
        """Return user and password of each host: the first one's for all, or each its own."""
        signs = [item.count("@") for item in items]
        if len(items) > 1 and (
            max(signs) > 1
            or (any(signs) and not all(signs) and signs != [1] + [0] * (len(items) - 1))
        ):
            self.refuse(
                "has a list of hosts in which neither the first alone has a login, which counts "
                "for all, nor each its own "
                "(in a password write ',' as %2C and '@' as %40)"
            )
        found = [self.login(item.rpartition("@")[0]) for item in items]
        return found if all(signs) else found[:1] * len(items)

    def login(self, text: str) -> tuple[str | None, str | None]:
        user, _, password = text.partition(":")
        if "/" in text:
            self.refuse(
                "has an '@' behind a '/'; write '/' in a password as %2F, and '@' in a path as %40"
            )
        decoded = [_decoded(part) for part in (user, password)]
        if None in decoded:
            self.refuse("has a login whose percent codes are not UTF-8")
        return decoded[0] or None, decoded[1] or None

    def socket(self, path: str) -> str:
        """Return the path of a Unix socket."""
        decoded = _decoded(path)
        if decoded is None or not decoded.startswith("/") or decoded == "/":
            self.refuse("needs an absolute path to each socket, as in 'unix:///run/valkey.sock'")
        return decoded

    def host_port(self, text: str) -> tuple[str, int]:
        found = _HOST_PORT.fullmatch(text)
        if found is None:
            self.refuse(
                "has a malformed host; an IPv6 address stands in brackets, as in redis://[::1]:6379"
            )
        host, port = found[1], found[2]
        if port is None and not self.scheme:
            self.refuse(
                "has no scheme in front, which it needs unless each server is written host:port"
            )
        if port is not None and not (
            port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536
        ):
            self.refuse(
                "has a port that is not a whole number from 1 to 65535 (a login ends with an "
                "'@': redis://user:password@host)"
            )
        return self.host(host), int(port or KINDS.get(self.kind, 6379))

    def host(self, text: str) -> str:
        if not text:
            self.refuse("names no host")
        name = _ip(text[1:-1]) if text.startswith("[") else _name(text)
        if name is None:
            self.refuse(
                "has a host that is neither a name nor an IP address (several are separated by "
                "commas)"
            )
        return name

    def query(self, text: str) -> dict[str, str]:
        found: dict[str, str] = {}
        try:
            pairs = parse_qsl(
                text, keep_blank_values=True, strict_parsing=bool(text), errors="strict"
            )
        except ValueError:
            pairs = None
        if pairs is None:
            self.refuse("has a query that is not of the form name=value&name=value in UTF-8")
        for name, value in pairs:
            if name in found:
                named = f"{name!r:.40}" if self.last and not found.keys() & _LOGIN_SETTINGS else ""
                self.refuse(f"gives {named or 'a setting'} twice")
            found[name] = value
        if re.search(r"(?:^|&)sentinel_(?:username|password)=[^&]*\+", text):
            # In a query it is a space, which a password of a settings file hardly means.
            self.refuse("has a '+' in the login of the Sentinels; write it as %2B, a space as %20")
        return found

    def database(self, text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            hint = (
                "; the names of the masters stand in the query: ?masters=a,b"
                if self.kind == "sentinel"
                else "; several hosts stand before one '/', or write whole URLs"
                if "," in text
                else ""
            )
            self.refuse(f"has a database that is not a whole number from 0{hint}")
        if self.kind == "cluster" and int(text):
            self.refuse("names a database, and a cluster has only database 0")
        return int(text)


def host_name(text: str) -> str | None:
    """Return the host that a server names, in small letters; None if no server can have it.

    ``text``: a name or an IP address, IPv6 without brackets.
    """
    return None if "%" in text else _ip(text) if ":" in text else _name(text)


def _cut(text: str, signs: str) -> tuple[str, str]:
    """Split ``text`` before the first of ``signs``."""
    end = min((at for at in map(text.find, signs) if at >= 0), default=len(text))
    return text[:end], text[end:]


def _decoded(text: str) -> str | None:
    """Return ``text`` with its percent codes decoded; None if that is no UTF-8."""
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return None


def _ip(text: str) -> str | None:
    """Return an IP address, with its zone if it has one; None if it is none."""
    address = (_decoded(text) or "").lower()
    try:
        ip_address(address)  # knows zones, but takes any text for one
    except ValueError:
        return None
    return address if _ZONE.fullmatch(address.partition("%")[2] or "-") else None


def _name(text: str) -> str | None:
    """Return a host's name; None if it is none."""
    name = _decoded(text) or ""
    try:
        # As the resolver does it: an empty or too long part would be an error in every call.
        asked = name.encode("idna").decode()
    except UnicodeError:
        return None
    if not _NAME.fullmatch(asked):
        return None
    if _NUMBER.search(
        asked
        # By its last part it is an IPv4 address: what is not four numbers each resolver reads in
        # its own way
    ):
        return _ip(asked)
    return name.lower()
