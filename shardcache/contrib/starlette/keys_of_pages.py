"""The keys of pages. Whatever the application may take a page's address from is in them.

A key is a SHA-256 of its parts, each with its length before it. Requests that differ in one part
have different keys, whatever bytes a client puts into its path or its Host.
"""

from collections.abc import Iterable
from hashlib import sha256

from shardcache.contrib.starlette.asgi import Headers, Scope, header_values

__all__ = ("page_key", "variant_key")

# Headers that applications, or middleware in them, make an address or a method of: a page that was
# made with one of them must not be served to requests without it.
_ADDRESS = (
    b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-prefix", b"x-forwarded-proto",
    b"x-forwarded-scheme", b"x-host", b"x-original-url", b"x-rewrite-url",
)  # fmt: skip
_METHOD = (b"x-http-method", b"x-http-method-override", b"x-method-override")


def page_key(scope: Scope, *, cookie: bool) -> str:
    """Return the key of the page that a request asks for, by any method.

    ``scope``: the request.
    ``cookie``: whether it has a cookie: such requests have pages of their own.
    """
    headers = scope["headers"]
    parts = [
        str(scope.get("scheme", "http")).encode(),
        repr(scope.get("server")).encode() if not header_values(headers, b"host") else b"",
        str(scope.get("root_path", "")).encode("utf-8", "surrogatepass"),
        str(scope["path"]).encode("utf-8", "surrogatepass"),
        scope.get("raw_path") or b"",
        scope.get("query_string") or b"",
        b"cookie" if cookie else b"",
    ]
    parts.append(_joined(headers, b"host").lower())
    parts += [_joined(headers, name) for name in _ADDRESS]
    # An unsafe method is about the page of a plain GET, however it is said.
    if scope["method"] in ("GET", "HEAD"):
        parts += [_joined(headers, name) for name in _METHOD]
    else:
        parts += [b""] * len(_METHOD)
    return f"page:{_digest(parts)}"


def variant_key(key: str, generation: str, names: Iterable[str], headers: Headers) -> str:
    """Return the key of the version of a page for the headers of a request.

    ``key``: that of the page.
    ``generation``: of its versions: once the page is forgotten, none of them is found again.
    ``names``: of the headers that the page depends on.
    ``headers``: those of the request.
    """
    headers = list(headers)
    parts = [key.encode(), generation.encode()]
    for name in names:
        encoded = name.encode("latin-1")
        # A header that is not there is not the same as an empty one.
        parts += [encoded, b"%d" % len(header_values(headers, encoded)), _joined(headers, encoded)]
    return f"page:{_digest(parts)}"


def _joined(headers: Headers, name: bytes) -> bytes:
    return b", ".join(header_values(headers, name))


def _digest(parts: Iterable[bytes]) -> str:
    return sha256(b"".join(b"%d:%b" % (len(part), part) for part in parts)).hexdigest()
