"""Long keys: what is shortened, what stays, and that no two calls share a key for it."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.key_templates import DefaultKey, KeyTemplate
from shardcache.key_templates.short_key import LONGEST, ShortKey, shortened
from shardcache.keys import MAX_KEY, KeySpace, hash_tag

LONG = st.tuples(
    st.text(max_size=50), st.integers(LONGEST // 4, LONGEST + 10), st.text(max_size=50)
).map(lambda parts: parts[0] + "x" * parts[1] + parts[2])


def load(text: str, number: int = 0) -> None: ...


def test_short_keys_stay() -> None:
    """Up to the limit a key is what the template makes of the arguments."""
    key = ShortKey(KeyTemplate("page:{text}:{number}", load))
    assert key("a") == "page:a:0"
    assert key("x" * (LONGEST - 7)) == f"page:{'x' * (LONGEST - 7)}:0"


@pytest.mark.parametrize(
    "make",
    [KeyTemplate("page:{text}:{number}", load), DefaultKey(load)],
    ids=["template", "default"],
)
def test_long_keys(make) -> None:
    """A longer one is its first 200 characters and a digest of all, the same in every process."""
    key, text = ShortKey(make), "x" * MAX_KEY
    whole = make(text, 1)
    assert key(text, 1) == f"{whole[:200]}sha256:{hashlib.sha256(whole.encode()).hexdigest()}"
    assert len({key(text, 1), key(text, 2), key(text + "x", 1)}) == 3


def test_vector() -> None:
    """What is stored under a shortened key is found by every later version."""
    assert shortened("k" * 40_000) == "k" * 200 + "sha256:" + (
        "dc38936f0a46a179d2348f37e9c069d9b36bd368297a2665c48a85bcb32908e5"
    )


def test_the_hash_tag_stays() -> None:
    """A key with a hash tag stays on the tag's shard."""
    key = ShortKey(KeyTemplate("{{user:{number}}}:{text}", load))
    long = key("x" * MAX_KEY, 7)
    assert (long.startswith("{user:7}sha256:"), hash_tag(long.encode())) == (True, b"user:7")


@given(LONG)
def test_every_text(text: str) -> None:
    """Any text becomes a valid key under the longest namespace, with its tag if that is short."""
    found = shortened(text)
    wire = KeySpace("n" * (LONGEST - 1)).wire(found)
    assert len(wire) <= MAX_KEY
    tag, whole = hash_tag(text.encode()), text.encode()
    if found != text:
        expected = tag if tag != whole and len(tag) <= LONGEST // 2 else found.encode()
        assert hash_tag(found.encode()) == expected


def test_text_that_is_no_key() -> None:
    """What UTF-8 cannot encode is left to be refused where keys are."""
    assert shortened("\ud800" * LONGEST) == "\ud800" * LONGEST
