"""Which view of a cluster counts, and which questions a member is asked."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.errors import CommandRefused, ShardUnavailable
from shardcache.resp import ErrorReply
from shardcache.topology.cluster_map import ClusterMap, ClusterNode, ClusterShard
from shardcache.topology.cluster_replies import Asked
from shardcache.topology.cluster_views import View, newest, view_flow

A, B, C = (ClusterNode(name * 40, "10.0.0.1", port) for port, name in enumerate("abc", start=1))


def cluster(*owners: ClusterNode, epoch: int = 1, last: int = 16383) -> ClusterMap:
    """A map in which the first node serves all slots, and the others none."""
    shards = [ClusterShard(owners[0], [], [(0, last)])]
    return ClusterMap.of([*shards, *map(ClusterShard, owners[1:])], epoch)


OLD, NEW = cluster(A, B, epoch=1), cluster(B, A, epoch=2)
FOREIGN = cluster(C, epoch=9)


@pytest.mark.parametrize(
    ("views", "last", "expected"),
    [
        ([], None, None),
        ([], OLD, None),
        ([View(OLD)], None, OLD),
        ([View(OLD), View(NEW)], None, NEW),
        ([View(OLD), View(OLD), View(NEW)], OLD, NEW),
        ([View(NEW, ok=False), View(OLD)], None, OLD),
        ([View(OLD), View(cluster(B, A)), View(cluster(B, A))], None, cluster(B, A)),
        ([View(cluster(A, last=5)), View(cluster(A))], None, cluster(A)),
        ([View(OLD)], NEW, None),
        ([View(OLD), View(OLD)], NEW, OLD),
        ([View(OLD), View(NEW, ok=False)], NEW, NEW),
        ([View(cluster(A, epoch=1))], cluster(A, epoch=2), cluster(A)),
        ([View(cluster(A, epoch=0))], NEW, cluster(A, epoch=0)),
        ([View(FOREIGN)], OLD, None),
        ([View(FOREIGN, seed=True)], OLD, FOREIGN),
        ([View(FOREIGN, seed=True), View(OLD, ok=False)], OLD, OLD),
        ([View(FOREIGN), View(OLD)], OLD, OLD),
    ],
)
def test_newest(views, last, expected) -> None:
    """One row of the theory each: epoch, order, majority, slots, old views, other clusters."""
    assert newest(views, last) == expected


views = st.lists(
    st.builds(
        View,
        st.sampled_from([OLD, NEW, FOREIGN, cluster(A), cluster(B, epoch=3), ClusterMap.of([])]),
        st.booleans(),
        st.booleans(),
    )
)


@given(views, st.sampled_from([None, OLD, NEW, FOREIGN]))
def test_what_counts_was_said(said, last) -> None:
    """What counts is what some member said; another cluster only on the word of a seed."""
    found = newest(said, last)
    if found is None:
        return
    assert found in [view.map for view in said]
    if last is not None and not {one.id for one in last.nodes} & {one.id for one in found.nodes}:
        assert any(view.seed and view.map == found for view in said)


def ask(*rounds: list[Any]) -> tuple[list[list[bytes]], View]:
    """Answer what a member is asked, round by round; return the second words, and the view."""
    flow = view_flow("a", Asked("h", 1), None, seed=True)
    asked = [next(flow)]
    for replies in rounds[:-1]:
        asked.append(flow.send(replies))  # noqa: PERF401  a StopIteration must come out here
    with pytest.raises(StopIteration) as end:
        flow.send(rounds[-1])
    return [[command[1] for command in one] for one in asked], end.value.value


INFO = b"cluster_state:ok\r\ncluster_current_epoch:4\r\n"
FIRST = [b"MYID", b"INFO", b"SHARDS"]


def shards(*slots: int) -> list[Any]:
    node = {b"id": b"a" * 40, b"ip": b"h", b"port": 1, b"role": b"master", b"health": b"online"}
    return [{b"slots": list(slots), b"nodes": [node]}]


def slots(first: int, last: int) -> list[Any]:
    return [[first, last, [b"h", 1, b"a" * 40]]]


def test_one_round_is_enough() -> None:
    """If CLUSTER SHARDS says who serves each slot, nothing more is asked."""
    asked, view = ask([b"a" * 40, INFO, shards(0, 16383)])
    assert asked == [FIRST]
    assert (view.map.epoch, view.map.unserved, view.ok, view.seed) == (4, (), True, True)


@pytest.mark.parametrize(
    ("first", "second", "unserved"),
    [
        (ErrorReply("ERR unknown subcommand 'SHARDS'"), slots(0, 16383), ()),
        (shards(0, 5), slots(0, 16383), ()),
        (shards(0, 5), slots(0, 5), ((6, 16383),)),
        (shards(0, 5), slots(0, 3), ((6, 16383),)),
        (shards(0, 5), ErrorReply("NOPERM"), ((6, 16383),)),
        (shards(0, 5), [[7]], ((6, 16383),)),
        ([b"junk"], slots(0, 16383), ()),
    ],
)
def test_two_rounds(first, second, unserved) -> None:
    """CLUSTER SLOTS is asked where SHARDS is not known, wrong, or without some slots."""
    asked, view = ask([b"a" * 40, b"cluster_state:fail", first], [second])
    assert asked == [FIRST, [b"SLOTS"]]
    assert (view.map.unserved, view.map.epoch, view.ok) == (unserved, 0, False)


@pytest.mark.parametrize(
    ("first", "second", "kind", "complaint"),
    [
        (ErrorReply("ERR unknown"), ErrorReply("ERR no cluster"), CommandRefused, "no cluster"),
        ([b"junk"], ErrorReply("ERR no cluster"), ShardUnavailable, "a shard should be names"),
        (ErrorReply("ERR unknown"), 7, ShardUnavailable, "CLUSTER SLOTS should be a list"),
    ],
)
def test_no_view(first, second, kind, complaint) -> None:
    """If neither reply is a map, the error says what is wrong with the better one."""
    with pytest.raises(kind, match=complaint):
        ask([b"a" * 40, INFO, first], [second])
