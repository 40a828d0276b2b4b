"""The keys of the library's own: in the namespace, in their object's slot, and parsed back."""

from binascii import crc_hqx

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shardcache.flows.lock import LockKeys
from shardcache.keys import INTERNAL, KeySpace, hash_tag

KEYS = st.binary(min_size=1, max_size=30).filter(lambda key: INTERNAL not in key)
SPACES = [KeySpace(), KeySpace("shop"), KeySpace("shop:eu")]


def slot(key: bytes) -> int:
    """Return the slot of a key, by the rule of Redis Cluster."""
    return crc_hqx(hash_tag(key), 0) % 16384


@given(space=st.sampled_from(SPACES), key=KEYS)
@example(space=SPACES[0], key=b"{}")
@example(space=SPACES[1], key=b"{}")
@example(space=SPACES[1], key=b"a}b")
@example(space=SPACES[1], key=b"a{b")
@example(space=SPACES[1], key=b"x{b}y}")
@example(space=SPACES[1], key=b"{user:1}:cart")
@example(space=SPACES[0], key=b":")
@example(space=SPACES[0], key=b"}")
def test_own_keys(space: KeySpace, key: bytes) -> None:
    """Every internal key lies in the namespace and in the slot of its wire key.

    A lock key tells the name, the others none.
    """
    wire = space.wire(key)
    keys = [*LockKeys.of(wire, space), *LockKeys.of_load(wire, space), space.internal(b"tag", wire)]
    assert [space.wire_of(b"lock", one) for one in keys] == [wire] + [None] * 8
    assert {slot(one) for one in keys} == {slot(wire)}
    assert all(one.startswith(space.prefix + INTERNAL) for one in keys)
    assert space.fill_token(wire) == keys[5]
    assert len(set(keys)) == 9


@given(
    one=st.sampled_from(SPACES),
    other=st.sampled_from(SPACES),
    keys=st.tuples(KEYS, KEYS),
)
def test_no_two_share_a_lock(one: KeySpace, other: KeySpace, keys: tuple[bytes, bytes]) -> None:
    """Two namespaces share no internal key, and in one only the same name has the same."""
    left, right = (
        space.internal(b"lock", space.wire(key))
        for space, key in zip((one, other), keys, strict=True)
    )
    assert (left == right) == ((one, keys[0]) == (other, keys[1]))


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b"lock:",
        b"lock::",
        b"lock:{}",
        b"lock::a",
        b"lock:x",
        b"lock:{1}:n:a}b",
        b"lock:{n:x}:",
    ],
)
def test_not_ours(rest: bytes) -> None:
    """A key that is no lock's has no name."""
    space = KeySpace("n")
    assert space.wire_of(b"lock", space.internals + rest) is None
    assert space.wire_of(b"lock", b"n:k") is None
    assert space.wire_of(b"lock", KeySpace("m").internal(b"lock", b"n:x")) is None
