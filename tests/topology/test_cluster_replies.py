"""CLUSTER SHARDS and CLUSTER SLOTS as maps: both protocols, public reports, hostile replies."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.errors import InvalidOption
from shardcache.topology.cluster_map import ClusterMap, ClusterNode, ClusterShard
from shardcache.topology.cluster_replies import Asked, parse_epoch, parse_shards, parse_slots
from shardcache.topology.slot_tags import SLOTS

ASKED = Asked("seed.example", 7000)
ID = [letter.encode() * 40 for letter in "abcdef"]


def described(at: int, **changes: Any) -> dict[bytes, Any]:
    """A node as in CLUSTER SHARDS, of RESP3; None takes a field away."""
    fields = {
        "id": ID[at],
        "port": 6379,
        "ip": b"10.0.0.%d" % at,
        "endpoint": b"10.0.0.%d" % at,
        "role": b"master",
        "replication-offset": 100,
        "health": b"online",
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    return {name.encode(): value for name, value in fields.items() if value != "absent"}


def shard(slots: list[int], *nodes: dict[bytes, Any]) -> dict[bytes, Any]:
    return {b"slots": slots, b"nodes": list(nodes)}


def resp2(value: Any) -> Any:
    """A reply of RESP3 as RESP2 has it: maps are flat lists."""
    if isinstance(value, dict):
        return [resp2(one) for pair in value.items() for one in pair]
    return [resp2(one) for one in value] if isinstance(value, list) else value


hosts = st.one_of(
    st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str), st.just("node-1.example")
)


@st.composite
def clusters(draw: st.DrawFn) -> ClusterMap:
    """Random maps whose nodes serve slots or are replicas of such."""
    names = draw(
        st.lists(
            st.text("0123456789abcdef", min_size=40, max_size=40),
            min_size=1,
            max_size=12,
            unique=True,
        )
    )
    nodes = []
    for name in names:
        host, port = draw(hosts), draw(st.integers(1, 65535))
        nodes.append(
            ClusterNode(
                name,
                host,
                port,
                announced=frozenset({(host, port)}),
                offset=draw(st.integers(0, 2**63 - 1)),
            )
        )
    number = draw(st.integers(1, len(nodes)))
    primaries, rest = nodes[:number], nodes[number:]
    cuts = draw(st.lists(st.integers(1, SLOTS - 1), max_size=20, unique=True).map(sorted))
    pieces = list(zip([0, *cuts], [*(cut - 1 for cut in cuts), SLOTS - 1], strict=True))
    owners = [draw(st.sampled_from([None, *range(number)])) for _ in pieces]
    shards = []
    for place, primary in enumerate(primaries):
        ranges = [piece for piece, owner in zip(pieces, owners, strict=True) if owner == place]
        if ranges:
            shards.append(ClusterShard(primary, rest[place::number], ranges))
    return ClusterMap.of(shards)


def as_shards(cluster: ClusterMap) -> list[Any]:
    """A reply to CLUSTER SHARDS that describes a map."""

    def node(one: ClusterNode, role: bytes) -> dict[bytes, Any]:
        host = one.host.encode()
        return {
            b"id": one.id.encode(),
            b"port": one.port,
            b"ip": host,
            b"endpoint": host,
            b"role": role,
            b"replication-offset": one.offset,
            b"health": one.health.encode(),
        }

    return [
        shard(
            [slot for one in ranges for slot in one],
            *(node(one, b"replica") for one in replicas),
            node(primary, b"master"),
        )
        for primary, replicas, ranges in zip(
            cluster.primaries, cluster.replicas, cluster.ranges, strict=True
        )
    ]


def as_slots(cluster: ClusterMap) -> list[Any]:
    """A reply to CLUSTER SLOTS that describes a map."""
    return [
        [
            first,
            last,
            *([one.host.encode(), one.port, one.id.encode(), {}] for one in (primary, *replicas)),
        ]
        for primary, replicas, ranges in zip(
            cluster.primaries, cluster.replicas, cluster.ranges, strict=True
        )
        for first, last in ranges
    ]


@given(clusters(), st.randoms(use_true_random=False))
def test_round_trip(cluster, random) -> None:
    """A map comes back out of both commands, in both protocols, whatever the order."""
    for reply, parse in ((as_shards(cluster), parse_shards), (as_slots(cluster), parse_slots)):
        random.shuffle(reply)
        for form in (reply, resp2(reply)):
            found = parse(form, ASKED, epoch=5)
            assert (found, found.epoch, found.table) == (cluster, 5, cluster.table)
    offsets = [node.offset for node in parse_shards(as_shards(cluster), ASKED).nodes]
    assert offsets == [node.offset for node in cluster.nodes]


def only(cluster: ClusterMap) -> tuple[str, int]:
    """The address of the only node."""
    [node] = cluster.nodes
    return node.host, node.port


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"endpoint": b"Node-1.Example", "hostname": b"node-1.example"}, "node-1.example"),
        ({"endpoint": None}, "seed.example"),
        ({"endpoint": b"", "ip": b""}, "seed.example"),
        ({"endpoint": b"?"}, "10.0.0.0"),
        ({"endpoint": b"?", "ip": b""}, "seed.example"),
        ({"endpoint": "absent"}, "10.0.0.0"),
        ({"endpoint": b"2001:db8::1", "ip": b"2001:db8::1"}, "2001:db8::1"),
        ({"endpoint": b"fe80::1%eth0"}, "fe80::1%eth0"),
    ],
    ids=["host-name", "null", "empty", "?", "?-without-ip", "no-endpoint", "ipv6", "ipv6-zone"],
)
def test_endpoints(fields, expected) -> None:
    """A node is where it says; if it says nothing, at the host that was asked, by its own port."""
    reply = [shard([0, 16383], described(0, **fields))]
    assert only(parse_shards(reply, ASKED)) == (expected, 6379)
    assert only(parse_shards(resp2(reply), ASKED)) == (expected, 6379)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ([b"node-1.example", 6379, ID[0], [b"ip", b"10.0.0.1"]], "node-1.example"),
        ([None, 6379, ID[0], [b"ip", b"10.0.0.1"]], "seed.example"),
        ([b"", 6379, ID[0], []], "seed.example"),
        ([b"?", 6379, ID[0], [b"ip", b"10.0.0.1"]], "10.0.0.1"),
        ([b"?", 6379, ID[0]], "seed.example"),
        ([b"2001:db8::1", 6379, ID[0], {}], "2001:db8::1"),
    ],
    ids=["host-name", "null", "empty", "?", "?-without-ip", "ipv6"],
)
def test_endpoints_in_slots(node, expected) -> None:
    """The same of CLUSTER SLOTS."""
    assert only(parse_slots([[0, 16383, node]], ASKED)) == (expected, 6379)


def test_lone_node_behind_a_forwarded_port() -> None:
    """A node that has met nobody knows no address: it is where it was asked, port and all."""
    asked = Asked("localhost", 17000, id=ID[0].decode())
    reply = [shard([0, 16383], described(0, endpoint=b"", ip=b""))]
    slots = [[0, 16383, [b"", 6379, ID[0], []]]]
    mapped = {("localhost", 17000): ("elsewhere", 1)}  # what was reached is not mapped again
    for address_map in (None, mapped):
        assert only(parse_shards(reply, asked, address_map)) == ("localhost", 17000)
        assert only(parse_slots(slots, asked, address_map)) == ("localhost", 17000)


def test_servers_from_before_node_ids() -> None:
    """Redis before 4 tells no ids: the address stands for them."""
    cluster = parse_slots([[0, 16383, [b"10.0.0.1", 6379], [b"10.0.0.2", 6379]]], ASKED)
    assert [node.id for node in cluster.nodes] == ["10.0.0.1:6379", "10.0.0.2:6379"]


def test_tls_port() -> None:
    """With TLS it is the TLS port, without it the plain one; both are known for redirects."""
    reply = [shard([0, 16383], described(0, tls_port=6380))]
    plain, tls = (parse_shards(reply, Asked("seed", 1, tls)) for tls in (False, True))
    assert (only(plain)[1], only(tls)[1]) == (6379, 6380)
    for port in (6379, 6380):
        assert tls.node_at("10.0.0.0", port) is tls.primaries[0]


def test_tls_port_alone() -> None:
    """A node without a plain port has its TLS port, which a plain client is told too."""
    reply = [shard([0, 16383], described(0, port="absent", tls_port=6380))]
    for tls in (False, True):
        assert only(parse_shards(reply, Asked("seed", 1, tls)))[1] == 6380


def test_plain_ports_announced_to_a_client_with_tls() -> None:
    """The distance to the TLS port of the node that was asked is that of all (redis #12006)."""
    reply = [
        shard([0, 8000], described(0, port=7111)),
        shard([8001, 16383], described(1, port=7112)),
    ]
    asked = Asked("10.0.0.0", 7121, True, ID[0].decode())
    cluster = parse_shards(reply, asked)
    assert [node.port for node in cluster.primaries] == [7121, 7122]
    assert cluster.node_at("10.0.0.1", 7112) is cluster.primaries[1]  # as a MOVED names it
    # Who has an address map says it there.
    ports = {("10.0.0.0", 7111): ("10.0.0.0", 1), ("10.0.0.1", 7112): ("10.0.0.1", 2)}
    mapped = parse_shards(reply, asked, ports)
    assert [node.port for node in mapped.primaries] == [1, 2]
    # CLUSTER SLOTS of newer servers has TLS ports, so nothing is concluded from it.
    slots = [[0, 16383, [b"10.0.0.0", 7111, ID[0], {}]]]
    assert only(parse_slots(slots, asked))[1] == 7111


def test_address_map() -> None:
    """Every announced address is mapped, those of replicas and of idle nodes too, each once."""
    reply = [
        shard([0, 16383], described(0), described(1, role=b"replica")),
        shard([], described(2, endpoint=None)),
    ]
    asked: list[tuple[str, int]] = []

    def forward(address: tuple[str, int]) -> tuple[str, int]:
        asked.append(address)
        return f"out.{address[0]}", address[1] + 1

    cluster = parse_shards(reply, ASKED, forward)
    assert {(node.host, node.port) for node in cluster.nodes} == {
        ("out.10.0.0.0", 6380),
        ("out.10.0.0.1", 6380),
        ("out.seed.example", 6380),
    }
    assert sorted(asked) == [("10.0.0.0", 6379), ("10.0.0.1", 6379), ("seed.example", 6379)]
    assert cluster.node_at("10.0.0.1", 6379).host == "out.10.0.0.1"
    with pytest.raises(InvalidOption, match="address_map"):
        parse_shards(reply, ASKED, lambda _: ("localhost", 0))


def test_shard_without_slots() -> None:
    """Members without slots, and their replicas, are known and serve nothing."""
    reply = [
        shard([0, 16383], described(0)),
        shard([], described(1), described(2, role=b"replica")),
    ]
    cluster = parse_shards(reply, ASKED)
    assert [node.id for node in cluster.primaries] == [ID[0].decode()]
    assert [node.id for node in cluster.idle] == [ID[1].decode(), ID[2].decode()]


def test_after_a_failover() -> None:
    """A failed primary beside the new one in a shard (Redis 7.2) does not take its slots."""
    reply = [
        shard(
            [0, 16383],
            described(0, health=b"fail"),
            described(1),
            described(2, role=b"replica", health=b"loading", replication_offset=0),
        )
    ]
    cluster = parse_shards(reply, ASKED)
    assert [node.id for node in cluster.primaries] == [ID[1].decode()]
    assert [(node.id, node.health) for node in cluster.replicas[0]] == [(ID[2].decode(), "loading")]
    assert [(node.id, node.health) for node in cluster.idle] == [(ID[0].decode(), "fail")]


def test_failed_primary_that_nobody_replaced() -> None:
    """It still has its slots: they are not served by anybody else."""
    reply = [shard([0, 16383], described(0, health=b"fail"), described(1, role=b"replica"))]
    cluster = parse_shards(reply, ASKED)
    assert [(node.id, node.health) for node in cluster.primaries] == [(ID[0].decode(), "fail")]


@pytest.mark.parametrize(
    "nodes",
    [
        [described(0), described(1)],
        [described(0, health=b"fail"), described(1, health=b"fail")],
        [described(0, role=b"replica")],
        [],
    ],
    ids=["two", "two-failed", "replica", "nobody"],
)
def test_slots_of_a_shard_without_one_primary(nodes) -> None:
    """Slots whose primary cannot be told are an error, and none where there are no slots."""
    with pytest.raises(ValueError, match=r"slots 0 to 5 .* primaries"):
        parse_shards([shard([0, 5], *nodes)], ASKED)
    assert len(parse_shards([shard([], *nodes)], ASKED).idle) == len(nodes)


def test_node_without_a_port() -> None:
    """A node that nobody can reach is left out; if it serves slots, that is an error."""
    lost = described(1, port="absent", role=b"replica")
    cluster = parse_shards([shard([0, 16383], described(0), lost)], ASKED)
    assert len(cluster.nodes) == 1
    assert parse_shards([shard([], described(0, port=0))], ASKED).nodes == ()
    with pytest.raises(ValueError, match="no port"):
        parse_shards([shard([0, 16383], described(0, port="absent"))], ASKED)


@pytest.mark.parametrize("health", [b"draining", None, 7, [], "absent"])
def test_unknown_health(health) -> None:
    """A word of a later version is no error; such a node is not read from."""
    cluster = parse_shards([shard([0, 16383], described(0, health=health))], ASKED)
    assert cluster.primaries[0].health == "loading"


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        (None, "CLUSTER SHARDS should be a list"),
        (b"OK", "should be a list"),
        ([b"x"], "a shard should be names"),
        ([{b"nodes": []}], "slots of a shard should be a list"),
        ([{b"slots": []}], "nodes of a shard should be a list"),
        ([shard([1], described(0))], "no pairs"),
        ([shard([0, b"5"], described(0))], "a slot should be a number"),
        ([shard([False, 5], described(0))], "a slot should be a number"),
        ([shard([0, 2**63], described(0))], "from 0 to 16383"),
        ([shard([9, 3], described(0))], "no slots 9 to 3"),
        ([shard([0, 5], described(0)), shard([5, 9], described(1))], "twice"),
        ([shard([0, 5], described(0)), shard([6, 9], described(0))], "more than once"),
        ([shard([0, 5], described(0, role=b"boss"))], "role"),
        ([shard([0, 5], described(0, id=b""))], "id"),
        ([shard([0, 5], described(0, id=b"a b"))], "id"),
        ([shard([0, 5], described(0, id="absent"))], "id"),
        ([shard([0, 5], described(0, port=65536))], "port"),
        ([shard([0, 5], described(0, port=-1))], "port"),
        ([shard([0, 5], described(0, port=b"6379"))], "port"),
        ([shard([0, 5], described(0, endpoint=b"a b"))], "endpoint"),
        ([shard([0, 5], described(0, endpoint=b"a\r\nb"))], "endpoint"),
        ([shard([0, 5], described(0, endpoint=b"a" * 256))], "endpoint"),
        ([shard([0, 5], described(0, endpoint="text"))], "endpoint"),
        ([shard([0, 5], described(0, ip=7))], "ip"),
        ([{b"slots": [], b"nodes": [[b"id"]]}], "a node should be names"),
        ([{b"slots": [], b"nodes": [[[], 1]]}], "a node should be names"),
    ],
)
def test_no_reply_to_shards(reply, complaint) -> None:
    """What cannot be a reply is an error that says what is wrong, and no half map."""
    for form in (reply, resp2(reply)):
        with pytest.raises(ValueError, match=complaint):
            parse_shards(form, ASKED)


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        (None, "CLUSTER SLOTS should be a list"),
        ([[0, 5]], "a range of slots should be a list"),
        ([[0, 5, []]], "a node should be a list"),
        ([[0, 5, [b"h"]]], "a node should be a list"),
        ([[b"0", 5, [b"h", 1]]], "a slot should be a number"),
        ([[0, 5, [b"h", 0]]], "no port"),
        ([[0, 5, [b"h", 1, None]]], "id"),
        ([[0, 5, [b"h", 1, ID[0], b"x"]]], "names with values"),
        ([[0, 5, [b"h", 1]], [3, 9, [b"g", 1]]], "twice"),
        ([[0, 5, [b"h", 1, ID[0]]], [6, 9, [b"g", 1, ID[0]]]], "two addresses"),
        ([[0, 5, [b"h", 1]], [6, 9, [b"g", 1], [b"h", 1]]], "two roles"),
        ([[0, 5, [b"h", 1], [b"h", 1]]], "two roles"),
    ],
)
def test_no_reply_to_slots(reply, complaint) -> None:
    """The same of CLUSTER SLOTS."""
    with pytest.raises(ValueError, match=complaint):
        parse_slots(reply, ASKED)


