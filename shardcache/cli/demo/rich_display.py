"""The demo on a terminal, by rich; imported only where rich is."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from shardcache.cli.demo import display as demo_display

__all__ = ("RichDisplay",)


class RichDisplay:
    """Headings, moving bars while it works, and a panel at the end."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False)

    def title(self, text: str) -> None:
        self._console.print(Text(text, style="bold"))

    def stage(self, title: str, why: str) -> None:
        self._console.print()
        self._console.print(Text(title, style="bold cyan"))
        self._console.print(Padding(Text(why, style="dim"), (0, 0, 0, 2)))

    def say(self, text: str) -> None:
        self._console.print(Padding(Text(text), (0, 0, 0, 2)))

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        self._console.print(Padding(_grid(rows), (0, 0, 0, 4)))

    @contextmanager
    def progress(self, label: str, total: float) -> Iterator[demo_display.Progress]:
        bars = Progress(
            TextColumn(" "),
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[note]}", markup=False),
            console=self._console,
            transient=True,
        )
        with bars:
            task = bars.add_task(label, total=total, note="")
            yield lambda done, note: bars.update(task, completed=done, note=note)

    def summary(self, title: str, rows: Sequence[Sequence[str]]) -> None:
        self._console.print()
        self._console.print(
            Panel(
                _grid(rows), title=Text(title), border_style="green", expand=False, padding=(1, 2)
            )
        )


def _grid(rows: Sequence[Sequence[str]]) -> Table:
    grid = Table.grid(padding=(0, 2))
    for row in rows:
        grid.add_row(*map(Text, row))
    return grid
