"""Signatures: keyed BLAKE2b (RFC 7693) over the key and the envelope, 16 bytes long.

A forger has one chance in 2**128 per try, and each try is a write to the server. The key's name is
signed too, so a value moved to another key does not verify. BLAKE2b, because of a `get_many` of
signed texts the signatures are most of the work: HMAC-SHA256 takes three times as long.
"""

from collections.abc import Sequence

from shardcache.errors import InvalidOption

__all__ = ("SIGNATURE_SIZE", "Signer")

SIGNATURE_SIZE = 16
MIN_KEY = 16  # bytes; a shorter one can be found by trying
_PURPOSE = b"shardcache signed envelope 2"


class Signer:
    """Signs with its first key, verifies with all of them: put the new key first to rotate."""

    __slots__ = ("_equal", "_keyed")

    def __init__(self, keys: bytes | str | Sequence[bytes | str]) -> None:
        """Take one key or several, each of at least 16 bytes (a str counts as its UTF-8 bytes)."""
        # Only for those who sign.
        import hashlib
        import hmac

        self._equal = hmac.compare_digest
        given = [keys] if isinstance(keys, (bytes, str)) else keys
        if not isinstance(given, (list, tuple)):
            raise InvalidOption(
                f"signing_key must be bytes, str, or a list of them, got {type(keys).__name__}"
            )
        if not given:
            raise InvalidOption("signing_key must have at least one key, got an empty list")
        # Derived, since an application's secret may well sign other things.
        derived = [hmac.digest(_secret(key), _PURPOSE, "sha256") for key in given]
        # A copy of a hash that has its key is made in half the time of a new one.
        self._keyed = tuple(hashlib.blake2b(digest_size=SIGNATURE_SIZE, key=key) for key in derived)

    def sign(self, wire_key: bytes, envelope: bytes) -> bytes:
        """Return the 16 bytes that bind ``envelope`` to ``wire_key``."""
        signing = self._keyed[0].copy()
        signing.update(_message(wire_key, envelope))
        return signing.digest()

    def verify(self, wire_key: bytes, envelope: bytes, signature: bytes) -> bool:
        """Whether one of the keys made ``signature``, in a time that is the same for all bytes."""
        message = _message(wire_key, envelope)
        for keyed in self._keyed:
            signing = keyed.copy()
            signing.update(message)
            if self._equal(signing.digest(), signature):
                return True
        return False


def _message(wire_key: bytes, envelope: bytes) -> bytes:
    # The length keeps "ab" + "c" apart from "a" + "bc".
    return len(wire_key).to_bytes(4, "big") + wire_key + envelope


def _secret(key: object) -> bytes:
    if not isinstance(key, (bytes, str)):
        raise InvalidOption(f"a signing key must be bytes or str, got {type(key).__name__}")
    try:
        secret = key.encode() if isinstance(key, str) else key
    except UnicodeEncodeError:
        raise InvalidOption("a signing key must be encodable as UTF-8") from None
    if len(secret) < MIN_KEY:
        raise InvalidOption(f"a signing key must have at least {MIN_KEY} bytes, got {len(secret)}")
    return secret