junk = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.binary(max_size=8),
        st.sampled_from([b"slots", b"nodes", b"id", b"master", b"?", ID[0]]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.binary(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(junk)
def test_junk(reply) -> None:
    """Whatever comes, it is a map or a ValueError."""
    for parse in (parse_shards, parse_slots):
        with suppress(ValueError):
            parse(reply, ASKED)


def spoiled(draw: Any, value: Any) -> Any:
    """A reply in which one part, at whatever depth, is something else."""
    inner = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(inner, list) or not inner or draw(st.integers(0, 5)) == 0:
        return draw(junk)
    at = draw(st.integers(0, len(inner) - 1))
    if isinstance(value, dict):
        name, old = inner[at]
        return {**value, name: spoiled(draw, old)}
    return [*inner[:at], spoiled(draw, inner[at]), *inner[at + 1 :]]


@given(clusters(), st.data())
def test_nearly_right(cluster, data) -> None:
    """A reply with one wrong part gives a whole map or a ValueError."""
    for reply, parse in ((as_shards(cluster), parse_shards), (as_slots(cluster), parse_slots)):
        try:
            found = parse(spoiled(data.draw, reply), ASKED)
        except ValueError:
            continue
        assert all(node.host and 0 < node.port < 65536 for node in found.nodes)
        assert len(found.table) == SLOTS


@pytest.mark.parametrize(
    ("reply", "epoch"),
    [
        (b"cluster_state:ok\r\ncluster_current_epoch:12\r\ncluster_my_epoch:3\r\n", 12),
        (b"cluster_current_epoch:12", 12),
        (b"cluster_state:ok\r\n", 0),
        (b"cluster_current_epoch:\r\n", 0),
        (None, 0),
        (7, 0),
    ],
)
def test_epoch(reply, epoch) -> None:
    """CLUSTER INFO tells the epoch; where it does not, it is 0."""
    assert parse_epoch(reply) == epoch
