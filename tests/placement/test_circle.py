"""The contract that both rings keep."""

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.errors import InvalidKey, InvalidNode, InvalidOption
from shardcache.placement import HashRing, KetamaRing, Moves, Node

RINGS = {
    "hash": lambda nodes: HashRing(nodes, vnodes=64),
    "ketama": lambda nodes: KetamaRing(nodes, key_hash="md5", hash_tag="{}"),
}
rings = pytest.mark.parametrize("make", RINGS.values(), ids=list(RINGS))
KEYS = [f"user:{number}" for number in range(2000)]
names = st.lists(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=12),
    min_size=1,
    max_size=6,
    unique=True,
)
keys = st.text(st.characters()) | st.binary()  # lone surrogates too


@rings
@pytest.mark.parametrize(
    "nodes",
    [["b", "a"], ("a", Node("b")), {"a": 1, "b": 1.0}, {"b", "a"}],
    ids=["list", "mixed", "mapping", "set"],
)
def test_nodes_may_come_in_any_form_and_order(make, nodes):
    """The order and form in which nodes are given decide nothing."""
    ring = make(nodes)
    assert ring.nodes == (Node("a"), Node("b"))
    assert ring.names == ("a", "b")
    assert len(ring) == 2
    assert ring == make(iter(["a", "b"]))


@rings
@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        ([], "1 to 65535 nodes, got 0"),
        ({}, "1 to 65535 nodes, got 0"),
        (["a", "b", "a"], "different names, got 'a' 2 times"),
        ([Node("a"), "a"], "different names, got 'a' 2 times"),
        ("ab", "nodes must be an iterable"),
        (b"ab", "nodes must be an iterable"),
        (None, "nodes must be an iterable"),
        (7, "nodes must be an iterable"),
        ([7], "name must be a non-empty str, got 7"),
        ([""], "name must be a non-empty str"),
        ({"a": 0}, "above 0"),
        ({"a": -1}, "above 0"),
        ({"a": float("nan")}, "above 0"),
        ({"a": float("inf")}, "at most 1000"),
        ({"a": "redis://h"}, "weight must be a number"),
        ({"a": True}, "weight must be a number"),
    ],
    ids=repr,
)
def test_nodes_that_no_ring_can_hold_are_refused(make, nodes, says):
    """The message says what was wrong and what came."""
    with pytest.raises(InvalidNode, match=says):
        make(nodes)


@rings
def test_more_nodes_than_an_index_can_count_are_refused(make):
    """65535 nodes is the limit of the sequence of points."""
    with pytest.raises(InvalidNode, match="got 65536"):
        make([str(number) for number in range(65536)])


@rings
@pytest.mark.parametrize(
    "key", [1, None, bytearray(b"a"), ["a"]], ids=["int", "none", "bytearray", "list"]
)
def test_key_of_another_type_is_refused(make, key):
    """A key is str or bytes, nothing is converted behind the caller's back."""
    with pytest.raises(InvalidKey, match="must be str or bytes"):
        make(["a"]).owner(key)
    with pytest.raises(InvalidKey, match="must be str or bytes"):
        make(["a"]).owners(key, 1)


@rings
@given(names=names, key=keys, n=st.integers(1, 8))
def test_any_key_has_distinct_owners(make, names, key, n):
    """Any text or bytes, the empty key and lone surrogates too, has an owner, which is first."""
    ring = make(names)
    owners = ring.owners(key, n)
    assert owners[0] == ring.owner(key)
    assert len(owners) == len(set(owners)) == min(n, len(names))
    assert set(owners) <= set(names)


@rings
@given(names=names, keys=st.lists(keys, max_size=8))
def test_one_key_and_many_keys_agree(make, names, keys):
    """The batch is the single look-up, tags among the keys or not."""
    ring = make(names)
    raws = [key if isinstance(key, bytes) else key.encode("utf-8", "surrogatepass") for key in keys]
    indexes = ring.owner_indexes(raws)
    assert indexes == [ring.owner_index(raw) for raw in raws]
    assert [ring.nodes[index].name for index in indexes] == [ring.owner(key) for key in keys]


@rings
@pytest.mark.parametrize("n", [0, -1, 1.0, True, None, "2"])
def test_number_of_owners_must_be_a_positive_whole_number(make, n):
    """Zero owners is a question without a meaning."""
    with pytest.raises(InvalidOption, match="n must be a whole number from 1"):
        make(["a", "b"]).owners("key", n)


