"""The quorum lock as pure flows, for the sync driver, the asyncio driver and the simulator."""

from shardcache.flows.lock.acquisition import acquire
from shardcache.flows.lock.inspection import LockState, force_release, inspect_lock
from shardcache.flows.lock.lease import Lease
from shardcache.flows.lock.lock_plan import LockKeys, LockPlan, Voters
from shardcache.flows.lock.renew_release import Extension, extend, release
from shardcache.flows.lock.voter_registry import VoterRegistry

__all__ = (
    "Extension",
    "Lease",
    "LockKeys",
    "LockPlan",
    "LockState",
    "VoterRegistry",
    "Voters",
    "acquire",
    "extend",
    "force_release",
    "inspect_lock",
    "release",
)
