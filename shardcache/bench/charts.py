"""Charts of a run as PNG: ratios with their spread, and curves of latency. Drawn by matplotlib."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from shardcache.bench.contests import Latency, Ratio, latencies, ratios
from shardcache.bench.record import Record
from shardcache.errors import InvalidOption

__all__ = ("check_matplotlib", "draw_charts")

WIDTH = 9.0  # inches
DPI = 80
ROW = 0.13  # inches of a marker
LEGEND = 1.6  # inches of title, axis and legend


def check_matplotlib() -> None:
    """Raise `InvalidOption` if there is nothing to draw with."""
    try:
        import matplotlib  # noqa: F401, ICN001
    except ImportError:
        raise InvalidOption(
            "charts need matplotlib: pip install 'shardcache[bench]' brings it"
        ) from None


def draw_charts(record: Record, folder: Path) -> dict[str, Path]:
    """Draw a chart for each subject that has ratios or latencies; return the files by subject.

    ``folder``: where they are written; it is made if it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for subject, named in groupby(record.figures.items(), key=lambda one: one[0][0]):
        figures = [figure for _, figure in named]
        path = folder / f"{subject}.png"
        if found := ratios(figures):
            _draw_ratios(subject, found, path)
        elif curves := [one for one in latencies(figures) if one.measure.startswith("p")]:
            _draw_curves(subject, curves, path)
        else:
            continue
        files[subject] = path
    return files


def _new_chart(title: str, height: float) -> tuple[Any, Any]:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    drawing, axis = plt.subplots(figsize=(WIDTH, height))
    axis.set_title(title, fontsize=10)
    axis.grid(visible=True, which="both", alpha=0.25)
    return drawing, axis


def _save(drawing: Any, axis: Any, path: Path) -> None:
    from matplotlib import pyplot as plt

    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    drawing.tight_layout()
    # No date and no version inside, so that the same figures make the same file.
    drawing.savefig(path, dpi=DPI, metadata={"Software": None})
    plt.close(drawing)


def _draw_ratios(subject: str, found: Sequence[Ratio], path: Path) -> None:
    cases = list(dict.fromkeys(one.case for one in found))
    peers = list(dict.fromkeys(one.peer for one in found))
    title = f"{subject}: time of a call / the peer's time (left of 1: shardcache is faster)"
    drawing, axis = _new_chart(title, LEGEND + ROW * len(cases) * (len(peers) + 1))
    for number, peer in enumerate(peers):
        mine = [one for one in found if one.peer == peer]
        axis.errorbar(
            [one.measured.middle for one in mine],
            [cases.index(one.case) + (number + 0.5) / (len(peers) + 1) - 0.5 for one in mine],
            xerr=[
                [one.measured.middle - one.measured.low for one in mine],
                [one.measured.high - one.measured.middle for one in mine],
            ],
            fmt="o",
            markersize=4,
            capsize=2,
            label=peer,
        )
    axis.axvline(1.0, color="black", linewidth=1)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_yticks(range(len(cases)), cases, fontsize=8)
    axis.invert_yaxis()
    _save(drawing, axis, path)


def _draw_curves(subject: str, found: Sequence[Latency], path: Path) -> None:
    title = f"{subject}: latency in ms, from when a call was due"
    drawing, axis = _new_chart(title, LEGEND + 2.4)
    for client, each in groupby(found, key=lambda one: one.client):
        mine = list(each)
        measures = [one.measure for one in mine]
        (line,) = axis.plot(measures, [one.measured.middle for one in mine], "o-", label=client)
        low, high = ([getattr(one.measured, end) for one in mine] for end in ("low", "high"))
        axis.fill_between(measures, low, high, color=line.get_color(), alpha=0.15)
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter("{x:g}")
    _save(drawing, axis, path)
