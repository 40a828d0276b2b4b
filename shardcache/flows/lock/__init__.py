"""The quorum lock as pure flows: one logic for the sync driver, the asyncio driver and the simulator."""

from shardcache.flows.lock.acquire import acquire
from shardcache.flows.lock.hold import Extension, extend, release
from shardcache.flows.lock.lease import Lease
from shardcache.flows.lock.look import LockState, force_release, look
from shardcache.flows.lock.plan import LockKeys, LockPlan, Voters
from shardcache.flows.lock.register import Register

__all__ = (
    "Extension",
    "Lease",
    "LockKeys",
    "LockPlan",
    "LockState",
    "Register",
    "Voters",
    "acquire",
    "extend",
    "force_release",
    "look",
    "release",
)
