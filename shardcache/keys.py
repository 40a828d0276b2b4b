"""Keys: checked, put into their namespace, and the part of them that is placed.

A wire key is ``namespace + ":" + key`` as bytes. What decides its shard is the text in its first
``{…}``, if there is one that is not empty, exactly by the rule of Redis Cluster
(https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags).

Keys of the library's own (locks, counters, tags …) lie inside the namespace too, so that an ACL
with its pattern is enough, and two namespaces share none. `INTERNAL` tells them from values: no
namespace and no caller's key may contain it. Byte by byte: docs/wire-format.md.
"""

from collections.abc import Iterable

from shardcache.errors import InvalidKey, InvalidOption
from shardcache.per_key import encode_keys, fill_tokens, hash_tag
from shardcache.topology.slot_tags import slot_of_tag, tag_of

__all__ = ("INTERNAL", "MAX_KEY", "Key", "KeySpace", "distinct", "hash_tag", "is_own", "literal")

Key = str | bytes
# Stands in every key of the library's own, behind the namespace, and in no other key
INTERNAL = b"@shardcache:"
MAX_KEY = 64 * 1024  # bytes, namespace included
# To look for one byte takes 50 ns, for more 600: so most keys are let by at the first.
_AT, _CLOSING = INTERNAL[0], ord("}")


def is_own(wire: bytes) -> bool:
    """Whether a key is one of the library's own, of whatever namespace."""
    return _AT in wire and INTERNAL in wire


def literal(text: bytes) -> bytes:
    """Return a glob for exactly this text."""
    special = b"\\*?[]^"
    return b"".join(
        b"\\" + text[at : at + 1] if text[at] in special else text[at : at + 1]
        for at in range(len(text))
    )


class KeySpace:
    """Turns a caller's keys into wire keys and back, for one namespace.

    Colons nest: the namespace ``shop:eu`` lies inside ``shop``, whose `scan` and `clear` reach its
    values too (but not its locks).
    """

    __slots__ = ("_fill_token_start", "internals", "namespace", "prefix")

    def __init__(self, namespace: str = "") -> None:
        if not isinstance(namespace, str) or "{" in namespace or "}" in namespace:
            # A brace would make one tag of every key, and one shard of the whole cache.
            raise InvalidOption(f"namespace must be a str without '{{' and '}}', got {namespace!r}")
        if INTERNAL.decode() in f"{namespace}:":
            raise InvalidOption(
                f"namespace must not contain {INTERNAL.decode()!r}, which marks the library's "
                f"own keys, got {namespace!r}"
            )
        try:
            self.prefix = f"{namespace}:".encode() if namespace else b""
        except UnicodeEncodeError:
            raise InvalidOption(
                f"namespace must be encodable as UTF-8, got {namespace!r}"
            ) from None
        if len(self.prefix) > MAX_KEY // 2:
            raise InvalidOption(
                f"namespace may take {MAX_KEY // 2} bytes at most, got {len(self.prefix)}"
            )
        self.namespace = namespace
        # Every key of the library's own begins with this in this namespace.
        self.internals = self.prefix + INTERNAL
        self._fill_token_start = self.internals + b"load-token:{"

    @property
    def glob(self) -> str:
        """The pattern of all keys of this namespace, with the library's own, for a server's ACL."""
        return (literal(self.prefix) + b"*").decode()

    def internal(self, family: bytes, wire: bytes) -> bytes:
        """Return a key of the library's own in the Redis Cluster slot of the wire key ``wire``."""
        return self.internals + family + self.internal_end(wire)

    @staticmethod
    def internal_end(wire: bytes) -> bytes:
        """Return the end of all keys of the library's own that belong to ``wire``."""
        if hash_tag(wire) is not wire:
            return b"::" + wire
        if _CLOSING not in wire:
            return b":{%b}" % wire
        # No tag can hold a brace: another text of the same slot has to stand for it.
        return b":{%b}:%b" % (tag_of(slot_of_tag(wire)), wire)

    def wire_of(self, family: bytes, key: bytes) -> bytes | None:
        """Return the wire key that `internal` made ``key`` of; None if it made it of none."""
        rest = key.removeprefix(b"%b%b:" % (self.internals, family))
        if rest.startswith(b":"):
            wire = rest[1:]
        else:
            end = rest.find(b"}")
            wire = rest[1:end] if end == len(rest) - 1 else rest[end + 2 :]
        return wire if wire and self.internal(family, wire) == key else None

    def fill_token(self, wire: bytes) -> bytes:
        """Return the key of the fill token of ``wire``: without it a load is not stored.

        A write deletes it.
        """
        # Without a brace it has no tag either. This short way is for speed: every write needs it.
        if _CLOSING not in wire:
            return self._fill_token_start + wire + b"}"
        return self.internal(b"load-token", wire)

    def fill_tokens(self, wires: list[bytes]) -> list[bytes]:
        """Return `fill_token` of each wire key, in order, at a fraction of the cost."""
        tokens = fill_tokens(wires, self._fill_token_start)
        return list(map(self.fill_token, wires)) if tokens is None else tokens

    def wire(self, key: Key) -> bytes:
        """Return the bytes under which ``key`` is stored; raise `InvalidKey` if it is none."""
        if type(key) is str:
            try:
                raw = key.encode()
            except UnicodeEncodeError:
                raise InvalidKey(f"a key must be encodable as UTF-8, got {key!r:.80}") from None
        elif isinstance(key, bytes):
            raw = bytes(key)
        elif isinstance(key, str):
            return self.wire(str.__str__(key))
        else:
            raise InvalidKey(f"a key must be str or bytes, got {type(key).__name__}")
        if not raw:
            raise InvalidKey("a key must not be empty")
        raw = self.prefix + raw
        if len(raw) > MAX_KEY:
            raise InvalidKey(f"a key may take {MAX_KEY} bytes with its namespace, got {len(raw)}")
        if _AT in raw and INTERNAL in raw:  # `is_own`, in short
            raise InvalidKey(
                f"a key must not contain {INTERNAL.decode()!r}, which marks the library's own "
                f"keys, got {key!r:.80}"
            )
        return raw

    def wire_many(self, keys: list[Key]) -> list[bytes]:
        """Return the wire keys of ``keys``, in their order, faster than `wire` for each."""
        wires = encode_keys(keys, self.prefix, INTERNAL, MAX_KEY)
        return [self.wire(key) for key in keys] if wires is None else wires

    def user(self, wire_key: bytes) -> Key:
        """Return the caller's form of a wire key: str, or bytes where it is no UTF-8."""
        raw = wire_key[len(self.prefix) :]
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw


def distinct(keys: Iterable[Key]) -> list[Key]:
    """Return ``keys`` in order without repetitions; raise `InvalidKey` for a lone str or bytes."""
    if isinstance(keys, (str, bytes)):
        raise InvalidKey(f"expected an iterable of keys, got the single key {keys!r:.80}")
    try:
        return list(dict.fromkeys(keys))
    except TypeError as error:
        raise InvalidKey(f"keys must be an iterable of str or bytes: {error}") from None
