"""What the demo shows on a Redis Cluster: slots that move, and a replica that takes over."""

import time
from collections import Counter
from collections.abc import Mapping

from shardcache.cli.demo.stages import LOOK_EVERY, Show, every, figures, seconds
from shardcache.cli.demo.tally import Tally
from shardcache.cli.demo.worker import Report
from shardcache.embedded import LocalCluster
from shardcache.embedded.server import LocalServer
from shardcache.errors import ServerNotStarted

__all__ = ("ClusterShow", "client_name", "losses", "takeover")

# Parts of the whole time.
MOVE, FAILOVER = 0.14, 0.26
MAP_LIMIT = 30.0  # seconds until the parent's client must know the nodes


class ClusterShow(Show):
    """The stages on a cluster: `fill`, `spread`, `move`, `fail_over`, in this order."""

    def move(self, cluster: LocalCluster, giver: LocalServer, taker: LocalServer) -> None:
        """Slots of the demo's files move to another master, key by key, under load.

        ``cluster``: the servers.
        ``giver``, ``taker``: who has the slots, and who gets them.
        """
        tally = Tally()
        # The slots of the giver that have files, and how many.
        slots = Counter(
            found.slot
            for found in map(self._cache.explain, self.files)
            if found.shard == client_name(giver)
        )
        waiting = [slot for slot in slots if slot is not None]
        moved: list[int] = []
        followed: set[int] = set()

        # With each report one more slot moves, while the workers go on.
        def see(report: Report) -> bool:
            if any(kind == "topology_changed" for _, kind, _ in report.events):
                followed.add(report.worker)
            if waiting:
                slot = waiting.pop()
                for _ in cluster.slot_migration(slot, taker, batch=1):
                    pass
                moved.append(slot)
            return False

        label = f"{giver.name} to {taker.name}"
        self._stretch(label, self._seconds * MOVE, tally, see)
        # Show what came of it.
        keys = sum(slots[slot] for slot in moved)
        self._display.table(
            [
                ("errors", f"{len(tally.errors)}"),
                ("moved", f"{len(moved)} slots with {keys} files, {label}"),
                ("misses", f"{tally.misses}: what has moved is asked for where it is"),
                ("new map", f"{len(followed)} of {self._crew.size} processes have it"),
                *figures(tally),
            ]
        )
        self.told.append(("slots moved", f"{keys} files with them, {tally.misses} misses"))

    def fail_over(self, server: LocalServer) -> None:
        """A master is killed under load; its replica takes over, with its files.

        ``server``: the master.
        """
        tally = Tally()
        theirs = [
            file for file in self.files if self._cache.explain(file).shard == client_name(server)
        ]
        killed = time.monotonic()
        with self._interrupts.shield():
            server.kill()
        # Watch for the moment when the client knows another master of its slots.
        looks = every(LOOK_EVERY)
        taken_over: float | None = None

        def see(_: Report) -> bool:
            nonlocal taken_over
            if taken_over is None and next(looks):
                self._cache.get_many(theirs)
                if all(self._cache.explain(file).shard != client_name(server) for file in theirs):
                    taken_over = time.monotonic() - killed
            return False

        self._stretch(f"without {server.name}", self._seconds * FAILOVER, tally, see)
        # Show what came of it, and what the replica lacked.
        lost = len(theirs) - len(self._cache.get_many(theirs))
        took = takeover(taken_over)
        self._display.table(
            [
                ("errors", f"{len(tally.errors)}"),
                ("misses", f"{tally.misses}: computed anew while nobody served their slots"),
                ("taken over", took),
                ("lost", losses(lost, len(theirs), taken_over)),
                *figures(tally),
            ]
        )
        self.told.append(("a master died", took))

    def _spread_over(self) -> Mapping[str, int]:
        """Return how many files lie on each master."""
        # The parent's client has asked nothing so far.
        end = time.monotonic() + MAP_LIMIT
        while not self._cache.explain(self.files[0]).shard:
            if time.monotonic() > end:
                raise ServerNotStarted("the client got no map of the cluster")
            self._cache.contains(self.files[0])
        return Counter(self._cache.explain(file).shard for file in self.files)


def takeover(after: float | None) -> str:
    """Say when the replica has taken over, in seconds after the kill; None: not so far."""
    if after is None:
        return "not by the end of this stage"
    return f"{seconds(after)} after the kill its replica serves its slots"


def losses(lost: int, files: int, taken_over: float | None) -> str:
    """Say how many files of a killed master are lost. Before the takeover nobody can tell."""
    if taken_over is None:
        return "not known before that: give the demo more --seconds"
    return f"{lost} of its {files} files are not in the cache now"


def client_name(server: LocalServer) -> str:
    """Return what a client of the cluster calls a server."""
    return f"127.0.0.1:{server.port}"
