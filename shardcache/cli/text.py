"""Plain text for a terminal, a pipe or a file: lines, columns and bars, without control characters."""

import sys
from collections.abc import Iterable, Sequence

__all__ = ("bar", "columns", "printable", "say")

WIDTH = 30  # cells of a full bar
EIGHTHS = " ▏▎▍▌▋▊▉█"


def say(text: str = "") -> None:
    """Print a line; what the terminal's encoding cannot show is escaped, never an error."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))


def printable(text: str) -> str:
    """Return ``text`` with everything escaped that a terminal would act on: for what others wrote."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def bar(share: float, full: float = 1.0, *, blocks: bool | None = None) -> str:
    """Return a bar for ``share``, as wide as 30 cells at ``full``: blocks where the output can show them."""
    cells = WIDTH * min(max(share / full, 0.0), 1.0)
    if not (_shows_blocks() if blocks is None else blocks):
        return "#" * round(cells)
    eighths = round(cells * 8)
    return (EIGHTHS[-1] * (eighths // 8) + EIGHTHS[eighths % 8]).rstrip()


def columns(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the rows as lines with aligned columns."""
    table = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]


def _shows_blocks() -> bool:
    try:
        EIGHTHS.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
