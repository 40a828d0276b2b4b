"""A run as files: JSON that is read back as it was written, and Markdown."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from shardcache.bench.figure import Figure, against
from shardcache.bench.markdown import to_markdown
from shardcache.bench.race import Laps, Spread
from shardcache.bench.record import Record, Setting, joined, read_record
from shardcache.errors import InvalidOption

SETTING = Setting(
    command="python -m benchmarks one --rounds 5",
    date="2026-01-02T03:04:05+00:00",
    clock="wall clock",
    rounds=5,
    machine={"cores": "2"},
    versions={"redis": "8"},
)
FIGURES = {
    ("one", "get / peer"): Figure(
        "get / peer",
        Spread(0.5, 0.4, 0.6),
        0.45,
        "",
        "5.0 / 10.0 µs",
        {"get": Spread(5, 4, 6), "peer": Spread(10, 9, 11)},
    ),
    ("two", "a | b"): Figure("a | b", Spread(12.34, 12, 13), 15, " ms"),
    ("two", "free"): Figure("free", Spread(0.01234, 0.01, 0.02)),
}
LEGEND = "Medians, and quartiles in brackets; less is better."
RECORD = Record(SETTING, FIGURES, ("one: other: not installed: pip install other",))


def test_json_is_read_back(tmp_path: Path) -> None:
    """Nothing of a run is lost in its file."""
    path = tmp_path / "run.json"
    path.write_text(RECORD.to_json(), encoding="utf-8")
    assert read_record(path) == RECORD


def changed(**parts: object) -> str:
    return json.dumps({**json.loads(RECORD.to_json()), **parts})


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("{", id="no-json"),
        pytest.param("[]", id="no-object"),
        pytest.param(changed(format=2), id="another-format"),
        pytest.param(changed(setting={}), id="no-setting"),
        pytest.param(changed(figures=[{"subject": "one"}]), id="no-figure"),
        pytest.param(RECORD.to_json().replace("12.34", "NaN"), id="no-number"),
        pytest.param(RECORD.to_json().replace("12.34", '"12"'), id="text-for-a-number"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    """A file that is no record of a run is said to be none."""
    path = tmp_path / "run.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidOption, match="must be what --json FILE of a benchmark wrote"):
        read_record(path)


def test_runs_are_joined() -> None:
    """What both measured is that of the second; nothing of either is lost."""
    figures = {("one", "get / peer"): FIGURES["two", "free"], ("new", "x"): FIGURES["two", "free"]}
    setting = replace(SETTING, command="second", rounds=7, machine={"cores": "4"})
    second = Record(setting, figures, ("new: absent",))
    whole = joined([RECORD, second])
    assert whole.setting.command == f"{SETTING.command}; second"
    assert (whole.setting.rounds, whole.setting.machine) == (7, {"cores": "2 / 4"})
    assert whole.figures == {**FIGURES, **figures}
    assert whole.absent == (*RECORD.absent, "new: absent")
    assert joined([RECORD]) == RECORD


def test_missing_file_is_refused(tmp_path: Path) -> None:
    """So is one that is not there."""
    with pytest.raises(InvalidOption, match="cannot read"):
        read_record(tmp_path / "none.json")


def test_markdown_has_a_table_for_each_subject() -> None:
    """Command and machine come first; a bar in a name does not end its cell."""
    assert to_markdown(RECORD).splitlines() == [
        f"`{SETTING.command}`; 2026-01-02; wall clock, 5 rounds; cores 2; redis 8. {LEGEND}",
        "",
        "### one",
        "",
        "| | goal | measured | per call |",
        "|---|---|---|---|",
        "| get / peer | ≤ 0.45 | **missed**: 0.50 [0.40 … 0.60] | 5.0 / 10.0 µs |",
        "",
        "### two",
        "",
        "| | goal | measured | per call |",
        "|---|---|---|---|",
        "| a \\| b | ≤ 15 ms | met: 12.3 ms [12.0 … 13.0] |  |",
        "| free |  | 0.012 [0.010 … 0.020] |  |",
        "",
        "Not measured:",
        "",
        "- one: other: not installed: pip install other",
    ]


def test_race_says_what_each_call_costs() -> None:
    """A figure of a race has the costs of both sides, also where many calls were timed as one."""
    laps = Laps({"get": [1e-6, 2e-6, 3e-6], "peer": [4e-6, 4e-6, 4e-6]})
    costs = against(laps, "get", "peer").per_call
    assert costs["get"] == pytest.approx((2, 1, 3))
    assert costs["peer"] == pytest.approx((4, 4, 4))
    assert laps.costs("peer", calls=2)["peer"] == pytest.approx((2, 2, 2))
