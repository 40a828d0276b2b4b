"""The program: exit codes, files, and what is refused before anything is measured."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardcache.bench.arguments import add_options
from shardcache.bench.figure import Figure
from shardcache.bench.program import run_program
from shardcache.bench.race import Race, Spread
from shardcache.bench.record import read_record
from shardcache.errors import InvalidOption


def run(*argv: str, cost: float = 1.0) -> int:
    """Run a program of one subject, whose figure is ``cost``."""

    def subject(_: Race) -> Iterator[Figure]:
        yield Figure("get / peer", Spread(cost, cost * 0.9, cost * 1.1))

    parser = argparse.ArgumentParser()
    parser.add_argument("subjects", nargs="*")
    add_options(parser, rounds=5)
    # Nothing is timed here, so no core need be kept awake.
    args = parser.parse_args([*argv, "--sleepy"])
    return run_program(args, "python -m benchmarks", ("one",), lambda _: subject)


def test_slower_run_ends_with_1(tmp_path: Path, capsys) -> None:
    """What got slower is named and gives the exit code; the files are written all the same."""
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    assert run("one", "--json", str(old)) == 0
    assert run("one", "--compare", str(old), cost=1.05) == 0
    assert run("one", "--compare", str(old), cost=0.5) == 0
    capsys.readouterr()
    assert run("one", "--compare", str(old), "--json", str(new), cost=2.0) == 1
    assert "slower: one: get / peer: 1.00" in capsys.readouterr().out
    assert read_record(new).figures["one", "get / peer"].measured.middle == 2.0


def test_run_is_recorded(tmp_path: Path, capsys) -> None:
    """Command, versions and machine go into both files; the files' own names do not."""
    paths = tmp_path / "run.json", tmp_path / "run.md"
    assert run("one", "--json", str(paths[0]), "--markdown", str(paths[1])) == 0
    setting = read_record(paths[0]).setting
    assert setting.command == "python -m benchmarks one --rounds 5 --sleepy"
    assert {"shardcache", "redis", "hiredis"} <= setting.versions.keys()
    assert setting.machine["idle cores"] == "left to themselves"
    assert f"`{setting.command}`" in paths[1].read_text(encoding="utf-8")
    assert "get / peer" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        pytest.param(("two",), "no subject is named two; there are one", id="subject"),
        pytest.param(("--rounds", "2"), "--rounds must be 3 or more, got 2", id="rounds"),
        pytest.param(("--json", "/none/x.json"), "/none/x.json must be a file", id="json"),
        pytest.param(("--markdown", "/"), "/ must be a file", id="markdown"),
        pytest.param(("--compare", "/none/x.json"), "cannot read", id="compare"),
    ],
)
def test_wrong_arguments_are_refused(argv: tuple[str, ...], complaint: str, capsys) -> None:
    """Before anything is measured."""
    with pytest.raises(InvalidOption, match=complaint):
        run(*argv)
    assert capsys.readouterr().out == ""
