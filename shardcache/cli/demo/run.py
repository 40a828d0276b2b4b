"""The demo from its first line to its last: what it needs, in which order, and that nothing is left."""

import os
import secrets
import time
from contextlib import ExitStack

from shardcache.cli.demo.async_worker import VISITORS
from shardcache.cli.demo.crew import Crew
from shardcache.cli.demo.display import choose_display
from shardcache.cli.demo.stages import Show, seconds
from shardcache.cli.demo.worker import Site, open_cache
from shardcache.cli.demo.workload import find_sources, library
from shardcache.cli.exit_codes import Exit
from shardcache.cli.signals import Interrupts
from shardcache.client import ShardCache
from shardcache.embedded import LocalShards
from shardcache.errors import ServerNotStarted

__all__ = ("Demo",)

TTL = 300.0  # seconds: what a demo that was killed leaves on somebody's servers goes by itself
VICTIM = 1  # the second shard: nothing is special about it


class Demo:
    """Starts what it needs, runs the stages, and ends all of it in `close`, whenever that is called."""

    def __init__(self, url: str | None, *, shards: int, seconds: float) -> None:
        self._url = url
        self._seconds = seconds
        self._size = min(max(3, os.cpu_count() or 1), 8)
        self._display = choose_display()
        self._servers = None if url else LocalShards(shards)
        self._left = 0
        self._ends = ExitStack()
        self._began = time.monotonic()

    def start(self, interrupts: Interrupts) -> Show:
        """Start servers and workers. Raises `ServerNotStarted`, or `ShardError` for a given server that is out."""
        root = library()
        files = find_sources(root)
        if not files:
            raise ServerNotStarted(
                f"the demo measures the standard library's source files, and {root} has none"
            )
        if self._servers is not None:
            with interrupts.shield():
                self._ends.callback(self._servers.close)
                self._servers.start()
        nodes = self._servers.urls if self._servers is not None else self._url or ""
        site = Site(nodes, f"shardcache-demo-{secrets.token_hex(4)}", TTL, root)
        cache = open_cache(ShardCache, site)
        self._ends.callback(cache.close)
        if self._servers is None:
            _check(cache)
            self._ends.callback(self._sweep, cache)
        self._tell(len(cache.stats().shards), len(files))
        crew = Crew(self._size, site)
        self._ends.callback(crew.close)
        with interrupts.shield():
            crew.start()
        with self._display.progress("starting the processes", 1):
            crew.ready()
        return Show(cache, crew, self._display, interrupts, files, self._seconds)

    def run(self, show: Show) -> None:
        """Go through the stages."""
        display = self._display
        display.stage(
            "1. Compute once, then read",
            "Each process asks the cache; on a miss it parses the file and stores the result.",
        )
        show.fill()
        display.stage(
            "2. How the keys spread",
            "A consistent-hash ring gives every key one shard. Then all processes ask at random.",
        )
        show.spread()
        if self._servers is None:
            show.stop()
            return
        server = self._servers.servers[VICTIM]
        display.stage(
            f"3. {server.name} is killed (SIGKILL) while the load goes on",
            "Its keys become misses: they are computed each time, which is slower, but no visitor gets an error.",
        )
        show.fail(server)
        display.stage(
            f"4. {server.name} comes back, empty",
            "Each process probes it now and then, lets a few calls through first, then all.",
        )
        show.recover(server)
        show.stop()

    def close(self) -> None:
        """End the workers, empty the namespace on given servers, end our own. May be called at any time, twice too."""
        self._ends.close()

    def conclude(self, show: Show) -> Exit:
        """Sum up, after `close`; return the exit code."""
        outage = show.outage
        bad = len(show.errors) + show.wrong
        rows = [
            (
                "fast",
                f"{len(show.files)} results, {show.speedup:,.0f} times as fast from the cache as computed anew",
            ),
            (
                "steady",
                f"{show.steady.rate:,.0f} answers a second, p99 {seconds(show.steady.wait_at(0.99))}",
            ),
        ]
        if outage is not None:
            noticed = seconds(max(outage.noticed.values(), default=0.0))
            rows.append(
                (
                    "a shard died",
                    f"{outage.missing:.0%} of the keys missed; noticed within {noticed}",
                )
            )
            back = (
                "not back in use by the end"
                if outage.back is None
                else f"back in use after {seconds(outage.back)}"
            )
            again = (
                "" if outage.refilled is None else f", full again after {seconds(outage.refilled)}"
            )
            rows.append(("and came back", back + again))
        rows.append(("errors", f"{len(show.errors)}, and {show.wrong} wrong values"))
        rows += [("", error) for error in show.errors[:1]]
        rows.append(("left behind", self._remains()))
        self._display.summary(f"In {time.monotonic() - self._began:.0f} seconds", rows)
        self._display.say("")
        self._display.say("Next: 'shardcache up' runs shards to try your own code against.")
        return Exit.NO if bad else Exit.FINE

    def _tell(self, shards: int, files: int) -> None:
        where = (
            "local Valkey servers, started for this"
            if self._servers is not None
            else "servers of the given URL"
        )
        self._display.title(f"shardcache demo: {shards} shards ({where}), {self._size} processes")
        several = self._size // 2
        self._display.say(
            f"{self._size - several} of them with ShardCache, {several} with AsyncShardCache and {VISITORS} tasks each."
        )
        self._display.say(
            f"The work: parse and measure the {files} files of this Python's standard library."
        )
        if self._servers is None:
            self._display.say(
                "A namespace of its own, emptied at the end; nothing is killed (that takes local shards: leave out --url)."
            )

    def _sweep(self, cache: ShardCache) -> None:
        cache.clear()
        self._left = cache.stats().dropped_writes

    def _remains(self) -> str:
        if self._servers is not None:
            return "nothing: servers, processes and files of this demo are gone"
        if self._left:
            return f"what lies on shards that are out expires within {TTL:g} s"
        return "nothing: the demo's keys are deleted, its processes are gone"


def _check(cache: ShardCache) -> None:
    for answer in cache.ping().values():
        answer.raise_for_error()
