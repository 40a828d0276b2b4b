"""Headers that are lists are read as RFC 9110 and 9111 say, whatever bytes come."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.contrib.starlette.header_lists import directives, entity_tags, seconds, tokens


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([], {}),
        ([b"max-age=60"], {"max-age": "60"}),
        ([b'Public , MAX-AGE="60"'], {"public": None, "max-age": "60"}),
        ([b"public", b"max-age=5"], {"public": None, "max-age": "5"}),
        ([b'private="a, max-age=9", max-age=1'], {"private": "a, max-age=9", "max-age": "1"}),
        ([rb'x="a\"b, no-store"'], {"x": 'a"b, no-store'}),
        ([b",, public ,"], {"public": None}),
        ([b"max-age=1, max-age=1"], {"max-age": "1"}),
        ([b"max-age=1, max-age=2"], None),
        ([b"max-age"], {"max-age": None}),
        ([b'private="a'], None),
        ([b"max age=1"], None),
        ([b"max-age=1;public"], None),
    ],
)
def test_directives(values: list[bytes], found: Any) -> None:
    """Quoted texts, case, empty elements, several headers; None for what is no list."""
    assert directives(values) == found


NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True)


@given(st.dictionaries(NAMES, st.none() | st.text('abc ,="\\\t', max_size=8)))
def test_directives_come_back(said: dict[str, str | None]) -> None:
    """What is written by the rules is read as it was meant."""
    parts = []
    for name, value in said.items():
        quoted = None if value is None else value.replace("\\", "\\\\").replace('"', '\\"')
        parts.append(name if quoted is None else f'{name}="{quoted}"')
    assert directives([", ".join(parts).encode()]) == said


@given(st.lists(st.binary(max_size=60), max_size=3))
def test_any_bytes(values: list[bytes]) -> None:
    """No bytes are an error, or take long."""
    directives(values)
    entity_tags(values)
    tokens(values)


@pytest.mark.parametrize(
    ("value", "number"),
    [("60", 60), ("0", 0), ("-1", 0), ("1.5", 0), ("", 0), (None, 0), ("٣", 0)],
)
def test_seconds(value: str | None, number: int) -> None:
    """A number is a number; all else is no time at all."""
    assert seconds(value) == number


def test_more_than_a_year() -> None:
    """However many digits: a year."""
    assert seconds("9" * 10_000) == 365 * 24 * 3600


def test_entity_tags() -> None:
    """Weak and strong tags, several headers, the star; what cannot be read ends a list."""
    assert entity_tags([b'"a", W/"b,c"', b'"d"']) == {'"a"', '"b,c"', '"d"'}
    assert entity_tags([b" * "]) == {"*"}
    assert entity_tags([b'"a", b, "c"']) == {'"a"'}
    assert entity_tags([b"", b'W/""']) == {'""'}


def test_tokens() -> None:
    """Names are lower case and sorted; what is no name makes the list none."""
    assert tokens([b"Cookie, Accept", b"accept"]) == ["accept", "cookie"]
    assert tokens([b"*"]) == ["*"]
    assert tokens([b"a b"]) is None
