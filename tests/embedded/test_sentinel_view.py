"""What Sentinels say is understood, and what is not settled is noticed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.embedded.sentinel_view import SentinelView, disagreement

MASTER, REPLICA, FIRST, SECOND = 7001, 7002, 26379, 26380


def entry(port: int, flags: str, **more: str) -> list[bytes]:
    """Return one entry as a Sentinel sends it."""
    fields = {"ip": "127.0.0.1", "port": str(port), "flags": flags, **more}
    return [word.encode() for pair in fields.items() for word in pair]


def view(port: int = FIRST, *, master=None, replica=None, sentinel=None) -> SentinelView:
    """Return what one of two Sentinels knows; each argument replaces fields of an entry."""
    other = SECOND if port == FIRST else FIRST
    link = {"master-port": str(MASTER), "master-link-status": "ok"}
    return SentinelView(
        port,
        {
            "a": [
                entry(**({"port": MASTER, "flags": "master"} | (master or {}))),
                [entry(**({"port": REPLICA, "flags": "slave", **link} | (replica or {})))],
                [entry(**({"port": other, "flags": "sentinel"} | (sentinel or {})))],
            ]
        },
    )


def roles(**replica: str) -> dict[int, dict[str, str]]:
    """Return what master and replica say; each argument replaces a field of the replica's."""
    link = {"master_port": str(MASTER), "master_link_status": "up", "slave_repl_offset": "10"}
    return {
        MASTER: {"role": "master", "master_repl_offset": "10"},
        REPLICA: {"role": "slave", **link, **replica},
    }


def test_at_rest():
    """Two Sentinels that see the same; one that is not asked may be down in their eyes."""
    views = {"s1": view(), "s2": view(SECOND)}
    assert disagreement("a", views, roles(), {}) is None
    alone = view(sentinel={"flags": "s_down,sentinel,disconnected"})
    assert disagreement("a", {"s1": alone}, roles(), {}) is None
    down = {"flags": "s_down,slave,disconnected", "master-link-status": "err"}
    assert disagreement("a", {"s1": view(replica=down)}, {MASTER: roles()[MASTER]}, {}) is None


def test_memory_of_a_former_master():
    """A Sentinel keeps the flag that it once held the master for down."""
    views = {"s1": view(sentinel={"flags": "sentinel,master_down"}), "s2": view(SECOND)}
    assert disagreement("a", views, roles(), {}) is None


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"master": {"port": REPLICA}}, "the Sentinels do not agree on the master a"),
        (
            {"master": {"flags": "master,failover_in_progress"}},
            "s1 sees the master a as master,failover_in_progress",
        ),
        ({"sentinel": {"port": 1}}, "s1 does not see the Sentinel at port 26380"),
        ({"sentinel": {"flags": "s_down,sentinel"}}, "s1 does not see the Sentinel at port 26380"),
        ({"replica": {"port": 1}}, "s1 does not see the replica of a at port 7002"),
        ({"replica": {"flags": "slave,promoted"}}, "s1 does not see the replica of a at port 7002"),
        (
            {"replica": {"master-port": "1"}},
            "s1 does not see that the replica of a at port 7002 has its master",
        ),
        (
            {"replica": {"master-link-status": "err"}},
            "s1 does not see that the replica of a at port 7002 has its master",
        ),
    ],
)
def test_sentinel_that_is_not_settled(changed, reason):
    """Whatever one Sentinel does not see as it is, is said."""
    views = {"s1": view(**changed), "s2": view(SECOND)}
    assert disagreement("a", views, roles(), {}) == reason


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            {MASTER: {"role": "slave"}},
            "the server at port 7001 does not know yet that it is the master a",
        ),
        ({}, "the master a does not answer"),
        (roles(master_port="1"), "the replica of a at port 7002 has no link to its master"),
        (
            roles(master_link_status="down"),
            "the replica of a at port 7002 has no link to its master",
        ),
        (roles(slave_repl_offset="9"), "the replica of a at port 7002 lags behind"),
    ],
)
def test_server_that_is_not_ready(said, reason):
    """What the servers themselves say counts too."""
    assert disagreement("a", {"s1": view(), "s2": view(SECOND)}, said, {}) == reason


def test_no_sentinel():
    """Where none answers, nothing is agreed."""
    assert disagreement("a", {}, roles(), {}) == "no Sentinel runs"


@given(st.integers(0, 100), st.integers(0, 100))
def test_replica_has_what_its_master_had_at_first(first, later):
    """What the master takes in during the wait is not waited for."""
    offsets = {MASTER: first}
    said = roles(slave_repl_offset=str(later))
    assert (disagreement("a", {"s1": view()}, said, offsets) is None) is (later >= first)