@rings
def test_text_and_its_bytes_are_one_key(make):
    """A str is placed as its UTF-8."""
    ring = make(["a", "b", "c"])
    assert [ring.owner(key) for key in KEYS] == [ring.owner(key.encode()) for key in KEYS]
    assert ring.owner("größe") == ring.owner("größe".encode())
    assert [ring.owner(f"\ud800{key}") for key in KEYS] == [
        ring.owner(b"\xed\xa0\x80" + key.encode()) for key in KEYS
    ]


@rings
@pytest.mark.parametrize("key", ["{user:7}.name", "x{user:7}", "{user:7}{other}", "a{user:7}}"])
def test_tag_alone_is_placed(make, key):
    """Keys with the same first tag share an owner, whichever way they are asked for."""
    ring = make([str(number) for number in range(20)])
    assert ring.owners(key, 3) == ring.owners("user:7", 3)
    assert ring.owner_indexes([b"other", key.encode()])[1] == ring.owner_index(b"user:7")


@rings
def test_second_owner_takes_over_when_the_first_leaves(make):
    """Successors are what the ring without the owner says."""
    ring = make(["a", "b", "c", "d"])
    smaller = {name: ring.without_node(name) for name in ring.names}
    assert [smaller[ring.owner(key)].owner(key) for key in KEYS] == [
        ring.owners(key, 2)[1] for key in KEYS
    ]


@rings
def test_shares_are_exact_and_make_a_whole(make):
    """Shares are multiples of one position on the circle, and nothing is lost between them."""
    ring = make(["a", "b", "c"])
    shares = ring.shares()
    assert list(shares) == ["a", "b", "c"]
    assert sum(shares.values()) == 1
    assert all((share * ring.size).is_integer() and share > 0 for share in shares.values())


@rings
def test_shares_are_what_keys_find(make):
    """Of many keys, each node gets about its share."""
    ring = make(["a", "b", "c"])
    owners = [ring.owner(f"{number}:{number * 7919}") for number in range(20_000)]
    for name, share in ring.shares().items():
        assert owners.count(name) / len(owners) == pytest.approx(share, abs=0.02)


@rings
def test_moves_balance_the_shares(make):
    """What a node gains less what it loses is the difference of its shares, exactly."""
    old, new = make({"a": 1, "b": 2, "c": 1}), make({"b": 1, "c": 1, "d": 3})
    moved, before, after = old.moved(new), old.shares(), new.shares()
    for name in "abcd":
        gained = sum(share for (_, target), share in moved.items() if target == name)
        lost = sum(share for (source, _), share in moved.items() if source == name)
        assert gained - lost == after.get(name, 0) - before.get(name, 0)
    assert moved.total == sum(moved.values())
    assert ("a", "a") not in moved
    assert dict(new.moved(old)) == {
        (target, source): share for (source, target), share in moved.items()
    }


@rings
def test_moves_are_what_keys_do(make):
    """The share that is said to move is the share of keys that do."""
    old, new = make(["a", "b", "c"]), make(["a", "b", "c", "d"])
    moves = [(old.owner(key), new.owner(key)) for key in KEYS if old.owner(key) != new.owner(key)]
    assert set(moves) <= set(old.moved(new))
    assert len(moves) / len(KEYS) == pytest.approx(old.moved(new).total, abs=0.05)


@rings
def test_nothing_moves_between_equal_rings(make):
    """An address is no part of the placement."""
    moved = make(["a", "b"]).moved(make([Node("a", url="redis://10.0.0.1"), "b"]))
    assert moved == {}
    assert moved.total == 0
    assert str(moved) == "0.00% of the keys change hands"


@rings
@pytest.mark.parametrize(
    "other", [None, "a", HashRing(["a"], vnodes=1), KetamaRing(["a"], key_hash="murmur")], ids=repr
)
def test_rings_that_hash_keys_otherwise_cannot_be_compared(make, other):
    """Shares of different key spaces have nothing in common."""
    ring = make(["a"])
    if isinstance(other, HashRing) and isinstance(ring, HashRing):
        assert ring.moved(other).total == 0
    else:
        with pytest.raises(InvalidOption, match="hashes keys alike"):
            ring.moved(other)


