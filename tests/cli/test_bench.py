"""``shardcache bench``: what it lists, and what it refuses."""

import pytest

from shardcache.bench.subjects import SUBJECTS
from shardcache.cli import Exit, main


def test_list_names_all_scenarios(capsys) -> None:
    """Each with its cases; nothing is measured."""
    assert main(["bench", "--list"]) == Exit.FINE
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(SUBJECTS)


@pytest.mark.parametrize("argument", ["no-such", "--rounds=1"])
def test_wrong_argument_is_wrong_usage(argument: str, capsys) -> None:
    """In one line, before anything is started."""
    assert main(["bench", argument]) == Exit.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
