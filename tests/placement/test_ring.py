"""The ring: its rule against a slow one of plain Python, what moves, balance and weights."""

import json
import os
import statistics
import subprocess
import sys
from bisect import bisect_left
from hashlib import shake_128
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.errors import InvalidNode, InvalidOption
from shardcache.placement import HashRing, Node

pytestmark = pytest.mark.long

VECTORS = Path(__file__).parent.parent / "vectors" / "ring.json"
CASES = json.loads(VECTORS.read_text(encoding="utf-8"))["cases"]
cases = pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])

texts = st.text(st.characters(), min_size=1, max_size=10)
weights = st.floats(0.001, 4)
weighted = st.dictionaries(texts, weights, min_size=2, max_size=8)
keys = st.lists(texts | st.just("") | st.binary(), min_size=1, max_size=30)
few = st.integers(1, 40)


class Slow:
    """The same rule, written again without tables, packing or libraries."""

    def __init__(self, nodes, vnodes):
        points = []
        for name, weight in nodes.items():
            count = max(1, round(vnodes * weight))
            words = shake_128(name.encode("utf-8", "surrogatepass")).digest(4 * count)
            points += [
                (int.from_bytes(words[at : at + 4], "little"), name)
                for at in range(0, 4 * count, 4)
            ]
        self.points = sorted(points)

    def owners(self, key, n):
        raw = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
        start = murmur3(tagged(raw)) >> 12 << 12
        at = bisect_left(self.points, (start, ""))
        order = [name for _, name in self.points[at:] + self.points[:at]]
        return tuple(dict.fromkeys(order))[:n]


def tagged(raw):
    _, brace, rest = raw.partition(b"{")
    tag, end, _ = rest.partition(b"}")
    return tag if brace and end and tag else raw