def test_moves_print_as_a_table():
    """A person reads who gives to whom."""
    moves = Moves({("b", "c"): 0.25, ("a", "c"): 0.125})
    assert str(moves) == "37.50% of the keys change hands\n  a -> c: 12.50%\n  b -> c: 25.00%"
    assert repr(moves) == "Moves({('a', 'c'): 0.125, ('b', 'c'): 0.25})"


@rings
def test_node_is_added_and_changed_by_name_or_object(make):
    """A name keeps what is known of its node; an object takes its place."""
    ring = make([Node("a", 2, url="redis://one"), Node("b")])
    assert ring.with_node("c").nodes == (*ring.nodes, Node("c"))
    assert ring.with_node("c", weight=3).nodes[2] == Node("c", 3)
    assert ring.with_node("a").nodes == ring.nodes
    assert ring.with_node("a", weight=5).nodes[0] == Node("a", 5, url="redis://one")
    assert ring.with_node(Node("a")).nodes[0] == Node("a")
    assert ring.with_node(Node("a"), weight=4).nodes[0] == Node("a", 4)
    assert ring.without_node("a").nodes == (Node("b"),)
    assert ring.with_node("c").without_node("c") == ring


@rings
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda ring: ring.without_node("c"), "no node is called 'c'; there are 'a', 'b'"),
        (lambda ring: ring.without_node("a").without_node("b"), "got 0"),
        (lambda ring: ring.with_node(""), "non-empty str"),
        (lambda ring: ring.with_node(["c"]), "must be a Node or a name"),
        (lambda ring: ring.with_node("a", weight=0), "above 0"),
        (lambda ring: ring.with_node("a", weight="2"), "must be a number"),
    ],
    ids=["unknown", "last", "empty", "list", "zero", "text"],
)
def test_impossible_changes_are_refused(make, change, says):
    """The message says what is on the ring, or what is allowed."""
    with pytest.raises(InvalidNode, match=says):
        change(make(["a", "b"]))


@rings
def test_settings_survive_a_change_of_nodes(make):
    """A ring made from a ring hashes and scatters as that one does."""
    ring = make(["a", "b"])
    assert ring.with_node("c").without_node("c") == ring
    assert KetamaRing(["a", "b"], key_hash="md5").with_node("c").key_hash == "md5"
    assert HashRing(["a"], vnodes=7).with_node("b").vnodes == 7


@rings
def test_rings_of_equal_content_are_equal(make):
    """A ring may be a key of a dict."""
    ring = make({"a": 1, "b": 2})
    assert {ring: "x"}[make({"b": 2.0, "a": 1.0})] == "x"
    assert ring != make({"a": 2, "b": 1})
    assert ring != make({"a": 1, "b": 2, "c": 1})
    assert ring != "ring"
    assert HashRing(["a"]) != KetamaRing(["a"])
    assert HashRing(["a"]) != HashRing(["a"], vnodes=2)
    assert KetamaRing(["a"]) != KetamaRing(["a"], key_hash="md5")


@rings
def test_copies_answer_alike(make):
    """A ring travels to other processes, and a copy is the ring itself."""
    ring = make({"a": 1, "b": 3})
    assert copy.copy(ring) is ring
    assert copy.deepcopy({"ring": ring})["ring"] is ring
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        travelled = pickle.loads(pickle.dumps(ring, protocol))
        assert travelled == ring
        assert hash(travelled) == hash(ring)
        assert [travelled.owner(key) for key in KEYS] == [ring.owner(key) for key in KEYS]
    assert len(pickle.dumps(ring)) < 400


@rings
def test_ring_cannot_be_changed(make):
    """Neither what it shows nor what it keeps can be set, deleted or added."""
    ring = make(["a"])
    for name in ("nodes", "names", "_seq", "other"):
        with pytest.raises(AttributeError, match="cannot be changed"):
            setattr(ring, name, ())
    with pytest.raises(AttributeError, match="cannot be changed"):
        del ring.nodes
    assert ring.owner("key") == "a"


@rings
def test_repr_shows_nodes_without_credentials(make):
    """What a log shows of a ring makes it again, but for the secrets."""
    assert "secret" not in repr(make([Node("a", url="redis://me:secret@host")]))
    ring = make({"a": 2, "b": 1})
    assert eval(repr(ring)) == ring  # noqa: S307  our own text
