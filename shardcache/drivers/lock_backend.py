"""What locks share with the client, or the first lock, whose connections they use."""

import random
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from shardcache.events import Hook
from shardcache.flows.lock.planner import LockPlanner
from shardcache.system.clock import boottime

__all__ = ("LockBackend",)

D = TypeVar("D")


class LockBackend(NamedTuple, Generic[D]):
    """All that a lock needs of a client.

    ``driver``: runs the lock's flows.
    ``planner``: makes the plans of locks, and knows the voters.
    ``hook``: gets the events; None: nobody does.
    ``owned``: whether the lock that has this is the one to close the connections.
    ``clock``: returns seconds; it goes on while the machine is suspended.
    ``random``: returns a number from 0 to 1, for pauses between two attempts.
    """

    driver: D
    planner: LockPlanner
    hook: Hook | None
    owned: bool = False
    clock: Callable[[], float] = boottime
    random: Callable[[], float] = random.random
