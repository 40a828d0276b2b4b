"""A simulated server: a clock of its own, one life after the other, and those who wait for a push."""

from typing import TYPE_CHECKING, Any

from shardcache.testing.simulation.database import Database
from shardcache.testing.simulation.scenario import ServerPlan
from shardcache.testing.simulation.scripts import run

if TYPE_CHECKING:
    from shardcache.testing.simulation.connection import Message

__all__ = ("Server",)


class Server:
    """One voter."""

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
        self.back = 0.0  # true time until which it is not there
        self.lives = 0
        self.life = b"run-%d-0" % place
        self.saved: Database | None = None  # what it has on disk
        self.waiting: dict[bytes, list[Message]] = {}
        self._rate = 1 + plan.drift
        self._wall = plan.wall
        self.started = plan.wall - plan.age

    def clock(self, now: float) -> float:
        """The server's wall clock, in seconds."""
        return self._wall + self._rate * now

    def true_span(self, seconds: float) -> float:
        """How long ``seconds`` of this clock take."""
        return seconds / self._rate

    def age(self, now: float) -> float:
        """Seconds that it has been up at least: INFO has whole seconds, between two readings that are cut off."""
        return max(int(self.clock(now)) - int(self.started) - 1.0, 0.0)

    def execute(self, command: tuple[Any, ...], now: float) -> Any:
        """Carry out one command."""
        self.db.now = int((self._wall + self._rate * now) * 1e6)
        return self.pop(command[1]) if command[0] == b"BLPOP" else run(self.db, command)

    def pop(self, key: bytes) -> list[bytes] | None:
        """What BLPOP answers when it need not wait; None if it must."""
        value = self.db.pop(key)
        return None if value is None else [key, value]

    def save(self, _: object = None) -> None:
        """Write to disk what it knows now."""
        self.saved = self.db.copy()

    def restart(self, now: float, lasts: float, data: Database | None) -> None:
        """End this life; be back after a while, with ``data`` (None: with nothing)."""
        self.lives += 1
        self.life = b"run-%d-%d" % (self.place, self.lives)
        self.back = now + lasts
        self.started = self.clock(self.back)
        self.frozen = 0.0
        self.waiting.clear()
        self.db = data or Database()

    def flush(self) -> None:
        """Lose all data, and go on."""
        self.db = Database()

    def jump(self, seconds: float) -> None:
        """Set the clock; the time since the start is read from it as well."""
        self._wall += seconds
