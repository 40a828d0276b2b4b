"""Keys that would be longer than a key may be: the most of them becomes a digest."""

import hashlib
from collections.abc import Callable

from shardcache.keys import MAX_KEY, hash_tag

__all__ = ("LONGEST", "ShortKey", "shortened")

LONGEST = MAX_KEY // 2  # bytes: with the longest namespace in front it is still a key
_HEAD = 200  # characters of a long key that stay readable
# Characters. UTF-8 makes up to four bytes of each, so a shorter key need not be counted in bytes.
_SURE = LONGEST // 4


class ShortKey:
    """What a template or a function's name makes of arguments, by `shortened`."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., str]) -> None:
        self.make = make

    def __repr__(self) -> str:
        return repr(self.make)

    def __call__(self, /, *args: object, **kwargs: object) -> str:
        """Return the key of the call with these arguments."""
        key = self.make(*args, **kwargs)
        return key if len(key) <= _SURE else shortened(key)


def shortened(key: str) -> str:
    """Return ``key``, or a digest of it if it takes more than `LONGEST` bytes.

    Such a key becomes its first 200 characters, ``sha256:``, and the digest of all of it in
    hexadecimal. A hash tag of up to 16 KiB stays as it is, in its place, so that the key stays on
    its shard: what is cut is the text around it.
    """
    try:
        raw = key.encode()
    except UnicodeEncodeError:
        return key  # no key at all: to be refused where it is used
    if len(raw) <= LONGEST:
        return key
    digest = hashlib.sha256(raw).hexdigest()
    tag = hash_tag(raw)
    if tag is raw or len(tag) > LONGEST // 2:
        # Without the braces: half of a tag in what is left would make none, and a whole one
        # another.
        return f"{key[:_HEAD].replace('{', '(').replace('}', ')')}sha256:{digest}"
    text = tag.decode()
    head = key[: min(key.index("{"), _HEAD)]
    return f"{head}{{{text}}}sha256:{digest}"
