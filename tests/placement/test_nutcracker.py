"""`KetamaRing` against a running twemproxy, key by key."""

import random
from itertools import pairwise

import pytest

from shardcache.placement import KetamaRing, Node
from shardcache.placement.key_hashes import KEY_HASHES

EQUAL = {"alpha": 1, "beta": 1, "gamma": 1, "delta": 1, "epsilon": 1}
UNEQUAL = {"alpha": 1, "beta": 1, "gamma": 2, "delta": 3, "epsilon": 7}
MANY = {f"cache-{number}": 1 + number * number % 13 for number in range(43)}
PLAIN = {f"cache-{number}": 1 for number in range(47)}
LONG = {"n" * 81 + str(number): 1 for number in range(2)}
# Pairs of these have a point in common: with names as long as each other, and not.
TWINS = (
    {"cache-712": 1, "cache-590": 1},
    {"cache-2092": 1, "cache-974": 1},
    {"cache-1546": 1, "cache-43": 1},
)

POOLS = [
    pytest.param(nodes, key_hash, None, id=f"{shape}, {key_hash}")
    for key_hash in KEY_HASHES
    for shape, nodes in (("equal", EQUAL), ("unequal", UNEQUAL))
] + [
    pytest.param(EQUAL, "md5", "{}", id="tag {}"),
    pytest.param(UNEQUAL, "fnv1a_64", "{}", id="tag {}, unequal"),
    pytest.param(UNEQUAL, "fnv1a_64", "$$", id="tag $$"),
    pytest.param(MANY, "md5", None, id="many, unequal"),
    pytest.param(PLAIN, "md5", None, id="many, equal"),
    pytest.param({"light": 1, "heavy": 1000}, "md5", None, id="one without points"),
    pytest.param({"b": 3, "aa": 2, "größe": 2}, "md5", None, id="names of different lengths"),
    pytest.param(LONG, "md5", None, id="longest names"),
]


def keys(seed):
    """Return 3,000 keys: plain, with tags of both kinds, empty and broken ones, of any bytes."""
    chance = random.Random(seed)
    parts = [b"{", b"}", b"$", b"user", b"a", b"\xff", b"\x80", b"7"]
    found = {b"user:%d" % number for number in range(1000)}
    while len(found) < 2000:
        found.add(b"".join(chance.choices(parts, k=chance.randint(1, 9))))
    while len(found) < 3000:
        found.add(chance.randbytes(chance.randint(1, 40)))
    return sorted(found)


@pytest.mark.parametrize(("nodes", "key_hash", "hash_tag"), POOLS)
def test_every_key_is_where_twemproxy_puts_it(proxy, nodes, key_hash, hash_tag):
    """No key is missed after moving over, whatever the hash, the weights and the tags."""
    options = {"hash": key_hash} | ({"hash_tag": f'"{hash_tag}"'} if hash_tag else {})
    wanted = keys(key_hash)
    landed = proxy.owners(wanted, [f"{weight} {name}" for name, weight in nodes.items()], options)
    ring = KetamaRing(nodes, key_hash=key_hash, hash_tag=hash_tag)
    port_of = {name: proxy.ports[at % len(proxy.ports)] for at, name in enumerate(nodes)}
    assert [port_of[ring.owner(key)] for key in wanted] == landed


def test_servers_without_a_name_are_called_host_and_port(proxy):
    """The usual configuration: no names, and the weight is no part of what is hashed."""
    wanted = keys(1)
    landed = proxy.owners(wanted, ["1", "4", "2"], {"hash": "fnv1a_64"})
    ring = KetamaRing(
        [
            Node(f"127.0.0.1:{port}", weight)
            for port, weight in zip(proxy.ports, (1, 4, 2), strict=False)
        ]
    )
    assert [ring.owner(key) for key in wanted] == [f"127.0.0.1:{port}" for port in landed]


@pytest.mark.parametrize("nodes", TWINS, ids=" and ".join)
def test_equal_points_belong_to_the_same_server(proxy, nodes):
    """Two servers with a point in common: the one of the shorter, then the smaller name has it."""
    ring = KetamaRing(nodes, key_hash="md5")
    [at] = [at for at, (end, after) in enumerate(pairwise(ring._ends)) if end == after]
    before, end = ring._ends[at - 1], ring._ends[at]
    found = (
        key for key in map(b"%d".__mod__, range(5_000_000)) if before < ring._position(key) <= end
    )
    wanted = [next(found) for _ in range(5)]
    landed = proxy.owners(
        wanted, [f"{weight} {name}" for name, weight in nodes.items()], {"hash": "md5"}
    )
    port_of = dict(zip(nodes, proxy.ports, strict=False))
    assert [port_of[ring.owner(key)] for key in wanted] == landed
