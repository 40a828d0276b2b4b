"""What lets go of a lock whose `with` block has ended without `__exit__`.

A signal handler may raise just before `__exit__` begins.
"""

import os
from collections.abc import Callable
from typing import Any

from shardcache.drivers.sync.runner import Runner
from shardcache.flows.lock.lock_plan import LockPlan
from shardcache.flows.lock.undo import give_back
from shardcache.locks.lease_handle import Hold

__all__ = ("guard_handle",)


def guard_handle(handle: Any, runner: Runner, plan: LockPlan, hold: Hold) -> Callable[[], None]:
    """Give ``hold`` back when nobody has ``handle`` any more, unless it is over by then.

    Return what calls that off.
    """

    def let_go() -> None:
        if hold.over or hold.pid != os.getpid():
            return
        hold.end_renewal()
        lease = hold.lease
        lease.ended = True
        runner.run(give_back(plan.on(lease.voters), lease.token, lease.unsure))
        hold.over = True  # last, since it may be interrupted, and is done again then

    return runner.undo_log.guard(handle, let_go)
