"""A page of figures: the tables with their charts, put into a page that somebody wrote."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from shardcache.bench.contests import better_peers
from shardcache.bench.markdown import to_markdown
from shardcache.bench.record import Record

__all__ = ("BEGIN", "END", "write_page")

BEGIN = "<!-- figures: begin, written by --markdown -->"
END = "<!-- figures: end -->"


def write_page(
    path: Path, record: Record, charts: Mapping[str, Path], floor: Collection[str]
) -> None:
    """Write tables and charts to a file; what stands outside of the two marks stays.

    ``path``: the file. If it has no marks, or is not there, it becomes the figures alone.
    ``record``: the run.
    ``charts``: image files by subject.
    ``floor``: names of peers that are no clients.
    """
    links = {
        name: Path(os.path.relpath(chart, path.parent)).as_posix() for name, chart in charts.items()
    }
    figures = "\n".join([*_better(record, floor), to_markdown(record, links)])
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    before, begin, rest = old.partition(BEGIN)
    _, end, after = rest.partition(END)
    text = f"{before}{BEGIN}\n\n{figures}\n{END}{after}" if begin and end else figures
    path.write_text(text, encoding="utf-8")


def _better(record: Record, floor: Collection[str]) -> list[str]:
    found = better_peers(record, floor)
    if not found:
        return []
    lines = ["### Where a peer is better", ""]
    lines += [f"- **{peer}**: {'; '.join(texts)}." for peer, texts in found.items()]
    return [*lines, "", "### What was measured", ""]
