"""What voters and processes remember of each other when they have met before the history."""

from collections.abc import Sequence
from random import Random

from shardcache.flows.lock.lock_plan import LockPlan
from shardcache.flows.lock.voter_registry import VoterStatus
from shardcache.testing.simulation.server import Server

__all__ = ("acquaint",)


def acquaint(
    servers: Sequence[Server], plan: LockPlan, rng: Random, status: VoterStatus | None = None
) -> None:
    """Let voters, or a process, remember all voters.

    ``servers``: the voters.
    ``plan``: its ttl is remembered as the longest one.
    ``rng``: decides how sure the voters are, and which have a counter.
    ``status``: what a process remembers; None lets the voters remember, and gives them counters.
    """
    # A process: it has met all voters.
    if status is not None:
        for place, server in enumerate(servers):
            status.set_server_run(place, _life(server), forgetful=False, sure=True)
        status.longest = max(status.longest, plan.ttl_ms)
        return
    # The voters: each has a register with all voters in it.
    certain = rng.random() < 0.5
    for server in servers:
        known = server.db.fields(plan.register)
        known[b"born"] = b"%d" % _born(server)
        known[b"floor"] = b"%d" % (_born(server) + 1000)
        known[b"longest"] = b"%d" % plan.ttl_ms
        for other in servers:
            state = b"2:" + plan.voters.id if certain else b"0:"
            known[b":" + other.name.encode()] = b"%b:%b" % (_life(other), state)
        if rng.random() < 0.7:
            server.db.values[plan.keys.fence] = b"%d" % (
                int(server.clock(0.0) * 1e6) - rng.randrange(10**6)
            )


def _born(server: Server) -> int:
    return int(server.started * 1e6) + 1000


def _life(server: Server) -> bytes:
    return b"%b:%d" % (server.life, _born(server))
