"""The password of local servers: in their configuration, and in URLs."""

import re
from urllib.parse import quote

from shardcache.errors import InvalidOption

__all__ = ("check_password", "config_of", "quoted", "url_login")

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SPECIAL = re.compile(r"[\s\"'\\]")


def check_password(password: object, *, plain: bool = False) -> str | None:
    """Return the password if it is one, or None.

    ``plain``: whether the server cannot write others back to its configuration.

    Raises `InvalidOption`, which does not quote it.
    """
    if password is None:
        return None
    if not isinstance(password, str) or not password or _CONTROL.search(password):
        raise InvalidOption(
            "password must be a text that is not empty and has no control characters, or None"
        )
    if plain and _SPECIAL.search(password):
        raise InvalidOption(
            "password must have no spaces, quotation marks or backslashes, since Redis Sentinels "
            "write it to their configuration as it is"
        )
    return password


def config_of(password: str | None) -> dict[str, str]:
    """Return the options by which a server asks for the password, and gives it to its master."""
    if password is None:
        return {}
    return {"requirepass": quoted(password), "masterauth": quoted(password)}


def quoted(text: str) -> str:
    """Return the text as a word of a configuration."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def url_login(password: str | None) -> str:
    """Return what stands before the host in a URL."""
    return "" if password is None else f":{quote(password, safe='')}@"