def murmur3(data):
    """MurmurHash3_x86_32 with seed 0 (Appleby, public domain), written after its description."""

    def rotated(word, by):
        return (word << by | word >> 32 - by) & 0xFFFFFFFF

    value = 0
    for at in range(0, len(data), 4):
        chunk = data[at : at + 4]
        word = int.from_bytes(chunk, "little") * 0xCC9E2D51 & 0xFFFFFFFF
        value ^= rotated(word, 15) * 0x1B873593 & 0xFFFFFFFF
        if len(chunk) == 4:
            value = rotated(value, 13) * 5 + 0xE6546B64 & 0xFFFFFFFF
    value ^= len(data)
    value = (value ^ value >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    value = (value ^ value >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return value ^ value >> 16


def owners_of(ring, keys):
    return [ring.owner(key) for key in keys]


# The rule


@given(nodes=weighted, vnodes=few, keys=keys, n=st.integers(1, 9))
def test_ring_follows_its_rule(nodes, vnodes, keys, n):
    """Table, packing and sorting give what the rule in plain words gives."""
    ring, slow = HashRing(nodes, vnodes=vnodes), Slow(nodes, vnodes)
    assert [ring.owners(key, n) for key in keys] == [slow.owners(key, n) for key in keys]
    assert owners_of(ring, keys) == [slow.owners(key, 1)[0] for key in keys]


@pytest.mark.parametrize("amount", [1, 255, 256, 257, 700])
def test_ring_follows_its_rule_at_any_size(amount):
    """The table changes its width past 256 nodes, not its answers."""
    nodes = {f"node-{number}": 1 for number in range(amount)}
    ring, slow = HashRing(nodes, vnodes=16), Slow(nodes, 16)
    keys = [f"key-{number}" for number in range(300)]
    assert owners_of(ring, keys) == [slow.owners(key, 1)[0] for key in keys]
    assert ring.owner_indexes([key.encode() for key in keys]) == [
        ring.names.index(ring.owner(key)) for key in keys
    ]


@given(nodes=weighted, vnodes=few)
def test_shares_count_the_slots_of_the_table(nodes, vnodes):
    """Look-up and shares are two views of one thing."""
    ring = HashRing(nodes, vnodes=vnodes)
    counted = {name: ring._table.count(index) for index, name in enumerate(ring.names)}
    assert len(ring._table) == ring.size
    assert ring.shares() == {name: count / ring.size for name, count in counted.items()}


@cases
def test_vectors(case):
    """The answers of the first version are the answers of every version."""
    ring = HashRing(
        [Node(name, weight) for name, weight in case["nodes"].items()], **case["settings"]
    )
    keys = [bytes.fromhex(row["key"]) for row in case["keys"]]
    assert owners_of(ring, keys) == [row["owner"] for row in case["keys"]]
    assert [list(ring.owners(key, 3)) for key in keys] == [row["owners"] for row in case["keys"]]
    assert ring.shares() == case["shares"]


@cases
def test_vectors_follow_the_rule(case):
    """The vectors were not made by the code that they test."""
    slow = Slow(case["nodes"], case["settings"].get("vnodes", 4096))
    rows = case["keys"]
    assert [list(slow.owners(bytes.fromhex(row["key"]), 3)) for row in rows] == [
        row["owners"] for row in rows
    ]


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_other_processes_agree(seed):
    """Nothing of a process enters: hash randomisation moves no key."""
    case = CASES[0]
    keys = [row["key"] for row in case["keys"]]
    script = (
        "import json, sys; from shardcache.placement import HashRing;"
        "nodes, keys = json.loads(sys.argv[1]);"
        "print(json.dumps([HashRing(nodes).owner(bytes.fromhex(key)) for key in keys]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps([case["nodes"], keys])],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert json.loads(done.stdout) == [row["owner"] for row in case["keys"]]


# What moves


@given(nodes=weighted, name=texts, weight=weights, vnodes=few, keys=keys)
def test_new_node_only_takes(nodes, name, weight, vnodes, keys):
    """Keys that change owner go to the node that came, and to no other (G5)."""
    nodes.pop(name, None)
    old = HashRing(nodes, vnodes=vnodes)
    new = old.with_node(name, weight=weight)
    changed = {
        after
        for before, after in zip(owners_of(old, keys), owners_of(new, keys), strict=True)
        if before != after
    }
    assert changed <= {name}
    assert {target for _, target in old.moved(new)} <= {name}
    assert old.moved(new).total == new.shares()[name]


@given(nodes=weighted, vnodes=few, keys=keys)
def test_leaving_node_only_gives(nodes, vnodes, keys):
    """Keys that change owner were those of the node that left (G5)."""
    old = HashRing(nodes, vnodes=vnodes)
    name = min(nodes)
    new = old.without_node(name)
    pairs = zip(owners_of(old, keys), owners_of(new, keys), strict=True)
    assert {before for before, after in pairs if before != after} <= {name}
    assert {source for source, _ in old.moved(new)} <= {name}
    assert old.moved(new).total == old.shares()[name]


@given(nodes=weighted, more=st.floats(1, 5), vnodes=few, keys=keys)
def test_heavier_node_only_takes(nodes, more, vnodes, keys):
    """A change of weight moves keys to the heavier node only, and back when undone (G5)."""
    old = HashRing(nodes, vnodes=vnodes)
    name = max(nodes)
    new = old.with_node(name, weight=nodes[name] * more)
    pairs = zip(owners_of(old, keys), owners_of(new, keys), strict=True)
    assert {after for before, after in pairs if before != after} <= {name}
    assert {target for _, target in old.moved(new)} <= {name}
    assert {source for source, _ in new.moved(old)} <= {name}
    assert old.moved(new).total == new.shares()[name] - old.shares()[name]


def test_moved_address_moves_no_key():
    """A node is placed by its name: its address may change (G5)."""
    old = HashRing([Node("a", url="redis://10.0.0.1"), Node("b", url="redis://10.0.0.2")])
    new = old.with_node(Node("a", url="redis://10.9.9.9"))
    assert new != old
    assert new.moved(old).total == 0


# Balance


@pytest.mark.parametrize(("amount", "peak", "sets"), [(10, 1.05, 5), (100, 1.08, 1)])
def test_no_node_gets_much_more_than_the_mean(amount, peak, sets):
    """Peak to mean at the default number of points, for names as people give them."""
    for number in range(sets):
        shares = HashRing([f"10.0.{number}.{last}:6379/0" for last in range(amount)]).shares()
        assert max(shares.values()) * amount <= peak


def test_shares_follow_the_weights():
    """A node of twice the weight owns twice as much, whatever its name: no tilt over many rings."""
    ratios = [
        ring.shares()["heavy"] / ring.shares()["light"]
        for ring in (
            HashRing({"light": 0.5, "heavy": 1.5, f"other-{number}": 1}) for number in range(20)
        )
    ]
    assert statistics.mean(ratios) == pytest.approx(3, rel=0.05)


def test_light_node_still_has_a_point():
    """However small its weight, a node is on the ring and among the successors."""
    ring = HashRing({"a": 1000, "b": 1e-9}, vnodes=1)
    assert set(ring.owners("key", 5)) == {"a", "b"}


@pytest.mark.parametrize("vnodes", [0, -1, 1.5, True, None, "9", 65537])
def test_number_of_points_must_make_sense(vnodes):
    """The message says what is allowed."""
    with pytest.raises(InvalidOption, match="vnodes must be a whole number from 1 to 65536"):
        HashRing(["a"], vnodes=vnodes)


def test_ring_that_would_take_seconds_to_build_is_refused():
    """Weights in megabytes are a mistake with a remedy, not a hang."""
    with pytest.raises(
        InvalidNode,
        match=r"make 8192000 points, allowed are 4194304.*scale them down, or lower vnodes",
    ):
        HashRing({"a": 1000, "b": 1000})
    assert HashRing({"a": 1000, "b": 1000}, vnodes=4).names == ("a", "b")


def test_ring_is_small():
    """The table is one byte a slot, and a point takes six."""
    ring = HashRing([str(number) for number in range(10)])
    parts = (ring._table, memoryview(ring._ends).cast("B"), memoryview(ring._seq).cast("B"))
    assert sum(map(len, parts)) <= 1_500_000
