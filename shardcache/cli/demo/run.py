"""The demo as a whole: starts what it needs, runs the stages, and removes everything at the end."""

import os
import secrets
import time
from collections.abc import Mapping
from contextlib import ExitStack

from shardcache.cli.demo.async_worker import VISITORS
from shardcache.cli.demo.cluster_stages import ClusterShow, client_name
from shardcache.cli.demo.crew import Crew
from shardcache.cli.demo.display import choose_display
from shardcache.cli.demo.near_stage import NearShow
from shardcache.cli.demo.stages import Show, seconds
from shardcache.cli.demo.worker import Site, open_cache
from shardcache.cli.demo.workload import find_sources, library
from shardcache.cli.exit_codes import Exit
from shardcache.cli.signals import Interrupts
from shardcache.client import ShardCache
from shardcache.embedded import LocalCluster, LocalShards
from shardcache.errors import ServerNotStarted

__all__ = ("Demo",)

# Seconds. If the demo is killed, the keys that it leaves on given servers expire by themselves.
TTL = 300.0
VICTIM = 1  # index of the shard that is killed: any would do
# Milliseconds without an answer after which a cluster holds a master for dead.
QUICK = {"cluster-node-timeout": "500"}


class Demo:
    """One run of the demo: `start`, `run`, `close`, `conclude`, in this order.

    ``url``: the shards; None starts local ones.
    ``shards``: how many local shards, or masters.
    ``cluster``: whether the local servers are a Redis Cluster, each master with a replica.
    ``near``: whether to show a near cache in the place of an outage.
    ``seconds``: how long the stages take together.
    """

    def __init__(
        self,
        url: str | None,
        *,
        shards: int,
        seconds: float,
        cluster: bool = False,
        near: bool = False,
    ) -> None:
        self._url = url
        self._near = near
        self._seconds = seconds
        self._size = min(max(3, os.cpu_count() or 1), 8)
        self._display = choose_display()
        self._servers: LocalShards | LocalCluster | None = None
        if cluster:
            self._servers = LocalCluster(shards, replicas=1, options=QUICK)
        elif not url:
            self._servers = LocalShards(shards)
        self._left = 0
        self._ends = ExitStack()
        self._began = time.monotonic()

    def start(self, interrupts: Interrupts) -> Show:
        """Start servers and workers.

        ``interrupts``: delays Ctrl-C while servers and processes start.

        Raises `ServerNotStarted`, or `ShardError` if a given server does not answer.
        """
        # The work: the source files of the standard library.
        root = library()
        files = find_sources(root)
        if not files:
            raise ServerNotStarted(
                f"the demo measures the standard library's source files, and {root} has none"
            )
        # The shards: local servers, or those of the URL in a namespace of the demo's own.
        if self._servers is not None:
            with interrupts.shield():
                self._ends.callback(self._servers.close)
                self._servers.start()
        nodes: str | Mapping[str, str] = self._url or ""
        if self._servers is not None:
            cluster = isinstance(self._servers, LocalCluster)
            nodes = self._servers.url if cluster else self._servers.urls
        site = Site(nodes, f"shardcache-demo-{secrets.token_hex(4)}", TTL, root)
        cache = open_cache(ShardCache, site)
        self._ends.callback(cache.close)
        if self._servers is None:
            _check(cache)
            self._ends.callback(self._sweep, cache)
        self._tell(cache, len(files))
        # The worker processes, each with a client of its own.
        crew = Crew(self._size, site)
        self._ends.callback(crew.close)
        with interrupts.shield():
            crew.start()
        with self._display.progress("starting the processes", 1):
            crew.ready()
        kind: type[Show] = NearShow if self._near else Show
        if isinstance(self._servers, LocalCluster):
            kind = ClusterShow
        return kind(cache, crew, self._display, interrupts, files, self._seconds)

    def run(self, show: Show) -> None:
        """Go through the stages.

        ``show``: what `start` returned.
        """
        display = self._display
        # Stages 1 and 2 need no control over the servers.
        display.stage(
            "1. Compute once, then read",
            "Each process asks the cache; on a miss it parses the file and stores the result.",
        )
        show.fill()
        cluster = isinstance(self._servers, LocalCluster)
        rule = "A hash gives every key one of 16,384 slots" if cluster else "A consistent-hash ring"
        rule += ", each of which one master serves" if cluster else " gives every key one shard"
        display.stage("2. How the keys spread", f"{rule}. Then all processes ask at random.")
        # A cluster's client knows its nodes by their addresses; the stages below say "node-1".
        nodes = self._servers.servers if isinstance(self._servers, LocalCluster) else []
        show.spread({client_name(node): node.name for node in nodes})
        if isinstance(self._servers, LocalCluster) and isinstance(show, ClusterShow):
            self._change(self._servers, show)
        elif isinstance(self._servers, LocalShards) and isinstance(show, NearShow):
            self._keep_near(self._servers, show)
        elif isinstance(self._servers, LocalShards):
            self._break(self._servers, show)
        show.stop()

    def _break(self, servers: LocalShards, show: Show) -> None:
        """Stages 3 and 4: a server is killed, and started again; only local ones."""
        display, server = self._display, servers.servers[VICTIM]
        display.stage(
            f"3. {server.name} is killed (SIGKILL) while the load goes on",
            "Its keys become misses: they are computed each time, which is slower, but no visitor "
            "gets an error.",
        )
        show.fail(server)
        display.stage(
            f"4. {server.name} comes back, empty",
            "Each process probes it now and then, lets a few calls through first, then all.",
        )
        show.recover(server)

    def _keep_near(self, servers: LocalShards, show: NearShow) -> None:
        """Stage 3: the load without and with near caches; only local servers, which are counted."""
        self._display.stage(
            "3. The same load without and with a near cache",
            "Each process keeps what it has read in its memory; a server tells of each write. One "
            "file's value is changed five times a second meanwhile.",
        )
        show.compare(list(servers.urls.values()))

    def _change(self, cluster: LocalCluster, show: ClusterShow) -> None:
        """Stages 3 and 4 on a cluster: slots move, and a replica takes over."""
        display, (giver, victim, *_) = self._display, cluster.servers
        display.stage(
            f"3. Slots move from {giver.name} to {victim.name} while the load goes on",
            "Their keys move one by one. Until a process has the new map, it is redirected (MOVED, "
            "ASK).",
        )
        show.move(cluster, giver, victim)
        display.stage(
            f"4. {victim.name} is killed (SIGKILL), and its replica takes over",
            "Its keys become misses until the other masters have made the replica a master; then "
            "they are there again.",
        )
        show.fail_over(victim)

    def close(self) -> None:
        """End the workers, empty the namespace on given servers, and end local servers.

        May be called at any time, and more than once.
        """
        self._ends.close()

    def conclude(self, show: Show) -> Exit:
        """Print the summary, after `close`; return the exit code.

        ``show``: what `start` returned, after its stages.
        """
        # The figures of stages 1 and 2.
        bad = len(show.errors) + show.wrong
        rows = [
            (
                "fast",
                (
                    f"{len(show.files)} results, {show.speedup:,.0f} times as fast from the cache "
                    "as computed anew"
                ),
            ),
            (
                "steady",
                (
                    f"{show.steady.rate:,.0f} answers a second, p99 "
                    f"{seconds(show.steady.wait_at(0.99))}"
                ),
            ),
        ]
        rows += show.told  # of stages 3 and 4, if there were any
        # Errors, and the first of them in words; then what is left of the demo.
        rows.append(("errors", f"{len(show.errors)}, and {show.wrong} wrong values"))
        rows += [("", error) for error in show.errors[:1]]
        rows.append(("left behind", self._remains()))
        self._display.summary(f"In {time.monotonic() - self._began:.0f} seconds", rows)
        up = (
            "shardcache up --cluster"
            if isinstance(self._servers, LocalCluster)
            else "shardcache up"
        )
        self._display.say("")
        self._display.say(f"Next: '{up}' runs servers to try your own code against.")
        return Exit.NO if bad else Exit.FINE

    def _tell(self, cache: ShardCache, files: int) -> None:
        what = f"{len(cache.stats().shards)} shards (servers of the given URL)"
        if isinstance(self._servers, LocalCluster):
            masters = len(self._servers.servers) // 2
            what = f"a Redis Cluster of {masters} masters, each with a replica (local servers)"
        elif self._servers is not None:
            count = len(self._servers.servers)
            what = f"{count} shards (local servers, started for this)"
        self._display.title(f"shardcache demo: {what}, {self._size} processes")
        several = self._size // 2
        self._display.say(
            f"{self._size - several} of them with ShardCache, {several} with AsyncShardCache and "
            f"{VISITORS} tasks each."
        )
        self._display.say(
            f"The work: parse and measure the {files} files of this Python's standard library."
        )
        if self._servers is None:
            self._display.say(
                "A namespace of its own, emptied at the end; nothing is killed (that takes local "
                "shards: leave out --url)."
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
