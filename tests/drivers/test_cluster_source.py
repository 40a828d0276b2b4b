"""The map of a cluster asked of members that agree, disagree, lie, refuse, hang or are gone."""

import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from itertools import pairwise
from typing import Any

import pytest

from shardcache import Options
from shardcache.drivers.cluster_source import ClusterSource
from shardcache.errors import (
    AccessDenied,
    AuthenticationFailed,
    DiscoveryFailed,
    ShardUnavailable,
    WrongTopology,
)
from shardcache.events import Event
from shardcache.topology.cluster_map import ClusterMap
from shardcache.topology.cluster_seeds import ClusterSeeds
from shardcache.url_options import read_url
from tests.hostile.cluster_member import SLOTS, FakeMember

LONG = 20.0  # seconds: longer than anything takes
HALF = SLOTS // 2


@pytest.fixture
def member() -> Iterator[Callable[..., FakeMember]]:
    """Make members that are ended at the end."""
    with ExitStack() as stack:
        yield lambda *ranges, **how: stack.enter_context(FakeMember(*ranges, **how))


@pytest.fixture
def cluster(member: Any) -> list[FakeMember]:
    """Three members that share the slots and know each other."""
    cuts = (0, 5000, 10000, SLOTS)
    made = [member((first, last - 1)) for first, last in pairwise(cuts)]
    for one in made:
        one.others = [other for other in made if other is not one]
    return made


def source_of(
    *seeds: FakeMember | str,
    timeout: float = LONG,
    grace: float = LONG,
    login: str = "",
    **options: Any,
) -> ClusterSource:
    hosts = ",".join(
        one if isinstance(one, str) else f"{one.address.host}:{one.address.port}" for one in seeds
    )
    urls = read_url(f"redis+cluster://{login}{hosts}").urls
    return ClusterSource(
        ClusterSeeds.of(urls),
        Options(**options),
        timeout=timeout,
        clock=time.monotonic,
        grace=grace,
    )


def served(found: ClusterMap) -> dict[int, tuple[tuple[int, int], ...]]:
    """The slots by the port of their primary."""
    return {node.port: ranges for node, ranges in zip(found.primaries, found.ranges, strict=True)}


def served_by(*members: FakeMember) -> dict[int, tuple[tuple[int, int], ...]]:
    return {one.address.port: tuple(one.ranges) for one in members}


@pytest.mark.parametrize("protocol", [3, 2])
@pytest.mark.parametrize("knows", [b"SHARDS", b"SLOTS"])
def test_one_seed_tells_all(cluster, protocol, knows) -> None:
    """One member is enough to learn of all, by either command and in either protocol."""
    for one in cluster:
        one.knows = {knows}
    source = source_of(cluster[1], protocol=protocol)
    found = source()
    assert (served(found), found.epoch, found.unserved) == (served_by(*cluster), 1, ())
    assert source() == found
    # From now on all members that are known are asked, not the seed alone.
    assert [one.polls() for one in cluster] == [1, 2, 1]


def test_server_without_resp3(member) -> None:
    """A server that does not know HELLO is asked in RESP2."""
    one = member((0, SLOTS - 1), resp3=False)
    assert served(source_of(one)()) == served_by(one)


def test_shards_that_leave_slots_out(cluster) -> None:
    """Where SHARDS leaves slots out (redis #13414), SLOTS has them."""
    first = cluster[0]
    first.replies[b"SHARDS"] = [
        first.as_shard(),
        cluster[1].as_shard(slots=False, health="fail"),
        cluster[2].as_shard(),
    ]
    assert served(source_of(first)()) == served_by(*cluster)


def test_slots_that_nobody_serves(member) -> None:
    """Unserved slots are no failure: the others are served."""
    one = member((0, 5), (9, SLOTS - 2))
    assert source_of(one)().unserved == ((6, 8), (SLOTS - 1, SLOTS - 1))


def test_no_slot_is_served(member) -> None:
    """A cluster that has just been made, or a member that was reset, gives no map."""
    with pytest.raises(DiscoveryFailed, match="no slot of the cluster is served"):
        source_of(member())()


def test_newer_epoch_counts(cluster) -> None:
    """The member that knows of the latest decision is followed, though the others are more."""
    source = source_of(cluster[0])
    source()
    new = cluster[2]
    new.epoch, new.ranges = 2, [(0, SLOTS - 1)]
    new.others = []
    assert served(source()) == served_by(new)


def test_majority_counts_in_one_epoch(cluster) -> None:
    """A member that was removed and does not know it is outvoted by the others."""
    source = source_of(cluster[0])
    source()
    removed, *rest = cluster
    rest[0].ranges = [(0, 9999)]
    for one in rest:
        one.others = [other for other in rest if other is not one]
    removed.replies[b"SHARDS"] = [
        removed.as_shard(),
        {**rest[0].as_shard(), "slots": [5000, 9999]},
        rest[1].as_shard(),
    ]
    for _ in range(3):
        assert served(source()) == served_by(*rest)


