"""Say again, at the end of a run, which tests failed and why.

Reads what tox printed. A log of which only the end is kept, as many are, still names the tests.
Of each failure: the lines of its error, and the last that it printed.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

LAST = 40
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
COMMAND = re.compile(r"(\S+): commands(_pre|_post)?\[\d+\]")
REPORT = re.compile(r"=+ (FAILURES|ERRORS) =+")
TITLE = re.compile(r"_+ .+ _+")
FAILED = re.compile(r"(FAILED|ERROR) \S+")


def shortened(lines: list[str]) -> Iterator[str]:
    """The title of a failure, the lines of its error, and its last lines."""
    start = len(lines) - LAST
    for number, line in enumerate(lines):
        if not number or number >= start or line.startswith("E  "):
            yield line
        elif number == start - 1:
            yield f"... {number} lines, of which those of the error are above"


def failures(log: Iterable[str]) -> Iterator[str]:
    """All failures that pytest reported in ``log``, then their names with their environments."""
    environment = ""
    found: list[list[str]] = []
    names = []
    inside = False
    for raw in log:
        line = COLOUR.sub("", raw.rstrip("\n"))
        if command := COMMAND.match(line):
            environment = command[1]
            inside = False
        elif line.startswith("==="):
            inside = REPORT.fullmatch(line) is not None
        elif inside and TITLE.fullmatch(line):
            found.append([f"{environment}: {line}"])
        elif inside and found:
            found[-1].append(line)
        elif FAILED.match(line):
            names.append(f"{environment}: {line}")
    yield from chain.from_iterable(map(shortened, found))
    yield from names


if __name__ == "__main__":
    with Path(sys.argv[1]).open(encoding="utf-8", errors="replace") as log:
        for line in failures(log):
            print(line)
