"""The names of a lock's keys, there and back."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shardcache.flows.lock.plan import LockKeys, wire_of


@given(wire=st.binary(min_size=1, max_size=30))
@example(wire=b"{}")
@example(wire=b"a}b")
@example(wire=b"shop:{user:1}:cart")
@example(wire=b":")
def test_there_and_back(wire: bytes) -> None:
    """From every lock key the name can be read again, and from no other key of that lock."""
    keys = LockKeys.of(wire)
    assert [wire_of(b"lock", key) for key in keys] == [wire, None, None, None]


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"k",
        b"shardcache:lock:",
        b"shardcache:lock::",
        b"shardcache:lock:{}",
        b"shardcache:lock::a",
        b"shardcache:lock:x",
    ],
)
def test_not_ours(key: bytes) -> None:
    """A key that is no lock's has no name."""
    assert wire_of(b"lock", key) is None
