"""A simulated server: it has a clock of its own, one life after another, and waiting clients."""

from typing import TYPE_CHECKING, Any

from shardcache.testing.simulation.database import Database
from shardcache.testing.simulation.scenario import ServerPlan
from shardcache.testing.simulation.scripts import run

if TYPE_CHECKING:
    from shardcache.testing.simulation.connection import Message

__all__ = ("Server",)


class Server:
    """One voter.

    ``place``: its index among the servers.
    ``plan``: how its clock runs, and how long it has been up.
    """

    __slots__ = (
        "_rate",
        "_wall",
        "back",
        "db",
        "frozen",
        "life",
        "lives",
        "name",
        "place",
        "saved",
        "started",
        "waiting",
    )

    def __init__(self, place: int, plan: ServerPlan) -> None:
        self.place = place
        self.name = f"voter-{place + 1}"
        self.db = Database()
        self.frozen = 0.0  # true time until which it does nothing (SIGSTOP)
        self.back = 0.0  # true time until which it is down
        self.lives = 0
        self.life = b"run-%d-0" % place
        self.saved: Database | None = None  # what it has on disk
        self.waiting: dict[bytes, list[Message]] = {}
        self._rate = 1 + plan.drift
        self._wall = plan.wall
        self.started = plan.wall - plan.age

    def clock(self, now: float) -> float:
        """Return what the server's wall clock shows, in seconds."""
        return self._wall + self._rate * now

    def true_span(self, seconds: float) -> float:
        """Return how long ``seconds`` of this clock take in true time."""
        return seconds / self._rate

    def age(self, now: float) -> float:
        """Return the seconds that it has been up at least.

        INFO has whole seconds: the difference of two readings of the clock that are cut off.
        """
        return max(int(self.clock(now)) - int(self.started) - 1.0, 0.0)

    def execute(self, command: tuple[Any, ...], now: float) -> Any:
        """Carry out one command."""
        self.db.now = int((self._wall + self._rate * now) * 1e6)
        return self.pop(command[1]) if command[0] == b"BLPOP" else run(self.db, command)

    def pop(self, key: bytes) -> list[bytes] | None:
        """Return the reply to BLPOP; None if it must wait."""
        value = self.db.pop(key)
        return None if value is None else [key, value]

    def save(self, _: object = None) -> None:
        """Write the data of now to disk."""
        self.saved = self.db.copy()

    def restart(self, now: float, lasts: float, data: Database | None) -> None:
        """End this life, and begin another one.

        ``now``: true time.
        ``lasts``: seconds until it is up again.
        ``data``: what it has then; None for nothing.
        """
        self.lives += 1
        self.life = b"run-%d-%d" % (self.place, self.lives)
        self.back = now + lasts
        self.started = self.clock(self.back)
        self.frozen = 0.0
        self.waiting.clear()
        self.db = data or Database()

    def fail_over(self, now: float, lasts: float, data: Database) -> None:
        """Let a replica take its place, which has been up for as long as the server.

        The parameters are those of `restart`.
        """
        started = self.started
        self.restart(now, lasts, data)
        self.started = started

    def flush(self) -> None:
        """Lose all data, and go on."""
        self.db = Database()

    def jump(self, seconds: float) -> None:
        """Move the clock; the server's uptime is read from the same clock."""
        self._wall += seconds
