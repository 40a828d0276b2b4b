"""Chaos for a lock: servers that die, hang and get lost, holders that are stopped at work.

``Chaos`` runs until it is told to end, in two threads, and then undoes all that it did. What it
does is drawn from one seed. At most a minority of the servers is *emptied* at a time, and the next
only when the one before is known again (the restart guard lives from a majority that remembers);
now and then a majority hangs, which loses nothing.
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from operator import methodcaller
from pathlib import Path

from .servers import NoNetworkOfItsOwn, Server

__all__ = ("Chaos",)

OUT = (0.2, 2.0)  # seconds that a server is out
BREAK = (0.1, 0.5)  # seconds between two faults of servers
AIMED = 0.8  # share of the stops that hit a process that has just got the lock
# What begins a fault and what undoes it.
FAULTS: dict[str, tuple[Callable[[Server], None], Callable[[Server], None] | None]] = {
    "kill": (methodcaller("kill"), methodcaller("start")),
    "pause": (methodcaller("pause"), methodcaller("unpause")),
    "cut": (methodcaller("cut_network"), methodcaller("restore_network")),
    "restart": (methodcaller("restart"), None),
}


class Chaos:
    """Faults for servers and holders of one lock, until it is told to end.

    ``servers``: those that it may harm.
    ``pids``: the processes of the workers, which it may harm.
    ``ttl``: of the lock, in seconds.
    ``work``: how long each half of a critical section takes at least, in seconds.
    ``holder``: a file in which each worker writes its process id once it holds the lock.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        pids: Sequence[int],
        holder: Path,
        *,
        ttl: float,
        work: float,
        seed: int,
    ) -> None:
        self._servers = list(servers)
        self._pids = list(pids)
        self._holder = holder
        self._ttl = ttl
        self._work = work
        self._seed = seed
        self._over = threading.Event()
        self._errors: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._guarded, args=(one,))
            for one in (self._harm_servers, self._stop_holders)
        ]
        self.done: Counter[str] = Counter()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """End, with every server and every worker running; raise what went wrong."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        for error in self._errors:
            raise error

    def _guarded(self, act: Callable[[random.Random], None]) -> None:
        try:
            act(random.Random(f"{self._seed} {act.__name__}"))
        except BaseException as error:
            self._errors.append(error)

    def _harm_servers(self, chance: random.Random) -> None:
        while not self._over.wait(chance.uniform(*BREAK)):
            name = chance.choice(["kill", "pause", "restart", "cut", "pause two", "pause three"])
            victims = chance.sample(self._servers, {"pause two": 2, "pause three": 3}.get(name, 1))
            try:
                self._harm(name.split()[0], victims, chance)
            except NoNetworkOfItsOwn:
                continue
            self.done[name] += 1
            if name in ("kill", "restart"):
                # Until somebody has acquired, nobody knows of its new life; and two in a row could
                # be all that knew.
                self._over.wait(self._ttl)

    def _harm(self, name: str, victims: list[Server], chance: random.Random) -> None:
        begin, end = FAULTS[name]
        hit = []
        try:
            for victim in victims:
                begin(victim)
                hit.append(victim)
            if end is not None:
                self._over.wait(chance.uniform(*OUT))
        finally:
            for victim in hit if end is not None else ():
                end(victim)

    def _stop_holders(self, chance: random.Random) -> None:
        while not self._over.wait(chance.uniform(0.05, 0.3) * self._ttl):
            pid = self._next_holder() if chance.random() < AIMED else chance.choice(self._pids)
            if pid is None:
                continue
            time.sleep(chance.uniform(0, 2 * self._work))  # anywhere in its work
            os.kill(pid, signal.SIGSTOP)
            try:
                self._over.wait(chance.uniform(1.1, 2.0) * self._ttl)
            finally:
                os.kill(pid, signal.SIGCONT)
            self.done["SIGSTOP"] += 1

    def _next_holder(self) -> int | None:
        """Return the process that has just got the lock, if one does soon."""
        before = self._holder.read_bytes()
        for _ in range(500):
            now = self._holder.read_bytes()
            if now not in (before, b"") and int(now) in self._pids:
                return int(now)
            if self._over.wait(0.001):
                break
        return None
