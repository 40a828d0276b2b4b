"""Bars and columns."""

import io
import sys

import pytest

from shardcache.cli.text import bar, bars, columns, paint


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
    assert (columns([]), bars([])) == ([], [])


@pytest.mark.parametrize("room", [12, 20, 40, 80, 200])
def test_bars_fit_the_room(room):
    """No line is longer than there is space for; bars keep their ratio."""
    lines = bars([(("cache-1", "x1"), 1.0), (("c", "x1"), 0.5)], room)
    assert max(map(len, lines)) <= room
    widths = [len(line.partition("x1")[2].strip()) for line in lines]
    assert widths == {12: [0, 0], 20: [7, 4], 40: [27, 14], 80: [30, 15], 200: [30, 15]}[room]


def test_bars_in_a_terminal(monkeypatch):
    """Without a given room the terminal's width counts, as COLUMNS says it."""
    monkeypatch.setenv("COLUMNS", "20")
    assert [len(line) for line in bars([(("cache-1", "x1"), 1.0)])] == [20]


@pytest.mark.parametrize(
    ("environ", "terminal", "painted"),
    [
        ({}, False, "out"),
        ({}, True, "\x1b[31mout\x1b[0m"),
        ({"NO_COLOR": "1"}, True, "out"),
        ({"FORCE_COLOR": "1"}, False, "\x1b[31mout\x1b[0m"),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, "out"),
        ({"TERM": "dumb"}, True, "out"),
    ],
)
def test_colour(environ, terminal, painted, monkeypatch):
    """Colour is for terminals that show it, and NO_COLOR and FORCE_COLOR decide before that."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    stdout = io.StringIO()
    stdout.isatty = lambda: terminal
    monkeypatch.setattr(sys, "stdout", stdout)
    assert paint("out", "bad") == painted


def test_colours_take_no_room():
    """Columns are aligned by what is seen."""
    assert columns([("\x1b[31ma\x1b[0m", "1"), ("long", "2")]) == [
        "\x1b[31ma\x1b[0m     1",
        "long  2",
    ]
