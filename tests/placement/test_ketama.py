"""The ketama ring where no twemproxy is at hand: recorded answers, and the quirks one by one."""

import json
import struct
from collections import Counter
from hashlib import md5
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.errors import InvalidNode, InvalidOption
from shardcache.placement import KetamaRing, Node
from shardcache.placement.key_hashes import KEY_HASHES

CASES = json.loads(
    (Path(__file__).parent.parent / "vectors" / "ketama.json").read_text(encoding="utf-8")
)["cases"]


def points_of(ring):
    return Counter(ring.names[index] for index in ring._seq[:-1])


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_keys_are_where_twemproxy_put_them(case):
    """The recorded answers of a real proxy hold on machines without one."""
    ring = KetamaRing(
        [Node(name, weight) for name, weight in case["nodes"].items()], **case["settings"]
    )
    assert {key: ring.owner(bytes.fromhex(key)) for key in case["owners"]} == case["owners"]


def test_recorded_answers_cover_every_hash():
    """No hash is offered that was not seen at work."""
    assert {case["settings"].get("key_hash", "fnv1a_64") for case in CASES} == set(KEY_HASHES)


@pytest.mark.parametrize(
    ("key_hash", "key", "value"),
    [
        ("crc32a", b"123456789", 0xCBF43926),
        ("crc32", b"123456789", 0x4BF4),
        ("fnv1_32", b"foobar", 0x31F0B262),
        ("fnv1_64", b"foobar", 0x340D8765A4DDA9C2 & 0xFFFFFFFF),
        ("fnv1a_32", b"foobar", 0xBF9CF968),
        ("md5", b"", 0xD98C1DD4),
        ("one_at_a_time", b"a", 0xCA2E9442),
    ],
)
def test_hashes_give_their_published_check_values(key_hash, key, value):
    """Where a hash is the textbook's, or its lower half, the textbook's values come out."""
    assert KEY_HASHES[key_hash](key) == value


@given(name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=15))
def test_server_has_four_points_of_each_of_forty_digests(name):
    """A server alone on the ring has the 160 points of its name, in the circle's order."""
    digests = [md5(name.encode() + b"-%d" % count).digest() for count in range(40)]
    assert list(KetamaRing([name])._ends) == sorted(
        point for one in digests for point in struct.unpack("<4I", one)
    )


@pytest.mark.parametrize(
    ("nodes", "points"),
    [
        ({"a": 1, "b": 1}, {"a": 160, "b": 160}),
        ({"a": 1, "b": 3}, {"a": 80, "b": 240}),
        ({"a": 1, "b": 1, "c": 1}, {"a": 160, "b": 160, "c": 160}),
        ({"a": 1, "b": 1000}, {"b": 316}),
        (dict.fromkeys(map(str, range(47)), 1), dict.fromkeys(map(str, range(47)), 156)),
    ],
    ids=["equal", "unequal", "three", "too light", "rounded down"],
)
def test_points_follow_the_weights_in_single_precision(nodes, points):
    """Equal weights may get 39 digests, not 40, and a light server none, as in the C code."""
    assert points_of(KetamaRing(nodes)) == points


def test_server_without_points_owns_nothing():
    """It is on the ring, but no key and no succession ever reaches it."""
    ring = KetamaRing({"light": 1, "heavy": 1000})
    assert ring.shares() == {"light": 0, "heavy": 1}
    assert ring.owners("key", 2) == ("heavy",)


def test_nodes_are_ordered_as_twemproxy_orders_them():
    """The shorter name first, then by bytes: that decides between equal points."""
    assert KetamaRing(["b", "aa", "ab", "é"]).names == ("b", "aa", "ab", "é")
    twins = KetamaRing(["cache-2092", "cache-974"])
    assert twins.names == ("cache-974", "cache-2092")
    assert twins._seq[twins._ends.index(1825499518)] == 0


@pytest.mark.parametrize("weight", [0.5, 1.25, 2.000001])
def test_weight_must_be_whole(weight):
    """The proxy's configuration has no others."""
    with pytest.raises(InvalidNode, match="node 'a': ketama takes whole weights only"):
        KetamaRing({"a": weight, "b": 1})


def test_name_must_fit_the_buffer():
    """What the proxy does past its buffer is undefined, so it cannot be matched."""
    assert KetamaRing(["n" * 82]).owner("key") == "n" * 82
    for name in ("n" * 83, "é" * 42):
        with pytest.raises(InvalidNode, match="names of up to 85 bytes"):
            KetamaRing([name])


@pytest.mark.parametrize("key_hash", ["hsieh", "MD5", "", None, 1, ["md5"]], ids=repr)
def test_unknown_hash_is_refused(key_hash):
    """The message lists what there is."""
    with pytest.raises(InvalidOption, match=r"key_hash must be one of .*fnv1a_64.*md5"):
        KetamaRing(["a"], key_hash=key_hash)


@pytest.mark.parametrize("hash_tag", ["", "{", "{}}", "é{", 7, b"{}"], ids=repr)
def test_tag_must_be_two_characters(hash_tag):
    """As twemproxy's own configuration asks."""
    with pytest.raises(InvalidOption, match="hash_tag must be two ASCII characters"):
        KetamaRing(["a"], hash_tag=hash_tag)


def test_without_a_tag_the_whole_key_counts():
    """The proxy hashes no tags unless told to, and neither does this."""
    ring = KetamaRing([str(number) for number in range(20)], key_hash="md5")
    assert len({ring.owner(f"{{user}}{number}") for number in range(50)}) > 5


def test_weighted_ketama_moves_more_than_it_must():
    """What `HashRing` is for: here keys move between servers that stay."""
    ring = KetamaRing({"a": 1, "b": 1, "c": 1, "d": 1, "e": 2, "f": 2, "g": 4, "h": 4})
    extra = sum(
        share for (source, _), share in ring.moved(ring.without_node("a")).items() if source != "a"
    )
    assert 0.01 < extra < 0.15