def test_member_that_sees_the_cluster_down(cluster) -> None:
    """A member that is cut off says so, and others count more."""
    source = source_of(*cluster)
    cut_off = cluster[0]
    cut_off.state, cut_off.ranges, cut_off.others = "fail", [(0, SLOTS - 1)], []
    for one in cluster[1:]:
        one.replies[b"SHARDS"] = [
            {**cut_off.as_shard(), "slots": [0, 4999]},
            cluster[1].as_shard(),
            cluster[2].as_shard(),
        ]
    assert served(source()) == {
        **served_by(*cluster[1:]),
        cut_off.address.port: ((0, 4999),),
    }


def test_only_those_that_are_behind_answer(cluster) -> None:
    """A single member with an older view is not believed: the error keeps the last map in use."""
    for one in cluster:
        one.epoch = 5
    source = source_of(cluster[0])
    found = source()
    behind, *rest = cluster
    behind.epoch = 4
    for one in rest:
        one.replies[b"SHARDS"] = one.replies[b"SLOTS"] = "-LOADING the dataset"
    with pytest.raises(DiscoveryFailed, match=r"behind, or are those of another cluster.*LOADING"):
        source()
    behind.epoch = 5
    assert source() == found


def test_cluster_that_was_set_up_anew(cluster) -> None:
    """If all say an older epoch, nobody is behind: the cluster was made anew."""
    for one in cluster:
        one.epoch = 5
    source = source_of(cluster[0])
    source()
    for one in cluster:
        one.epoch = 1
    assert source().epoch == 1


def test_another_cluster_at_a_known_address(member) -> None:
    """Members that belong to another cluster by now are not believed; a seed is, if it is alone."""
    ours, other = member((0, HALF - 1), id="a" * 40), member((HALF, SLOTS - 1), id="b" * 40)
    ours.others, other.others = [other], [ours]
    source = source_of(ours)
    found = source()
    # At the other's address there is somebody else now, with a cluster of its own.
    other.id, other.others, other.ranges, other.epoch = "c" * 40, [], [(0, SLOTS - 1)], 99
    ours.replies[b"SHARDS"] = [
        ours.as_shard(),
        {**other.as_shard(), "slots": [HALF, SLOTS - 1]},
    ]
    ours.replies[b"SHARDS"][1]["nodes"][0]["id"] = "b" * 40
    assert [source() == found for _ in range(3)] == [True] * 3
    ours.__exit__()
    with pytest.raises(DiscoveryFailed, match="another cluster"):
        source()


def test_seed_of_another_cluster(member) -> None:
    """Where a seed stands for another cluster now, that is the cluster that is meant."""
    one = member((0, SLOTS - 1))
    source = source_of(one)
    source()
    one.id = "f" * 40
    assert source().primaries[0].id == "f" * 40


def test_hung_member(cluster) -> None:
    """A member that hangs delays nobody: the poll ends soon after the others have answered."""
    source = source_of(cluster[0], grace=0.01)
    found = source()
    cluster[0].free.clear()
    begun = time.monotonic()
    for _ in range(4):
        assert source() == found
    assert time.monotonic() - begun < LONG


def test_members_that_failed_are_asked_last(member) -> None:
    """A member that did not answer is not asked again while enough others do."""
    size = SLOTS // 6
    made = [member((at * size, at * size + size - 1)) for at in range(6)]
    for one in made:
        one.others = [other for other in made if other is not one]
    source = source_of(made[0])
    found = source()
    loading = made[2:4]
    for one in loading:
        one.replies[b"SHARDS"] = one.replies[b"SLOTS"] = "-LOADING the dataset"
    assert [source() == found for _ in range(12)] == [True] * 12
    assert [one.polls() for one in loading] == [1, 1]
    # When nobody else is left they are.
    for one in made[:2] + made[4:]:
        one.__exit__()
    for one in loading:
        one.replies.clear()
    assert source() == found


def test_all_hang(cluster) -> None:
    """If nobody answers the poll ends all the same, and says who did not."""
    source = source_of(cluster[0], timeout=0.2)
    for one in cluster:
        one.free.clear()
    with pytest.raises(DiscoveryFailed, match=f"127.0.0.1:{cluster[0].address.port}: "):
        source()


def test_hung_members_leave_time_for_the_seeds(member, cluster) -> None:
    """Members that all hang have a share of the time: the seeds still have theirs."""
    seed = member((0, SLOTS - 1))
    seed.ranges, seed.others = [], cluster
    source = source_of(seed, timeout=2.0)
    found = source()
    for one in cluster:
        one.free.clear()
    assert source() == found
    assert seed.polls() == 2


