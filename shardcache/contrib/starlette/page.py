"""A page: an answer that is stored, and what it says to a client that asks for it."""

from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import Any, Self

from shardcache.contrib.starlette.asgi import Headers, Message, header_values
from shardcache.contrib.starlette.header_lists import entity_tags

__all__ = ("Page", "with_etag")

# What a 304 repeats of the page's headers (RFC 9110, section 15.4.5); the others would be of use
# only with a body.
_IN_304 = (
    b"cache-control", b"content-location", b"date", b"etag", b"expires", b"last-modified", b"vary",
)  # fmt: skip
_KIND = "page"


@dataclass(frozen=True, slots=True)
class Page:
    """A stored answer.

    ``status``, ``headers``, ``body``: as the application sent them, but for headers of one
        connection and those of one client.
    ``made``: seconds of the wall clock when it was stored, as if it had been new then.
    ``lifetime``: for how many seconds from then it is fresh.
    ``stale``: for how many more it may be served while it is made anew.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    made: float
    lifetime: int
    stale: float

    @property
    def record(self) -> tuple[Any, ...]:
        """The page as plain data, which any serializer for Python's own types keeps."""
        return (_KIND, self.status, self.headers, self.body, self.made, self.lifetime, self.stale)

    @classmethod
    def of(cls, record: object) -> Self | None:
        """Return the page of a record; None for what is not one."""
        if not isinstance(record, tuple) or len(record) != 7 or record[0] != _KIND:
            return None
        return cls(*record[1:])

    def age(self, now: float) -> int:
        """Return the seconds since it was made; never below 0, for clocks differ."""
        return max(int(now - self.made), 0)

    def may_serve(self, now: float) -> bool:
        """Whether it is fresh, or not staler than its answer allows."""
        return now - self.made <= self.lifetime + self.stale

    def messages(
        self, headers: Headers, now: float, *, head: bool, how: bytes, own: Headers = ()
    ) -> tuple[Message, Message]:
        """Return the two messages that answer a request.

        ``headers``: those of the request: it may know the page already.
        ``now``: seconds of the wall clock.
        ``head``: whether the body is left out.
        ``how``: what Cache-Status says (RFC 9211).
        ``own``: headers for this client alone.
        """
        known = self.status == 200 and self._is_known(headers)
        age = self.age(now)
        said = [*self.headers, *own, (b"cache-status", b"shardcache; " + how)]
        if age:
            said.append((b"age", b"%d" % age))
        status = self.status
        if known:
            kept = (*_IN_304, b"age", b"cache-status", b"set-cookie")
            status, said = 304, [one for one in said if one[0].lower() in kept]
        body = b"" if known or head else self.body
        return (
            {"type": "http.response.start", "status": status, "headers": said},
            {"type": "http.response.body", "body": body, "more_body": False},
        )

    def _is_known(self, headers: Headers) -> bool:
        """Whether the request names this version of the page (RFC 9110, section 13.2.2)."""
        if asked := header_values(headers, b"if-none-match"):
            tags = entity_tags(asked)
            mine = entity_tags(header_values(self.headers, b"etag"))
            return "*" in tags or not tags.isdisjoint(mine)
        since = header_values(headers, b"if-modified-since")
        changed = header_values(self.headers, b"last-modified")
        if len(since) != 1 or len(changed) != 1:
            return False
        try:
            return _date(changed[0]) <= _date(since[0])
        except (ValueError, TypeError, OverflowError):
            return False


def with_etag(headers: Headers, body: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Return the headers of a page with an entity tag, made of the body if there is none.

    It is a weak one: what stands before this middleware may compress the body.
    """
    said = tuple(headers)
    if header_values(said, b"etag"):
        return said
    return (*said, (b"etag", b'W/"%s"' % sha256(body).hexdigest()[:32].encode()))


def _date(value: bytes) -> datetime:
    return parsedate_to_datetime(value.decode("latin-1"))
