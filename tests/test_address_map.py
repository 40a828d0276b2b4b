"""Address maps: what they may be, and what becomes of an announced address."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache import Options
from shardcache.address_map import mapped
from shardcache.errors import InvalidOption


@pytest.mark.parametrize(
    "given_map",
    [
        {"10.0.0.1:6379": "localhost:7000"},
        {("10.0.0.1", 6379): ("localhost", 7000)},
        {"10.0.0.1:6379": ("localhost", 7000)},
        lambda place: ("localhost", 7000) if place == ("10.0.0.1", 6379) else None,
        lambda place: "localhost:7000" if place == ("10.0.0.1", 6379) else None,
    ],
    ids=["texts", "pairs", "both", "function of pairs", "function of texts"],
)
def test_forms(given_map: Any) -> None:
    """Texts, pairs and functions come to the same; what is not mapped stays as announced."""
    address_map = Options(address_map=given_map).address_map
    assert mapped(address_map, "10.0.0.1", 6379) == ("localhost", 7000)
    assert mapped(address_map, "10.0.0.2", 6379) == ("10.0.0.2", 6379)


def test_none() -> None:
    """Without a map every address stays."""
    assert mapped(Options().address_map, "h", 1) == ("h", 1)


def test_ipv6() -> None:
    """In a text an IPv6 address stands in brackets, elsewhere without."""
    assert mapped({"[fd00::1]:6379": "[::1]:7"}, "fd00::1", 6379) == ("::1", 7)
    assert mapped({("fd00::1", 6379): ("::1", 7)}, "fd00::1", 6379) == ("::1", 7)


@pytest.mark.parametrize(
    "wrong",
    [
        "h:1",
        5,
        ["h:1"],
        {"h": "h:1"},
        {"h:1": "h"},
        {"h:1": "h:0"},
        {"h:1": "h:65536"},
        {"h:1": ":1"},
        {"::1": "h:1"},
        {"h:1": ("h", "1")},
        {"h:1": ("h", True)},
        {"h:1": ("h", 1, 2)},
        {"h:1": None},
        {5: "h:1"},
    ],
)
def test_refused(wrong: Any) -> None:
    """What is no map of addresses is refused when the options are made."""
    with pytest.raises(InvalidOption, match=r"address_map (must )?be|of address_map must be"):
        Options(address_map=wrong)


def test_function_that_answers_no_address() -> None:
    """What a function answers is checked too."""
    with pytest.raises(InvalidOption, match=r"of address_map must be .* got 5"):
        mapped(lambda place: 5, "h", 1)


@given(st.text(), st.text())
def test_any_texts(announced: str, reached: str) -> None:
    """Any texts are taken for addresses or refused by the library's own error."""
    try:
        options = Options(address_map={announced: reached})
    except InvalidOption:
        return
    assert options.address_map == {announced: reached}