def test_everybody_has_another_address(cluster, member, monkeypatch) -> None:
    """When all addresses change at once, the seeds' names are looked up anew, and are enough."""
    place, name = [cluster[0]], f"{uuid.uuid4().hex}.example"
    real = socket.getaddrinfo

    def look_up(host: str, port: int, *rest: Any, **more: Any) -> Any:
        if host == name:
            host, port = place[0].address.host, place[0].address.port
        return real(host, port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    source = source_of(f"{name}:7000")
    assert served(source()) == served_by(*cluster)
    # The same members, elsewhere.
    moved = [member(*one.ranges, id=one.id) for one in cluster]
    for one in moved:
        one.others = [other for other in moved if other is not one]
    for one in cluster:
        one.__exit__()
    place[0] = moved[1]
    found = None
    while found is None:  # a name is not looked up twice within a moment
        with suppress(DiscoveryFailed):
            found = source()
        time.sleep(0.02)
    assert served(found) == served_by(*moved)


def test_address_map(member) -> None:
    """Members are reached by the addresses of the map, seeds as they are given."""
    seed, other = member(), member((0, SLOTS - 1))
    entry = other.as_shard()
    entry["nodes"][0].update(endpoint="10.0.0.1", port=6379)
    for one in (seed, other):
        one.replies[b"SHARDS"] = [entry]
    forwards = {("10.0.0.1", 6379): (other.address.host, other.address.port)}
    source = source_of(seed, address_map=forwards)
    assert [source().primaries[0].port for _ in range(2)] == [other.address.port] * 2
    assert (seed.polls(), other.polls()) == (1, 1)


@pytest.mark.parametrize("protocol", [3, 2])
@pytest.mark.parametrize("mode", ["standalone", "sentinel"])
def test_no_cluster(member, mode, protocol) -> None:
    """A server that is not in cluster mode is refused by an error that says what it is."""
    one = member((0, SLOTS - 1), mode=mode)
    with pytest.raises(DiscoveryFailed, match="no member of a Redis Cluster") as caught:
        source_of(one, protocol=protocol)()
    assert isinstance(caught.value.__cause__, WrongTopology)


def test_one_wrong_seed_among_others(member, cluster) -> None:
    """A seed that is no member does not keep the others from answering."""
    source = source_of(member(mode="standalone"), cluster[0])
    assert served(source()) == served_by(*cluster)


def test_refused_login(member) -> None:
    """A refused login is an error with that cause and one event, and the password stays secret."""
    events: list[Event] = []
    one = member((0, SLOTS - 1), login=b"secret")
    source = source_of(one, login=":hunter2@", on_event=events.append)
    for _ in range(2):
        with pytest.raises(DiscoveryFailed, match="refuses the login") as caught:
            source()
        assert isinstance(caught.value.__cause__, AuthenticationFailed)
        assert "hunter2" not in str(caught.value)
    assert [(event.kind, event.shard) for event in events] == [
        ("auth_failed", f"127.0.0.1:{one.address.port}")
    ]
    assert served(source_of(one, login=":secret@")()) == served_by(one)


@pytest.mark.parametrize(
    ("replies", "complaint", "cause"),
    [
        ({b"SHARDS": 7, b"SLOTS": "+OK"}, "SHARDS should be a list, got 7", ShardUnavailable),
        ({b"SHARDS": [["slots", "x"]]}, "slots of a shard should be a list", ShardUnavailable),
        ({b"SHARDS": [], b"SLOTS": [[0]]}, "no slot of the cluster is served", None),
        (
            {b"SHARDS": "-ERR unknown subcommand 'SHARDS'", b"SLOTS": []},
            "no slot of the cluster is served",
            None,
        ),
        (
            {b"SHARDS": "-NOPERM no permission", b"SLOTS": "-NOPERM no permission"},
            "NOPERM",
            AccessDenied,
        ),
        (
            {b"SHARDS": "-LOADING reading", b"SLOTS": "-LOADING reading"},
            "LOADING",
            ShardUnavailable,
        ),
    ],
    ids=["types", "half", "none", "empty", "acl", "loading"],
)
def test_replies_that_cannot_be_used(member, replies, complaint, cause) -> None:
    """A reply that is no map is an error that says so; nothing of it is used."""
    one = member()
    one.replies.update({b"SLOTS": "-ERR", **replies})
    with pytest.raises(DiscoveryFailed, match=complaint) as caught:
        source_of(one)()
    assert isinstance(caught.value.__cause__, cause or type(None))


@pytest.mark.parametrize("wrong", [b"INFO", b"MYID"])
def test_what_need_not_be_told(member, wrong) -> None:
    """Neither the epoch nor the member's own id is needed: an ACL may hide them."""
    one = member((0, SLOTS - 1))
    one.replies[wrong] = "-NOPERM no permission"
    source = source_of(one)
    assert [served(source()) for _ in range(2)] == [served_by(one)] * 2


def test_nobody_is_there() -> None:
    """If the seed is not there, the error says so."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        with pytest.raises(DiscoveryFailed, match=f"127.0.0.1:{port}: .*refused"):
            source_of(f"127.0.0.1:{port}")()
