"""Commands as bytes: what is made without hiredis is what hiredis makes."""

from hypothesis import given
from hypothesis import strategies as st

from shardcache.resp import pack_gets
from shardcache.wire import pack_all


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5), st.sampled_from([0, 1, 200, 255]))
def test_many_gets(keys: list[bytes], longer: int) -> None:
    """A GET for each key, short or long."""
    keys[0] += bytes(longer)
    assert pack_gets(keys) == pack_all([(b"GET", key) for key in keys])
