"""The map of a Redis Cluster: look-ups, equality, and what no map can be made of."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.topology.cluster_map import UNSERVED, ClusterMap, ClusterNode, ClusterShard
from shardcache.topology.slot_tags import SLOTS, tag_of

A, B, C, D = (
    ClusterNode(
        name * 40, f"10.0.0.{place}", 6379, announced=frozenset({(f"{name}.example", 6379)})
    )
    for place, name in enumerate("abcd", start=1)
)
HALF = SLOTS // 2


def two() -> ClusterMap:
    """Two primaries, of which the second has a replica; ten slots are unserved."""
    return ClusterMap.of(
        [
            ClusterShard(B, [C], [(HALF, SLOTS - 11)]),
            ClusterShard(A, [], [(0, HALF - 1)]),
            ClusterShard(D),
        ],
        epoch=7,
    )


def test_look_ups() -> None:
    """Each slot has its primary and its replicas; a slot that nobody serves has neither."""
    cluster = two()
    assert (cluster.primaries, cluster.replicas, cluster.idle) == ((A, B), ((), (C,)), (D,))
    assert cluster.nodes == (A, B, C, D)
    assert [cluster.primary_of(slot) for slot in (0, HALF - 1, HALF, SLOTS - 11)] == [A, A, B, B]
    assert (cluster.primary_of(SLOTS - 10), cluster.primary_of(SLOTS - 1)) == (None, None)
    assert [cluster.replicas_of(slot) for slot in (0, HALF, SLOTS - 1)] == [(), (C,), ()]
    assert cluster.unserved == ((SLOTS - 10, SLOTS - 1),)
    wires = [b"x{%b}" % tag_of(slot) for slot in (0, SLOTS - 1, HALF)]
    assert cluster.owner_indexes(wires) == [0, UNSERVED, 1]
    assert [cluster.owner_index(wire) for wire in wires] == [0, UNSERVED, 1]
    with pytest.raises(IndexError):
        cluster.primaries[UNSERVED]


def test_nodes_are_found_by_each_of_their_addresses() -> None:
    """A redirect may name a node as it announces itself; an address of two nodes names neither."""
    cluster = two()
    assert cluster.node_at("10.0.0.2", 6379) == cluster.node_at("B.Example", 6379) == B
    assert cluster.node_at("c.example", 6379) == C
    assert (cluster.node_at("10.0.0.2", 6380), cluster.node_at("", 6379)) == (None, None)
    same = frozenset({("127.0.0.1", 6379)})
    doubtful = ClusterMap.of(
        [ClusterShard(replace(A, announced=same)), ClusterShard(replace(B, announced=same))]
    )
    assert doubtful.node_at("127.0.0.1", 6379) is None
    assert doubtful.node_at("10.0.0.1", 6379).id == A.id


def test_own_address_comes_before_an_announced_one() -> None:
    """What one node announces does not hide another node that is really there."""
    liar = replace(A, announced=frozenset({("10.0.0.2", 6379)}))
    cluster = ClusterMap.of([ClusterShard(liar), ClusterShard(B)])
    assert cluster.node_at("10.0.0.2", 6379) == B


def test_what_makes_no_difference() -> None:
    """Maps are equal whatever the order of the reply, the epoch and the replication offsets."""
    whole = [ClusterShard(A, [C, D], [(0, 5), (6, 9)]), ClusterShard(B, [], [(10, 20)])]
    other = [
        ClusterShard(replace(B, offset=5), [], [(16, 20), (10, 15)]),
        ClusterShard(A, [D, replace(C, offset=3)], [(0, 9)]),
    ]
    assert ClusterMap.of(whole, 1) == ClusterMap.of(other, 2)
    assert hash(ClusterMap.of(whole, 1)) == hash(ClusterMap.of(other, 2))


@pytest.mark.parametrize(
    "changed",
    [
        [ClusterShard(B, [C], [(0, 9)])],
        [ClusterShard(A, [C], [(0, 8)])],
        [ClusterShard(A, [], [(0, 9)])],
        [ClusterShard(A, [C], [(0, 9)]), ClusterShard(D)],
        [ClusterShard(A, [replace(C, health="fail")], [(0, 9)])],
        [ClusterShard(replace(A, port=1), [C], [(0, 9)])],
        [],
    ],
)
def test_what_makes_a_difference(changed) -> None:
    """Another owner, slot, replica, member, health or address makes another map."""
    assert ClusterMap.of(changed) != ClusterMap.of([ClusterShard(A, [C], [(0, 9)])])


def test_lag() -> None:
    """A replica's lag is the distance of the offsets, never below 0, or unknown."""
    cluster = ClusterMap.of([ClusterShard(replace(A, offset=100), [B, C], [(0, 9)])])
    assert [cluster.lag(0, replace(B, offset=at)) for at in (40, 100, 120, None)] == [
        60,
        0,
        0,
        None,
    ]
    assert ClusterMap.of([ClusterShard(A, [B], [(0, 9)])]).lag(0, replace(B, offset=1)) is None


@pytest.mark.parametrize(
    ("shards", "complaint"),
    [
        ([ClusterShard(A, [], [(0, 9)]), ClusterShard(B, [], [(9, 12)])], "slots 9 to 12 .* twice"),
        ([ClusterShard(A, [], [(0, 9), (3, 3)])], "twice"),
        ([ClusterShard(A, [], [(5, 4)])], "no slots 5 to 4"),
        ([ClusterShard(A, [], [(-1, 4)])], "no slots -1"),
        ([ClusterShard(A, [], [(0, SLOTS)])], "from 0 to 16383"),
        ([ClusterShard(A, [], [(0, 10**40)])], "from 0 to 16383"),
        ([ClusterShard(A, [], [(0, 1)]), ClusterShard(A, [], [(2, 3)])], "more than once"),
        ([ClusterShard(A, [B], [(0, 1)]), ClusterShard(B, [], [(2, 3)])], "more than once"),
    ],
)
def test_no_map(shards, complaint) -> None:
    """A slot that does not exist or is served twice, and a node that is there twice: no map."""
    with pytest.raises(ValueError, match=complaint):
        ClusterMap.of(shards)


@given(st.lists(st.sampled_from([None, 0, 1, 2]), min_size=1, max_size=40), st.data())
def test_ranges_and_table_say_the_same(owners, data) -> None:
    """However slots are cut up, table, ranges and unserved slots agree, in as few ranges as can be.

    ``owners``: who has each piece of the slots.
    """
    cuts = data.draw(
        st.lists(
            st.integers(1, SLOTS - 1),
            min_size=len(owners) - 1,
            max_size=len(owners) - 1,
            unique=True,
        ).map(sorted)
    )
    pieces = list(zip([0, *cuts], [*(cut - 1 for cut in cuts), SLOTS - 1], owners, strict=True))
    cluster = ClusterMap.of(
        ClusterShard(node, [], [(first, last) for first, last, owner in pieces if owner == place])
        for place, node in enumerate((A, B, C))
    )
    for first, last, owner in pieces:
        expected = None if owner is None else (A, B, C)[owner]
        assert {cluster.primary_of(slot) for slot in (first, last)} == {expected}
    everything = [one for ranges in (*cluster.ranges, cluster.unserved) for one in ranges]
    assert sum(last - first + 1 for first, last in everything) == SLOTS
    assert all(
        before[1] + 1 < after[0]
        for ranges in (*cluster.ranges, cluster.unserved)
        for before, after in pairwise(ranges)
    )
