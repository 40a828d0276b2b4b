"""The table of scenarios, and what cases are made of: no figure is tested."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.bench.figure import Absent, Figure
from shardcache.bench.peers.peer import Peer
from shardcache.bench.peers.registry import PEERS
from shardcache.bench.race import Race
from shardcache.bench.scenarios.case import Case, Scenario
from shardcache.bench.scenarios.subject import race_scenario
from shardcache.bench.scenarios.table import SCENARIOS
from shardcache.bench.scenarios.values import raw_codec, sample
from shardcache.bench.scenarios.workers import shares

SHORT = Race(3, lap=0.0001)
each_kind = pytest.mark.parametrize("kind", ["bytes", "str", "int", "dict", "list"])


@pytest.mark.parametrize("name", SCENARIOS)
def test_table_names_what_exists(name: str) -> None:
    """Each line varies a condition that there is, and each of its peers takes part in a case."""
    scenario = SCENARIOS[name]
    assert scenario.axis in {field.name for field in fields(Case)}
    labels, cases = zip(*scenario.cases(), strict=True)
    assert len(set(labels)) == len(scenario.values)
    for peer in scenario.peers:
        assert any(not PEERS[peer].refuses(case) for case in cases), peer


@each_kind
@pytest.mark.parametrize("serializer", ["json", "pickle"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_codec_by_hand_returns_what_it_was_given(kind, serializer, compression) -> None:
    """So what a client without a serializer is timed with is the same work."""
    case = Case(value=kind, serializer=serializer, compression=compression)
    encode, decode = raw_codec(case)
    assert decode(encode(sample(case))) == sample(case)


@each_kind
def test_sample_is_as_its_case_says(kind) -> None:
    """Bytes and text have the size of the case, and each run stores the same."""
    value = sample(Case(value=kind, size=1000))
    assert type(value).__name__ == kind
    assert value == sample(Case(value=kind, size=1000))
    if kind in ("bytes", "str"):
        assert len(value) == 1000


@given(st.lists(st.integers(), min_size=1), st.integers(1, 20), st.integers(1, 20))
def test_shares(inputs: list[int], workers: int, turns: int) -> None:
    """Every lap has as many calls as the next one, whatever the number of inputs."""
    laps = shares(inputs, workers, turns)
    assert laps
    assert {len(lap) for lap in laps} == {workers}
    assert {len(mine) for lap in laps for mine in lap} == {turns}
    assert {one for lap in laps for mine in lap for one in mine} <= set(inputs)


@pytest.mark.parametrize(
    ("peer", "case", "reason"),
    [
        pytest.param("redis-py", Case(), "", id="takes-part"),
        pytest.param("redis-py", Case(shards=4), "knows one server", id="one-server"),
        pytest.param("redis-py", Case(tasks=1), "has no asyncio", id="no-asyncio"),
        pytest.param("redis.asyncio", Case(), "is asked by tasks only", id="asyncio-only"),
        pytest.param("pylibmc", Case(transport="tls"), "is not asked over tls", id="transport"),
    ],
)
def test_peer_says_why_it_takes_no_part(peer: str, case: Case, reason: str) -> None:
    """Nobody is left out without a word."""
    assert PEERS[peer].refuses(case) == reason


@pytest.mark.parametrize(
    ("base", "peers"),
    [
        pytest.param(Case(), ("bare socket + hiredis", "redis-py", "redis.asyncio"), id="plain"),
        pytest.param(Case(tasks=2), ("bare Protocol + hiredis", "redis.asyncio"), id="tasks"),
        pytest.param(Case(threads=2), ("bare socket + hiredis", "redis-py"), id="threads"),
    ],
)
def test_scenario_runs(base: Case, peers: tuple[str, ...]) -> None:
    """Each call of each value gives a figure for each peer that has the call."""
    operations = ("get", "set", "incr", "get_many", "set_many")
    if base.workers > 1:
        operations = ("get",)  # its laps are long
    found = list(race_scenario(Scenario(base, "operation", operations, peers), SHORT))
    absent = [str(one) for one in found if isinstance(one, Absent)]
    assert not [one for one in absent if "failed" in one]
    figures = [one for one in found if isinstance(one, Figure)]
    taking_part = [name for name in peers if not PEERS[name].refuses(base)]
    assert len(figures) + len(absent) >= len(operations) * len(taking_part)
    assert all(figure.per_call for figure in figures)


def test_peer_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it; so is one that cannot do its work."""

    def fail(*_: object) -> None:
        raise OSError("no such host")

    gone = Peer("gone", fail, "gone-py", "no_such_module")
    broken = Peer("broken", fail, "redis", "redis")
    monkeypatch.setitem(PEERS, "gone", gone)
    monkeypatch.setitem(PEERS, "broken", broken)
    scenario = Scenario(Case(), "size", (10,), ("gone", "broken"))
    assert [str(one) for one in race_scenario(scenario, SHORT)] == [
        "not measured: gone: not installed: pip install gone-py",
        "not measured: broken: failed: OSError: no such host",
    ]
