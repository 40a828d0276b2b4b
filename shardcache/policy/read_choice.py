"""Which server of a slot a read goes to: its primary, or one of the replicas.

Theory of operation
-------------------
"replica": the replicas take turns, those of each primary by themselves.

"nearest": the server whose round trip is the shortest, the primary among them. Round trips are
those of the reads themselves. What is kept of them falls with a shorter one at once, and rises by
an eighth of the difference with a longer one (the gain of TCP's smoothed round trip, RFC 6298): so
a batch that takes long to send, or a pause, does not count for much, and a way that has become
longer does after a few reads. Each server has the first reads in turn. After that one that was not
read from for a while gets one read, so that a way that has become shorter is noticed.

A server that is out is passed over. If that leaves none, it is the primary, whose breaker says so.

Nothing here is locked: threads that come at once may have the same turn, or measure the same server
twice.
"""

from collections.abc import Callable, Sequence
from itertools import count
from math import inf

__all__ = ("ReadChoice",)

FIRST = 3  # reads that each server has before they are compared: the first one may connect
INTERVAL = 10.0  # seconds after which a server that was not read from is measured again
_GAIN = 1 / 8


class _RoundTrip:
    """What is known of one server.

    ``asked``: how often it was chosen to be measured.
    ``again_at``: when it is to be measured again.
    ``seconds``: its round trip; infinite if it is not known.
    """

    __slots__ = ("again_at", "asked", "seconds")

    def __init__(self) -> None:
        self.asked = 0
        self.again_at = -inf
        self.seconds = inf


class ReadChoice:
    """Chooses a server for each read.

    ``nearest``: whether the nearest is chosen; else the replicas take turns.
    ``clock``: returns seconds.
    """

    __slots__ = ("_clock", "_trips", "_turns", "nearest")

    def __init__(self, *, nearest: bool, clock: Callable[[], float]) -> None:
        self.nearest = nearest
        self._clock = clock
        self._trips: dict[int, _RoundTrip] = {}
        self._turns: dict[int, count[int]] = {}

    def pick(self, primary: int, replicas: Sequence[int], is_out: Callable[[int], bool]) -> int:
        """Return the number of the server that the next read goes to.

        ``primary``: the number of the primary.
        ``replicas``: those of its replicas.
        ``is_out``: says whether a server is out of service.
        """
        up = [server for server in replicas if not is_out(server)]
        if not up:
            return primary
        if not self.nearest:
            turn = self._turns.setdefault(primary, count())
            return up[next(turn) % len(up)]
        if not is_out(primary):
            up.insert(0, primary)
        return self._nearest(up)

    def measured(self, server: int, seconds: float) -> None:
        """Note how long a read took, from its beginning to its answer.

        ``server``: the number of the server that answered.
        """
        if self.nearest:
            trip = self._trip(server)
            longer = seconds - trip.seconds
            trip.seconds = seconds if longer <= 0 else trip.seconds + longer * _GAIN
            trip.again_at = self._clock() + INTERVAL

    def _nearest(self, servers: Sequence[int]) -> int:
        now = self._clock()
        trips = {server: self._trip(server) for server in servers}
        due = [
            server for server, trip in trips.items() if trip.asked < FIRST or trip.again_at <= now
        ]
        if not due:
            return min(servers, key=lambda server: trips[server].seconds)
        chosen = min(due, key=lambda server: trips[server].asked)
        # Before the answer: of many calls at once, one measures.
        trips[chosen].asked += 1
        trips[chosen].again_at = now + INTERVAL
        return chosen

    def _trip(self, server: int) -> _RoundTrip:
        return self._trips.get(server) or self._trips.setdefault(server, _RoundTrip())
