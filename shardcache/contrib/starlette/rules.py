"""Which answers may be stored, and for how long: RFC 9111 for a shared cache, and RFC 5861.

What an answer must not have, or must say:

    it is stored if                    section of RFC 9111
    --------------------------------   -------------------------------------------------------------
    its status is one of STATUSES      3; errors of the server never are
    neither no-store nor private       3, 5.2.2.5, 5.2.2.7; with the names of headers too
    no no-cache                        5.2.2.4: it would have to be asked for each time anyway
    no Set-Cookie                      7.3: cookies are for one client
    no Vary: *                         4.1
    public, s-maxage, must-revalidate  3.5, if the request has Authorization
    it has a lifetime                  4.2.1: s-maxage, max-age, Expires, in this order
    or there is a ttl for all that     4.2.2: such an answer of status 200 only, and never one to a
    say none                           request with Authorization

A stale page is served only if stale-while-revalidate (RFC 5861, section 3) allows it, and neither
must-revalidate nor proxy-revalidate forbids it.
"""

from collections.abc import Collection
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from shardcache.contrib.starlette.asgi import Headers, header_values
from shardcache.contrib.starlette.header_lists import directives, seconds, tokens

__all__ = ("FORBIDDING", "MOST_VARY", "Lifetime", "lifetime_of", "stored_headers")

FORBIDDING = ("authorization", "no-store", "private", "set-cookie")
"""What forbids to store an answer, and may be allowed."""
STATUSES = frozenset({200, 203, 300, 301, 302, 307, 308, 404, 410})
MOST_VARY = 10
"""How many headers an answer may depend on: each multiplies its versions."""
_HOP_BY_HOP = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authentication-info",
        b"proxy-authorization", b"proxy-connection", b"te", b"trailer", b"transfer-encoding",
        b"upgrade",
    }
)  # fmt: skip


class Lifetime(NamedTuple):
    """How long an answer may be served.

    ``fresh``: seconds.
    ``stale``: seconds more, while it is made anew.
    ``vary``: the names of the headers of requests that it depends on.
    ``said``: whether the answer itself says ``fresh``.
    """

    fresh: int
    stale: float
    vary: tuple[str, ...]
    said: bool


def lifetime_of(
    status: int,
    headers: Headers,
    *,
    ttl: int | None,
    stale_ttl: float,
    plain: bool,
    authorized: bool,
    allowed: Collection[str] = (),
) -> Lifetime | None:
    """Return how long an answer may be served; None: it must not be stored.

    ``status``: its status.
    ``headers``: its headers.
    ``ttl``: seconds, for an answer that says nothing; None: that is not stored.
    ``stale_ttl``: seconds, the most that it may be served for after its time.
    ``plain``: whether the request has nothing that tells a user, so that ``ttl`` may count.
    ``authorized``: whether the request has Authorization.
    ``allowed``: which of `FORBIDDING` do not forbid.
    """
    # What forbids to store it.
    headers = list(headers)
    said = directives(header_values(headers, b"cache-control"))
    vary = tokens(header_values(headers, b"vary"))
    if (
        status not in STATUSES
        or said is None
        or vary is None
        or _is_forbidden(said, headers, allowed)
    ):
        return None
    if "*" in vary or len(vary) > MOST_VARY:
        return None
    if authorized and not said.keys() & {"public", "s-maxage", "must-revalidate"}:
        return None
    # How long it lasts, by its own word or by ours.
    fresh = _explicit(said, headers)
    if fresh is not None:
        stale = min(seconds(said.get("stale-while-revalidate")), stale_ttl)
        fresh -= sum(seconds(age.decode("latin-1")) for age in header_values(headers, b"age")[:1])
    elif ttl is not None and status == 200 and plain and not authorized:
        stale = stale_ttl
    else:
        return None
    if said.keys() & {"must-revalidate", "proxy-revalidate"}:
        stale = 0
    life = ttl if fresh is None else fresh
    if life is None or life <= 0:
        return None
    return Lifetime(life, stale, tuple(vary), fresh is not None)


def stored_headers(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return the headers that are the answer's own: not of a connection, nor of one client."""
    headers = [(bytes(name), bytes(value)) for name, value in headers]
    named = tokens(header_values(headers, b"connection")) or []
    gone = _HOP_BY_HOP | {name.encode("latin-1") for name in named} | {b"age", b"set-cookie"}
    return [(name, value) for name, value in headers if name.lower() not in gone]


def _is_forbidden(said: dict[str, str | None], headers: Headers, allowed: Collection[str]) -> bool:
    forbidding = {"no-store", "private"} & said.keys()
    if header_values(headers, b"set-cookie"):
        forbidding.add("set-cookie")
    return "no-cache" in said or not forbidding <= set(allowed)


def _explicit(said: dict[str, str | None], headers: Headers) -> int | None:
    """Return the seconds that an answer says it is fresh for; None if it says nothing."""
    for name in ("s-maxage", "max-age"):
        if name in said:
            return seconds(said[name])
    expires = header_values(headers, b"expires")
    date = header_values(headers, b"date")
    if not expires:
        return None
    # Without a Date there is nothing to count from but our own clock, which need not agree.
    try:
        ends, begins = (parsedate_to_datetime(one[0].decode("latin-1")) for one in (expires, date))
        return seconds(str(max(int((ends - begins).total_seconds()), 0)))
    except (IndexError, ValueError, TypeError, OverflowError):
        return 0
