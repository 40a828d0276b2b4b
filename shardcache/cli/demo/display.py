"""How the demo shows its results: plain lines, or moving bars on a terminal where rich is there."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from shardcache.cli.text import columns, say

__all__ = ("Display", "PlainDisplay", "Progress", "choose_display")

Progress = Callable[[float, str], None]
"""A function to call with how much is done, and a few words about it."""


class Display(Protocol):
    """The place where the stages of the demo say what happens."""

    def title(self, text: str) -> None: ...

    def stage(self, title: str, why: str) -> None: ...

    def say(self, text: str) -> None: ...

    def table(self, rows: Sequence[Sequence[str]]) -> None: ...

    def progress(self, label: str, total: float) -> AbstractContextManager[Progress]: ...

    def summary(self, title: str, rows: Sequence[Sequence[str]]) -> None: ...


class PlainDisplay:
    """Lines of text: for pipes, files, and terminals without rich."""

    def title(self, text: str) -> None:
        say(text)

    def stage(self, title: str, why: str) -> None:
        say()
        say(title)
        say(f"  {why}")

    def say(self, text: str) -> None:
        say(f"  {text}".rstrip())
        sys.stdout.flush()

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        for line in columns(rows):
            say(f"    {line}")

    # A line that does not move has no use for ``total``.
    @contextmanager
    def progress(self, label: str, total: float) -> Iterator[Progress]:  # noqa: ARG002
        self.say(f"{label} …")
        yield _still

    def summary(self, title: str, rows: Sequence[Sequence[str]]) -> None:
        say()
        say(title)
        self.table(rows)


def choose_display() -> Display:
    """Return the display for standard output.

    A terminal without rich gets plain lines, and a hint how to get moving bars.
    """
    if not _moves():
        return PlainDisplay()
    try:
        from shardcache.cli.demo.rich_display import RichDisplay
    except ImportError:
        print("(without progress bars: pip install 'shardcache[cli]' brings them)", file=sys.stderr)
        return PlainDisplay()
    return RichDisplay()


def _still(_done: float, _note: str) -> None:
    """Show no progress."""


def _moves() -> bool:
    """Whether standard output is a terminal that understands control sequences and UTF-8."""
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    return (
        sys.stdout.isatty()
        and os.environ.get("TERM", "") not in ("", "dumb")
        and encoding == "utf8"
    )
