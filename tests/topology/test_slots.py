"""Slots of a Redis Cluster: the published vectors, a plain CRC16, and a real server."""

from binascii import crc_hqx
from collections.abc import Iterator

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from shardcache.embedded import LocalShards
from shardcache.keys import KeySpace, hash_tag
from shardcache.topology.slot_tags import SLOTS, slot_of_tag, tag_of
from shardcache.topology.slots import slot_of, slots_of

tagged = st.lists(
    st.one_of(st.binary(max_size=8), st.sampled_from([b"{", b"}", b"{}", b"}{", b"{a}"])),
    max_size=6,
).map(b"".join)


def crc16(data: bytes) -> int:
    """CRC16 bit by bit: the polynomial x¹⁶ + x¹² + x⁵ + 1, beginning with 0 (XMODEM)."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ (0x1021 if crc & 0x8000 else 0)
        crc &= 0xFFFF
    return crc


def test_the_published_check_value() -> None:
    """The Redis Cluster specification gives 0x31C3 for the digits from 1 to 9."""
    assert crc16(b"123456789") == crc_hqx(b"123456789", 0) == 0x31C3
    assert slot_of(b"123456789") == 0x31C3 % SLOTS


@pytest.mark.parametrize(
    ("key", "tag"),
    [
        (b"{user1000}.following", b"user1000"),
        (b"{user1000}.followers", b"user1000"),
        (b"foo{}{bar}", b"foo{}{bar}"),
        (b"foo{{bar}}zap", b"{bar"),
        (b"foo{bar}{zap}", b"bar"),
    ],
)
def test_hash_tags_of_the_specification(key, tag) -> None:
    """A key lies in the slot of its hash tag, by the examples of the specification."""
    assert slot_of(key) == slot_of_tag(tag) == crc16(tag) % SLOTS


@pytest.mark.parametrize(
    ("key", "slot"), [(b"foo", 12182), (b"bar", 5061), (b"hello", 866), (b"{foo}x", 12182)]
)
def test_slots_that_the_documentation_shows(key, slot) -> None:
    """Slots that everybody has seen in MOVED replies."""
    assert slot_of(key) == slot


@given(st.lists(tagged))
def test_every_key_is_where_a_plain_crc_puts_it(keys) -> None:
    """One key at a time and all at once give the slot that the plain algorithm gives."""
    expected = [crc16(hash_tag(key)) % SLOTS for key in keys]
    assert [slot_of(key) for key in keys] == slots_of(keys) == slots_of(iter(keys)) == expected


@given(st.integers(0, SLOTS - 1))
def test_tag_lies_in_its_slot(slot) -> None:
    """A slot's tag is a number of at most six digits, and a key with it lies in that slot."""
    tag = tag_of(slot)
    assert (tag.isdigit(), len(tag) <= 6, str(int(tag)).encode()) == (True, True, tag)
    assert slot_of_tag(tag) == slot_of(b"x{" + tag + b"}y") == slot


def test_tags_are_the_smallest_numbers() -> None:
    """Every slot has a tag, and it is the smallest number in it: none will ever change."""
    smallest: dict[int, bytes] = {}
    for number in range(110_000):
        smallest.setdefault(crc_hqx(b"%d" % number, 0) % SLOTS, b"%d" % number)
    assert {slot: tag_of(slot) for slot in range(SLOTS)} == smallest


@pytest.mark.parametrize(
    ("slot", "tag"), [(0, b"3560"), (1, b"22179"), (8191, b"42163"), (16383, b"39296")]
)
def test_tags_stay_as_they_were_published(slot, tag) -> None:
    """Tags are part of stored names, so their first values hold for ever."""
    assert tag_of(slot) == tag


@pytest.mark.parametrize("slot", [-1, SLOTS, 2**70])
def test_no_tag_outside_of_the_slots(slot) -> None:
    """A slot that no cluster has is refused, and not searched for without end."""
    with pytest.raises(ValueError, match="from 0 to 16383"):
        tag_of(slot)


@given(tagged.filter(bool))
def test_own_keys_lie_in_the_slot_of_their_key(wire) -> None:
    """What the library stores beside a value lies in the slot of the value."""
    assert slot_of(KeySpace("shop").internal(b"load", wire)) == slot_of(wire)


@pytest.fixture(scope="module")
def member() -> Iterator[redis.Redis]:
    """A server in cluster mode that serves no slot: it knows them all the same."""
    options = {"cluster-enabled": "yes"}
    with (
        LocalShards(1, binary="redis-server", options=options) as servers,
        redis.Redis.from_url(servers.urls["shard-1"]) as plain,
    ):
        yield plain


@given(st.lists(tagged, min_size=1))
def test_every_key_is_where_a_server_puts_it(member, keys) -> None:
    """A redis-server in cluster mode answers CLUSTER KEYSLOT with the same slots."""
    with member.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.execute_command("CLUSTER KEYSLOT", key)
        assert pipeline.execute() == slots_of(keys)
