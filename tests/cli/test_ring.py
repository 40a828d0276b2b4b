"""`ring`: shares, and what a change would move; no server is needed."""

import re

import pytest

from shardcache.cli import main
from shardcache.placement import HashRing
from shardcache.placement.node import Node

THREE = ["--node", "a", "--node", "b", "--node", "c=2"]


def shares(lines: list[str]) -> dict[str, float]:
    """Return name to percent, out of lines such as ``a  x1  24.97%  ████``."""
    return {line.split()[0]: float(line.split()[2].rstrip("%")) for line in lines}


def test_ring(capsys):
    """Each node is shown with its weight and exact share."""
    assert main(["ring", *THREE]) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = HashRing([Node("a"), Node("b"), Node("c", 2.0)]).shares()
    assert shares(lines) == {name: round(share * 100, 2) for name, share in expected.items()}
    assert [line.split()[1] for line in lines] == ["x1", "x1", "x2"]


def test_ring_of_a_url(url, capsys):
    """The nodes come from the URL, weights included."""
    assert main(["ring", "--url", "redis://h1?name=x&weight=3,redis://h2?name=y"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["x", "x3"], ["y", "x1"]]


def test_ring_of_masters(capsys):
    """Of a URL of Sentinels the masters are the nodes; nobody is asked where they are."""
    assert main(["ring", "--url", "redis+sentinel://127.0.0.1:1?masters=x:3,y"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["x", "x3"], ["y", "x1"]]


@pytest.mark.parametrize(
    ("change", "then"),
    [
        pytest.param(["--add", "d=2"], lambda ring: ring.with_node(Node("d", 2.0)), id="add"),
        pytest.param(["--remove", "b"], lambda ring: ring.without_node("b"), id="remove"),
        pytest.param(
            ["--weight", "a=3"], lambda ring: ring.with_node("a", weight=3.0), id="weight"
        ),
        pytest.param(
            ["--add", "d", "--remove", "a"],
            lambda ring: ring.without_node("a").with_node(Node("d")),
            id="replace",
        ),
    ],
)
def test_change(change, then, capsys):
    """A change shows the new shares, the total that moves, and each flow from node to node."""
    assert main(["ring", *THREE, *change]) == 0
    out = capsys.readouterr().out
    now = HashRing([Node("a"), Node("b"), Node("c", 2.0)])
    moved = now.moved(then(now))
    assert f"{moved.total:.2%} of the keys would change hands" in out
    flows = {
        (source, target): percent
        for source, target, percent in re.findall(r"(\S+) +-> +(\S+) +([\d.]+%)", out)
    }
    assert flows == {pair: f"{share:.2%}" for pair, share in moved.items()}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        pytest.param(["--node", "a", "--node", "a"], "a", id="twice"),
        pytest.param(["--node", "a=0"], "0", id="weight-zero"),
        pytest.param(["--node", "a=nan"], "nan", id="weight-nan"),
        pytest.param(["--node", "a=big"], "a=big", id="weight-word"),
        pytest.param(["--node", "=1"], "name", id="no-name"),
        pytest.param(["--node", "a", "--remove", "b"], "'b'", id="remove-unknown"),
        pytest.param(["--node", "a", "--remove", "a"], "node", id="remove-last"),
        pytest.param(["--node", "a", "--weight", "b=2"], "'b'", id="weight-unknown"),
        pytest.param(["--node", "a", "--weight", "a"], "NAME=WEIGHT", id="weight-missing"),
        pytest.param(["--node", "a", "--add", "a"], "'a'", id="add-known"),
    ],
)
def test_wrong_ring(arguments, named, failing):
    """A ring that cannot be is wrong input, and the line names what is wrong."""
    assert named in failing(main(["ring", *arguments]), 2)
