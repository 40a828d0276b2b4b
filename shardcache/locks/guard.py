"""What lets go of a lock whose `with` block has ended without `__exit__`: a signal handler may raise just before it begins."""

import os
import weakref
from typing import Any

from shardcache.drivers.sync.runner import Runner
from shardcache.flows.lock.lock_plan import LockPlan
from shardcache.flows.lock.renew_release import give_back
from shardcache.locks.lease_handle import Hold

__all__ = ("guard",)


def guard(
    handle: Any, runner: Runner, plan: LockPlan, *holds: Hold
) -> "weakref.finalize[..., Any]":
    """Give ``holds`` back when nobody has ``handle`` any more, unless they are over, or it is detached, by then.

    Not a `__del__`, which every handle that ends would call: a Ctrl-C that comes in one is lost.
    """
    found = weakref.finalize(handle, _let_go, runner, plan, holds)
    found.atexit = False
    return found


def _let_go(runner: Runner, plan: LockPlan, holds: tuple[Hold, ...]) -> None:
    for hold in holds:
        if hold.over or hold.pid != os.getpid():
            continue
        if hold.renewal is not None:
            hold.renewal.end()
        hold.over = hold.lease.ended = True
        runner.run(give_back(plan.on(hold.lease.voters), hold.lease.token, hold.lease.unsure))
