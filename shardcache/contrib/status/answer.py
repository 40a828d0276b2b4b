"""One request for the status page and the response to it, whatever server brings them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import parse_qs

from shardcache.client_base import CacheBase
from shardcache.contrib.status.page import POLICY, page_of
from shardcache.contrib.status.report import status_of
from shardcache.errors import ShardCacheError
from shardcache.results import PingResult

__all__ = ("Asked", "Response", "refusal_of", "respond")

_METHODS = ("GET", "HEAD")
_HEADERS = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", POLICY),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("Vary", "Accept"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request wants.

    ``method``: its method.
    ``json``: whether it wants JSON.
    ``key``: the key whose place it wants; None: none.
    """

    method: str
    json: bool
    key: str | None

    @classmethod
    def of(cls, method: str, path: str, query: str, accept: str) -> Self:
        """Return what a request wants.

        ``method``: its method.
        ``path``: its path. Ending in ``.json`` it wants JSON, whatever it accepts.
        ``query``: its query string, where ``key`` may stand.
        ``accept``: its header Accept; empty if there is none.
        """
        keys = parse_qs(query, errors="replace").get("key")
        wants_json = path.endswith(".json") or (
            _quality(accept, "application/json") > _quality(accept, "text/html")
        )
        return cls(method, wants_json, keys[-1] if keys else None)


@dataclass(frozen=True, slots=True)
class Response:
    """What goes back.

    ``status``: the number of the status.
    ``reason``: its words.
    ``headers``: all of them.
    ``body``: the body; empty in answer to HEAD.
    """

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def status_line(self) -> str:
        """Number and words, as WSGI has them."""
        return f"{self.status} {self.reason}"


def refusal_of(asked: Asked) -> Response | None:
    """Return the response to a method that would change something, before any shard is asked."""
    if asked.method in _METHODS:
        return None
    allowed = ", ".join(_METHODS)
    text = f"The status page is read-only: {allowed}.\n"
    plain = "text/plain; charset=utf-8"
    return _response(asked, 405, "Method Not Allowed", plain, text, ("Allow", allowed))


def respond(
    asked: Asked, cache: CacheBase, pings: Mapping[str, PingResult] | ShardCacheError
) -> Response:
    """Return the page or its JSON; 503 if the client itself is of no use, such as a closed one.

    ``asked``: what the request wants.
    ``cache``: the client.
    ``pings``: what its ``ping`` returned, or the error that it raised.

    A shard that is out is no reason for another status than 200: the site works.
    """
    report = status_of(cache, pings, asked.key)
    status, reason = (200, "OK") if report.error is None else (503, "Service Unavailable")
    if asked.json:
        return _response(asked, status, reason, "application/json", json.dumps(report.as_dict()))
    return _response(asked, status, reason, "text/html; charset=utf-8", page_of(report))


def _response(
    asked: Asked, status: int, reason: str, kind: str, text: str, *more: tuple[str, str]
) -> Response:
    # A key from a query may hold what UTF-8 cannot.
    body = text.encode("utf-8", "replace")
    headers = (("Content-Type", kind), ("Content-Length", str(len(body))), *_HEADERS, *more)
    return Response(status, reason, headers, b"" if asked.method == "HEAD" else body)


def _quality(accept: str, kind: str) -> float:
    """Return how much a type is wanted, 0 to 1, by the most precise range that fits it."""
    ranges = {kind: 2, f"{kind.partition('/')[0]}/*": 1, "*/*": 0}
    best = (-1, 0.0 if accept else 1.0)
    for one in accept.split(","):
        name, *parameters = (part.strip().lower() for part in one.split(";"))
        if name in ranges:
            best = max(best, (ranges[name], _weight(parameters)))
    return best[1]


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
