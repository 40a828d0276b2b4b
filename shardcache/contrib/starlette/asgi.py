"""The types of ASGI, and its headers."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

__all__ = ("App", "Headers", "Message", "Receive", "Scope", "Send", "header_values")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]


def header_values(headers: Headers, name: bytes) -> list[bytes]:
    """Return the values of all headers of that name, without spaces around them.

    ``name``: in lower case.
    """
    return [value.strip() for key, value in headers if key.lower() == name]
