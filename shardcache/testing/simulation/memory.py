"""Voters that have been met before the history begins: what they and a process remember of each other."""

from collections.abc import Sequence
from random import Random

from shardcache.flows.lock.plan import LockPlan
from shardcache.flows.lock.register import Roll
from shardcache.testing.simulation.server import Server

__all__ = ("acquaint",)


def acquaint(servers: Sequence[Server], plan: LockPlan, ttl: float, luck: Random, roll: Roll | None = None) -> None:
    """Let every voter know every other, and ``ttl`` seconds as the longest; give them counters; tell ``roll`` as well."""
    if roll is not None:
        roll.runs.update(enumerate(server.life for server in servers))
        roll.longest = max(roll.longest, round(ttl * 1000))
        return
    for server in servers:
        known = server.db.fields(plan.register)
        known[b""] = b"%d" % round(ttl * 1000)
        for other in servers:
            known[other.name.encode()] = other.life + b":0"
        if luck.random() < 0.7:
            server.db.values[plan.keys.fence] = b"%d" % (int(server.clock(0.0) * 1e6) - luck.randrange(10**6))
