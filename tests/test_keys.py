"""Keys: checked, prefixed, and hashed by their tag as Redis Cluster does."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shardcache.errors import InvalidKey, InvalidOption
from shardcache.keys import MAX_KEY, KeySpace, distinct, hash_tag


@pytest.mark.parametrize(
    ("key", "tag"),
    [
        (b"{user1000}.following", b"user1000"),
        (b"foo{}{bar}", b"foo{}{bar}"),
        (b"foo{{bar}}zap", b"{bar"),
        (b"foo{bar}{zap}", b"bar"),
        (b"{}x", b"{}x"),
        (b"a{b", b"a{b"),
        (b"a}b{c}", b"c"),
        (b"plain", b"plain"),
    ],
)
def test_hash_tag_by_the_cluster_specification(key: bytes, tag: bytes) -> None:
    """The examples of the Redis Cluster specification, and their neighbours."""
    assert hash_tag(key) == tag


def test_namespace_is_put_before() -> None:
    """A namespace and a colon come before every key, str or bytes."""
    space = KeySpace("shop")
    assert [space.wire("a"), space.wire(b"\xff"), space.wire("ü")] == [
        b"shop:a",
        b"shop:\xff",
        b"shop:\xc3\xbc",
    ]
    assert KeySpace().wire("a") == b"a"


@given(
    st.one_of(
        st.lists(st.one_of(st.text(), st.binary()), max_size=20),
        st.lists(st.text("a\0:n@", max_size=3), max_size=6),
    ),
    st.sampled_from(["", "n", "a\0b", "ü"]),
)
def test_many_is_one_by_one(keys: list[str | bytes], namespace: str) -> None:
    """The quick form for many keys answers and refuses exactly as the form for one."""
    space = KeySpace(namespace)

    def one_by_one() -> list[bytes] | str:
        try:
            return [space.wire(key) for key in keys]
        except InvalidKey as error:
            return str(error)

    try:
        many: list[bytes] | str = space.wire_many(keys)
    except InvalidKey as error:
        many = str(error)
    assert many == one_by_one()


@given(st.one_of(st.text(alphabet=st.characters(codec="utf-8"), min_size=1), st.binary(min_size=1)))
def test_user_form_finds_the_same_key(key: str | bytes) -> None:
    """The form that scan yields leads back to the same stored bytes."""
    assume("@shardcache:" not in key if isinstance(key, str) else b"@shardcache:" not in key)
    space = KeySpace("n")
    wire = space.wire(key)
    assert space.wire(space.user(wire)) == wire
    if isinstance(key, str):
        assert space.user(wire) == key


@pytest.mark.parametrize(
    "key",
    ["", b"", "x" * MAX_KEY, b"x" * MAX_KEY, "\ud800", None, 1, 1.5, ["a"], bytearray(b"a")],
    ids=[
        "empty",
        "empty bytes",
        "long",
        "long bytes",
        "surrogate",
        "None",
        "int",
        "float",
        "list",
        "bytearray",
    ],
)
def test_refused(key: object) -> None:
    """An empty, too long, unencodable or wrongly typed key is refused, alone and among others."""
    space = KeySpace("n")
    with pytest.raises(InvalidKey, match="key"):
        space.wire(key)  # type: ignore[arg-type]
    with pytest.raises(InvalidKey, match="key"):
        space.wire_many(["good", key])  # type: ignore[list-item]


def test_encode_method_does_not_make_a_key() -> None:
    """An object that merely has an encode method is no key."""

    class Sly:
        def encode(self) -> bytes:
            return b"sly"

    with pytest.raises(InvalidKey, match="str or bytes"):
        KeySpace().wire_many([Sly()])  # type: ignore[list-item]


def test_longest_key_is_taken() -> None:
    """64 KiB with the namespace is the limit, inclusive."""
    assert len(KeySpace("n").wire("x" * (MAX_KEY - 2))) == MAX_KEY


@pytest.mark.parametrize("key", ["@shardcache:lock:{a}", b"x@shardcache:y", "@shardcache:"])
@pytest.mark.parametrize("namespace", ["", "n"])
def test_the_librarys_own_keys_are_refused(namespace: str, key: str | bytes) -> None:
    """No caller's key can be one of the library's own, of its namespace or of one within it."""
    space = KeySpace(namespace)
    for refused in (
        lambda: space.wire(key),
        lambda: space.wire_many(["good", key]),
        lambda: space.wire_many([key]),
    ):
        with pytest.raises(InvalidKey, match="must not contain '@shardcache:'"):
            refused()


def test_a_mark_across_two_keys_is_none() -> None:
    """Keys that would make up the library's mark only together are keys like others."""
    assert KeySpace().wire_many(["a@shard", "cache:b"]) == [b"a@shard", b"cache:b"]
    assert KeySpace("n").wire_many(["shardcache:b", "@shardcache"]) == [
        b"n:shardcache:b",
        b"n:@shardcache",
    ]


@pytest.mark.parametrize(
    "namespace",
    [
        "a{b",
        "}",
        1,
        None,
        "\ud800",
        "x" * MAX_KEY,
        "@shardcache",
        "a:@shardcache:b",
        "x@shardcache",
    ],
)
def test_namespace_refused(namespace: object) -> None:
    """A namespace with braces, or with the library's mark, is refused."""
    with pytest.raises(InvalidOption, match="namespace"):
        KeySpace(namespace)  # type: ignore[arg-type]


def test_distinct_keeps_order() -> None:
    """Repeated keys are asked for once."""
    assert distinct(["b", "a", "b", b"b"]) == ["b", "a", b"b"]


@pytest.mark.parametrize("keys", ["abc", b"xyz", 5, None, [["a"]]])
def test_distinct_refuses(keys: object) -> None:
    """A lone key where several are meant would be taken letter by letter."""
    with pytest.raises(InvalidKey, match="key"):
        distinct(keys)  # type: ignore[arg-type]
