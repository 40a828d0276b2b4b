"""Keys: checked, put into their namespace, and the part of them that is placed.

A wire key is ``namespace + ":" + key`` as bytes. What decides its shard is the text
in its first ``{…}``, if there is one that is not empty, exactly by the rule of
Redis Cluster (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags).
"""

from collections.abc import Iterable

from shardcache.errors import InvalidKey, InvalidOption

__all__ = ("INTERNAL", "MAX_KEY", "Key", "KeySpace", "distinct", "hash_tag", "internal", "load_pass")

Key = str | bytes
_STR: frozenset[type] = frozenset({str})
INTERNAL = b"shardcache:"  # what every key of the library's own begins with; no namespace may
MAX_KEY = 64 * 1024  # bytes, namespace included


def hash_tag(wire_key: bytes) -> bytes:
    """Return the part of ``wire_key`` that is hashed: its first ``{tag}``, or all of it."""
    start = wire_key.find(b"{")
    if start >= 0:
        end = wire_key.find(b"}", start + 1)
        if end > start + 1:
            return wire_key[start + 1 : end]
    return wire_key


def internal(family: bytes, wire_key: bytes) -> bytes:
    """Return a key of the library's own that lies in the same slot of a Redis Cluster as ``wire_key``."""
    if hash_tag(wire_key) is not wire_key:
        return b"%b%b::%b" % (INTERNAL, family, wire_key)
    return b"%b%b:{%b}" % (INTERNAL, family, wire_key)


def load_pass(wire_key: bytes) -> bytes:
    """Return the key without which a load of ``wire_key`` under way cannot store its value: whoever writes takes it away."""
    return internal(b"load-pass", wire_key)


class KeySpace:
    """Turns a caller's keys into wire keys and back, for one namespace.

    Colons nest: the namespace ``shop:eu`` lies inside ``shop``, whose `scan` and `clear` reach it too.
    """

    __slots__ = ("namespace", "prefix")

    def __init__(self, namespace: str = "") -> None:
        if not isinstance(namespace, str) or "{" in namespace or "}" in namespace:
            # A brace would make one tag of every key, and one shard of the whole cache.
            raise InvalidOption(f"namespace must be a str without '{{' and '}}', got {namespace!r}")
        if f"{namespace}:".startswith(INTERNAL.decode()):
            raise InvalidOption(
                f"namespace must not begin with 'shardcache', where the library keeps its own, got {namespace!r}"
            )
        try:
            self.prefix = f"{namespace}:".encode() if namespace else b""
        except UnicodeEncodeError:
            raise InvalidOption(f"namespace must be encodable as UTF-8, got {namespace!r}") from None
        if len(self.prefix) > MAX_KEY // 2:
            raise InvalidOption(f"namespace may take {MAX_KEY // 2} bytes at most, got {len(self.prefix)}")
        self.namespace = namespace

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
        return raw

    def wire_many(self, keys: list[Key]) -> list[bytes]:
        """Return the wire keys of ``keys``, in their order: `wire` at a third of the cost per key."""
        if not set(map(type, keys)) <= _STR:
            return [self.wire(key) for key in keys]
        prefix = self.prefix
        try:
            raws = list(map(str.encode, keys))  # type: ignore[arg-type]  # all are str
        except UnicodeEncodeError:
            return [self.wire(key) for key in keys]
        if prefix:
            raws = list(map(prefix.__add__, raws))
        if raws and (min(map(len, raws)) == len(prefix) or max(map(len, raws)) > MAX_KEY):
            return [self.wire(key) for key in keys]
        return raws

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
