"""A record as Markdown: the tables of a page, with the command and the machine."""

from collections.abc import Mapping
from itertools import groupby

from shardcache.bench.figure import Figure, digits
from shardcache.bench.record import Record

__all__ = ("to_markdown",)


def to_markdown(record: Record, charts: Mapping[str, str] | None = None) -> str:
    """Return one table for each subject, below the command, the machine and the versions.

    ``charts``: links of images by subject; None (default): none.
    """
    setting = record.setting
    facts = [
        f"`{setting.command}`",
        setting.date[:10],
        f"{setting.clock}, {setting.rounds} rounds",
        *(f"{name} {value}" for name, value in {**setting.machine, **setting.versions}.items()),
    ]
    lines = ["; ".join(facts) + ". Medians, and quartiles in brackets; less is better."]
    for subject, named in groupby(record.figures.items(), key=lambda one: one[0][0]):
        rows = [_row(figure) for _, figure in named]
        lines += ["", f"### {subject}", ""]
        if charts and subject in charts:
            lines += [f"![{subject}]({charts[subject]})", ""]
        lines += ["| | goal | measured | per call |", "|---|---|---|---|"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
    if record.absent:
        lines += ["", "Not measured:", "", *(f"- {one}" for one in record.absent)]
    return "\n".join(lines) + "\n"


def _row(figure: Figure) -> tuple[str, str, str, str]:
    middle, low, high = digits(figure.measured)
    goal, verdict = "", ""
    if figure.goal is not None:
        goal = f"≤ {figure.goal:g}{figure.unit}"
        verdict = "met: " if figure.met else "**missed**: "
    measured = f"{verdict}{middle}{figure.unit} [{low} … {high}]"
    return _cell(figure.what), goal, measured, _cell(figure.costs)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
