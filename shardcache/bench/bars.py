"""Bars for a terminal: what a call costs each client, case by case."""

from collections.abc import Collection

from shardcache.bench.contests import ratios
from shardcache.bench.figure import Figure
from shardcache.cli.text import bars

__all__ = ("cost_bars",)


def cost_bars(figures: Collection[Figure], room: int | None = None) -> list[str]:
    """Return a line for each client in each case, with the median of its calls as a bar.

    ``figures``: of one subject; those that are no ratios are left out.
    ``room``: cells of a line; None: those of the terminal.
    """
    costs: dict[str, dict[str, float]] = {}
    for figure in figures:
        for ratio in ratios([figure]):
            # The client comes first in each figure, and so once in each case.
            medians = {name: spread.middle for name, spread in figure.per_call.items()}
            costs.setdefault(ratio.case, {}).update(medians)
    lines = []
    for case, clients in costs.items():
        rows = [((f"  {name}", f"{cost:.1f} µs"), cost) for name, cost in clients.items()]
        lines += [case, *bars(rows, room)]
    return lines
