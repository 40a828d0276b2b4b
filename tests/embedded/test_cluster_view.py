"""What CLUSTER NODES says is understood, and views that differ are noticed."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.embedded.cluster_view import SLOTS, ClusterView, disagreement, ranges

A, B, C = "a" * 40, "b" * 40, "c" * 40


def line(
    identity: str = A,
    *,
    flags: str = "master",
    master: str = "-",
    link: str = "connected",
    slots: str = "",
    address: str = "127.0.0.1:7001@17001",
) -> str:
    """Return one line of CLUSTER NODES."""
    return f"{identity} {address} {flags} {master} 0 1700000000000 3 {link} {slots}".rstrip() + "\n"


def view(*lines: str) -> ClusterView:
    """Return the view that these lines are."""
    return ClusterView("".join(lines))


def pair(me: str, *, other: str = "", **changes: str) -> ClusterView:
    """Return what one of two masters sees; ``changes`` are of what it sees of the other."""
    halves = {A: "0-8191", B: "8192-16383"}
    them = B if me == A else A
    return view(
        line(me, flags="myself,master", slots=halves[me]),
        line(them, **({"slots": halves[them]} | changes)),
        other,
    )


def test_a_view_is_parsed():
    """Addresses of several server versions, flags, roles, ranges, migrating slots."""
    seen = view(
        line(A, flags="myself,master", slots="0-3 7 [93->-" + B + "] [5-<-" + C + "]"),
        line(B, address="127.0.0.1:7002@17002,localhost", flags="slave,fail?", master=A),
        line(C, address="[::1]:7003@17003,,shard-id=12", flags="master,fail", link="disconnected"),
        line("d" * 40, address=":0@0", flags="master,noaddr"),
    )
    assert [node.port for node in seen.nodes.values()] == [7001, 7002, 7003, 0]
    assert seen.myself.id == A
    assert seen.myself.slots == ((0, 3), (7, 7))
    assert seen.myself.slot_numbers() == [0, 1, 2, 3, 7]
    assert seen.nodes[B].master == A
    assert [node.id for node in seen.replicas(A)] == [B]
    assert [node.failed for node in seen.nodes.values()] == [False, False, True, False]
    assert [node.connected for node in seen.nodes.values()] == [True, True, False, True]
    assert seen.owner(7) is seen.myself
    assert seen.owner(93) is None


@given(st.sets(st.integers(0, SLOTS - 1), max_size=300))
def test_ranges_are_the_slots(slots):
    """Ranges hold exactly the slots, in order, and no two of them touch."""
    found = ranges(slots)
    assert {slot for first, last in found for slot in range(first, last + 1)} == slots
    assert all(left[1] + 1 < right[0] for left, right in pairwise(found))
    assert view(
        line(
            flags="myself,master",
            slots=" ".join(f"{a}-{b}" if a != b else str(a) for a, b in found),
        )
    ).myself.slot_numbers() == sorted(slots)


def test_agreement():
    """Two masters that see the same, beside a third that is down in their eyes and not asked."""
    down = line(C, flags="master,fail", link="disconnected")
    assert disagreement({"a": pair(A, other=down), "b": pair(B)}) is None
    assert disagreement({"a": view(line(flags="myself,master", slots="0-16383"))}) is None


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"flags": "handshake"}, "a does not know b yet"),
        ({"flags": "master,noaddr"}, "a does not know b yet"),
        ({"flags": "master,fail?"}, "a does not reach b"),
        ({"flags": "master,fail"}, "a does not reach b"),
        ({"link": "disconnected"}, "a does not reach b"),
        ({"other": line(C, flags="handshake")}, "a is still shaking hands"),
        (
            {"slots": "8192-16000 16002-16381"},
            "a sees nobody alive that serves the slots 16001, 16382-16383",
        ),
        ({"slots": "8192-16383 0"}, "a and b see different roles or slots"),
    ],
)
def test_disagreement(changed, reason):
    """Whatever is not settled in the view of one is said."""
    assert disagreement({"a": pair(A, **changed), "b": pair(B)}) == reason


def test_slots_of_a_dead_node_are_served_by_nobody():
    """A node that is not asked, because it was killed, serves nothing, even if nobody noticed."""
    only = pair(A)
    assert disagreement({"a": only}) == "a sees nobody alive that serves the slots 8192-16383"


def test_many_missing_slots_are_shortened():
    """The message stays readable."""
    even = " ".join(str(slot) for slot in range(0, SLOTS, 2))
    said = disagreement({"a": view(line(flags="myself,master", slots=even))})
    assert said is not None
    assert said.endswith("serves the slots 1, 3, 5, 7, 9, …")


def test_roles_that_differ():
    """Who is whose replica must be the same in all eyes."""
    first = view(line(A, flags="myself,master", slots="0-16383"), line(B, flags="slave", master=A))
    second = view(line(A, slots="0-16383"), line(B, flags="myself,master"))
    assert disagreement({"a": first, "b": second}) == "a and b see different roles or slots"
