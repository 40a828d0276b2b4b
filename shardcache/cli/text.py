"""Plain text for a terminal, a pipe or a file: lines, columns, bars and colours."""

import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Literal

__all__ = ("bar", "bars", "columns", "key_text", "paint", "printable", "say", "width")

FULL = 30  # cells of a full bar, where there is room
LEAST = 5  # cells below which a bar says nothing
EIGHTHS = " ▏▎▍▌▋▊▉█"
PIPE_WIDTH = 200  # cells of a line that no terminal shows
COLOURS = {"good": "32", "warn": "33", "bad": "31", "faint": "2", "strong": "1"}
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")

Colour = Literal["good", "warn", "bad", "faint", "strong"]


def say(text: str = "") -> None:
    """Print a line; what the terminal's encoding cannot show is escaped, never an error."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def printable(text: str) -> str:
    """Return ``text`` with control characters escaped: text of others must not steer a terminal."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def key_text(key: str | bytes) -> str:
    """Return a key as text; bytes that are no UTF-8 are escaped."""
    return key if isinstance(key, str) else key.decode("utf-8", "backslashreplace")


def paint(text: str, colour: Colour) -> str:
    """Return ``text`` in a colour, if standard output is a terminal that shows colours.

    The environment decides first: NO_COLOR (no-color.org) turns colour off, FORCE_COLOR on.
    """
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if _coloured() else text


def width() -> int:
    """Return the cells of a line: COLUMNS if it is set, else the terminal's, else `PIPE_WIDTH`."""
    return shutil.get_terminal_size((PIPE_WIDTH, 24)).columns


def bar(share: float, full: float = 1.0, *, cells: int = FULL, blocks: bool | None = None) -> str:
    """Return a bar.

    ``share``: the value that the bar shows.
    ``full``: the value at which the bar is full.
    ``cells``: the width of a full bar.
    ``blocks``: whether to draw block characters; None draws them if the output can show them.
    """
    length = cells * min(max(share / full, 0.0), 1.0)
    if not (_shows(EIGHTHS) if blocks is None else blocks):
        return "#" * round(length)
    eighths = round(length * 8)
    return (EIGHTHS[-1] * (eighths // 8) + EIGHTHS[eighths % 8]).rstrip()


def bars(rows: Iterable[tuple[Sequence[str], float]], room: int | None = None) -> list[str]:
    """Return rows as lines of aligned columns, with a bar at the end of each.

    ``rows``: for each line its cells, and the value of its bar; the largest value has a full bar.
    ``room``: cells of a line, by default `width`. If fewer than `LEAST` are left, there is no bar.
    """
    table = list(rows)
    lines = columns(cells for cells, _ in table)
    start = max(map(_cells, lines), default=0) + 2
    cells = min(FULL, (width() if room is None else room) - start)
    if cells < LEAST:
        return lines
    full = max((share for _, share in table), default=0.0) or 1.0
    drawn = (bar(share, full, cells=cells) for _, share in table)
    return [f"{_padded(line, start)}{one}".rstrip() for line, one in zip(lines, drawn, strict=True)]


def columns(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the rows as lines with aligned columns; colours take no room."""
    table = [tuple(row) for row in rows]
    widths = [max(map(_cells, column)) for column in zip(*table, strict=True)]
    return ["  ".join(map(_padded, row, widths)).rstrip() for row in table]


def _padded(cell: str, cells: int) -> str:
    return cell + " " * (cells - _cells(cell))


def _cells(text: str) -> int:
    return len(_ESCAPES.sub("", text))


def _coloured() -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def _shows(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
