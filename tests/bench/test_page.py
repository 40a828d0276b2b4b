"""Pages and charts of a run: where peers are better, what stands around the figures, the images."""

from pathlib import Path

import pytest

from shardcache.bench.bars import cost_bars
from shardcache.bench.charts import draw_charts
from shardcache.bench.contests import better_peers
from shardcache.bench.figure import Figure
from shardcache.bench.page import BEGIN, END, write_page
from shardcache.bench.race import Spread
from shardcache.bench.record import Record, Setting

SETTING = Setting("shardcache bench", "2026-01-02T03:04:05", "wall clock", 5, {}, {})


def ratio(case: str, peer: str, low: float, high: float) -> Figure:
    costs = {"shardcache": Spread(5, 4, 6), peer: Spread(10, 9, 11)}
    middle = (low + high) / 2
    return Figure(f"{case}: shardcache / {peer}", Spread(middle, low, high), per_call=costs)


def latency(client: str, measure: str, low: float, unit: str = " ms") -> Figure:
    return Figure(f"{client}: {measure}", Spread(low + 1, low, low + 2), unit=unit)


def record(**subjects: list[Figure]) -> Record:
    named = {(name, one.what): one for name, figures in subjects.items() for one in figures}
    return Record(SETTING, named)


RATIOS = [ratio("get", "fast", 1.1, 1.3), ratio("get", "slow", 0.4, 0.6)]
MIX = [latency("shardcache", "p50", 5), latency("fast", "p50", 1), latency("slow", "p50", 9)]


@pytest.mark.parametrize(
    ("figures", "better"),
    [
        pytest.param(RATIOS, {"fast": ["get (1.20)"]}, id="ratios"),
        pytest.param([*RATIOS, RATIOS[0]], {"fast": ["get (1.20)"]}, id="each-once"),
        pytest.param([ratio("get", "even", 1.0, 1.3)], {}, id="noise"),
        pytest.param([ratio("get", "bare", 1.1, 1.3)], {}, id="the-floor"),
        pytest.param(MIX, {"fast": ["one p50 (2.00 to 6.00 ms)"]}, id="latency"),
        pytest.param([MIX[0], latency("near", "p50", 4)], {}, id="latencies-that-overlap"),
        pytest.param([latency("fast", "p50", 1)], {}, id="nothing-of-ours"),
        pytest.param(
            [latency("shardcache", "not served", 5, " %"), latency("fast", "not served", 1, " %")],
            {"fast": ["one not served (2.00 to 6.00 %)"]},
            id="not-served",
        ),
    ],
)
def test_where_a_peer_is_better(figures: list[Figure], better: dict[str, list[str]]) -> None:
    """Named in each figure that is better by more than the noise, and in no other."""
    assert better_peers(record(one=figures), ["bare"]) == better


@pytest.mark.parametrize(
    ("old", "before", "after"),
    [
        pytest.param(None, "### Where", "", id="new"),
        pytest.param("old text", "### Where", "", id="no-marks"),
        pytest.param(f"Mine.\n{BEGIN}\nold\n{END}\nToo.\n", "Mine.\n", "\nToo.\n", id="marks"),
    ],
)
def test_page_keeps_what_stands_around(tmp_path: Path, old, before: str, after: str) -> None:
    """Only what is between the marks is written anew; a second time changes nothing."""
    page = tmp_path / "page.md"
    if old is not None:
        page.write_text(old, encoding="utf-8")
    run = record(one=RATIOS)
    write_page(page, run, {"one": tmp_path / "images" / "one.png"}, ())
    text = page.read_text(encoding="utf-8")
    assert text.startswith(before)
    assert text.endswith(after)
    assert "old" not in text
    assert "- **fast**: get (1.20)." in text
    assert "![one](images/one.png)" in text
    write_page(page, run, {"one": tmp_path / "images" / "one.png"}, ())
    assert page.read_text(encoding="utf-8") == text


def test_bars_show_each_client_once_in_each_case() -> None:
    """In microseconds; what is no ratio has none."""
    found = cost_bars([*RATIOS, *MIX], room=80)
    assert [line.split("  ")[0] for line in found] == ["get", "", "", ""]
    rows = [line.split() for line in found[1:]]
    assert [(row[0], row[1]) for row in rows] == [
        ("shardcache", "5.0"),
        ("fast", "10.0"),
        ("slow", "10.0"),
    ]
    assert len(rows[0][-1]) < len(rows[1][-1])


def test_charts_are_drawn(tmp_path: Path) -> None:
    """One for ratios, one for curves; none for a subject that has neither."""
    pytest.importorskip("matplotlib")
    run = record(one=RATIOS, mix=MIX, other=[Figure("plain", Spread(1, 1, 1))])
    files = draw_charts(run, tmp_path / "new")
    assert sorted(files) == ["mix", "one"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in files.values())
