"""Headers that are lists: directives of Cache-Control, entity tags, names of headers."""

import re
from collections.abc import Iterable

__all__ = ("directives", "entity_tags", "seconds", "tokens")

_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# One directive: a token and perhaps a value, a token or a text in quotes (RFC 9111, section 5.2).
_DIRECTIVE = re.compile(
    rf'\s*({_WORD})(?:=(?:"((?:[^"\\]|\\.)*)"|({_WORD})))?\s*(?:,|$)', re.DOTALL
)
_TAG = re.compile(r'\s*((?:W/)?"[^"\x00-\x20\x7f]*")\s*(?:,|$)')
_NAME = re.compile(_WORD)
_LONGEST = 365 * 24 * 3600  # seconds: what no page outlives


def directives(values: Iterable[bytes]) -> dict[str, str | None] | None:
    """Return the directives of Cache-Control with their values; None if they cannot be read.

    ``values``: those of all its headers.

    None too if one comes twice with different values: whichever counts would be a guess.
    """
    found: dict[str, str | None] = {}
    for value in values:
        text, at = value.decode("latin-1"), 0
        while at < len(text):
            if text[at] in ", \t":  # empty elements of a list are legal (RFC 9110, section 5.6.1)
                at += 1
                continue
            match = _DIRECTIVE.match(text, at)
            if match is None:
                return None
            quoted = match[2]
            said = match[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
            name = match[1].lower()
            if found.setdefault(name, said) != said:
                return None
            at = match.end()
    return found


def seconds(value: str | None) -> int:
    """Return the seconds of a directive, a year at most; 0 for what is no number."""
    if value is None or not value.isascii() or not value.isdigit():
        return 0
    return min(int(value[:20]), _LONGEST)


def entity_tags(values: Iterable[bytes]) -> set[str]:
    """Return the opaque tags of If-None-Match, without ``W/``: it compares weakly; "*" is itself.

    What cannot be read ends the list: a tag that is missed costs a body, no more.
    """
    found = set()
    for value in values:
        text, at = value.decode("latin-1"), 0
        if text.strip() == "*":
            found.add("*")
        while match := _TAG.match(text, at):
            found.add(match[1].removeprefix("W/"))
            at = match.end()
    return found


def tokens(values: Iterable[bytes]) -> list[str] | None:
    """Return the names in a list such as that of Vary, lower case, sorted; None if one is none."""
    texts = [part.strip() for value in values for part in value.decode("latin-1").split(",")]
    names = sorted({text.lower() for text in texts if text})
    return names if all(_NAME.fullmatch(name) for name in names) else None
