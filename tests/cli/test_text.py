"""Bars and columns."""

import pytest

from shardcache.cli.text import bar, columns


@pytest.mark.parametrize(
    ("share", "full", "blocks", "expected"),
    [
        (1.0, 1.0, True, "█" * 30),
        (0.5, 1.0, True, "█" * 15),
        (0.25, 0.5, True, "█" * 15),
        (1 / 240, 1.0, True, "▏"),
        (0.0, 1.0, True, ""),
        (2.0, 1.0, True, "█" * 30),
        (0.5, 1.0, False, "#" * 15),
    ],
)
def test_bar(share, full, blocks, expected):
    """A bar is as long as its share of the fullest, to an eighth of a cell."""
    assert bar(share, full, blocks=blocks) == expected


def test_columns():
    """Columns are aligned, and lines end without spaces."""
    assert columns([("a", "1", ""), ("long", "22", "x")]) == ["a     1", "long  22  x"]


def test_no_rows():
    """Nothing is no lines."""
    assert columns([]) == []
