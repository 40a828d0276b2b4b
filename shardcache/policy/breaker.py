"""The breaker of one shard: what is out of order is left alone until it answers again.

Theory of operation
-------------------
A cache call must not wait for a shard that is known not to answer (G4). So every shard has
a breaker, and a call first looks at its state:

    state       calls                    leaves it
    ---------   ----------------------   -------------------------------------------------
    CLOSED      all go through           to OPEN after `failures` failures in a row, or
                                         after one lonely timeout: that call has already
                                         cost a whole deadline, the next one shall not
    OPEN        none goes through        to HALF_OPEN when the prober had an answer, or
                                         when the shard has moved to another address
    HALF_OPEN   at most `allowance`      to CLOSED when the allowance has doubled past
                at once                  FULL; to OPEN at the first failure, timeouts
                                         that are not lonely apart

A timeout is lonely if the shard has answered no other call meanwhile. If it has, one request was
lost, or one connection stands still: that counts as any failure, and the next answer makes up for
it. Otherwise one lost request in a hundred would keep a shard out that serves all the others.

A prober asks while the state is OPEN: first after about `first_delay`, then at intervals
that double up to `max_delay`, each shortened by a random part so that a fleet does not probe
in step. One wrong ejection (the server was busy for one deadline) costs a tenth of a second
of misses; a server that is down for an hour costs a ping every second or two per process.

HALF_OPEN exists so that a server that has just come up does not meet the whole load in one
moment: it lets one call through, then two, then four. A call that is let through takes a place,
and gives it back when it ends, however it ends. Each time the state becomes HALF_OPEN a new
`period` of trials begins, and all places are free: a call that was let in before then, in another
state or period, has no place to give back.

The delay only falls back to `first_delay` from CLOSED, so a shard that flaps is asked ever
more seldom.

The machine holds no lock, reads no clock and starts nothing: its user serialises the
calls and acts on what they return.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

__all__ = ("Breaker", "BreakerPolicy", "State")

FULL = 16  # calls at once in HALF_OPEN after which the shard counts as back


class State(Enum):
    """Where the machine stands."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When to give up on a shard, and how to ask after it. Delays in seconds."""

    failures: int = 3
    first_delay: float = 0.1
    max_delay: float = 2.0


class Breaker:
    """The state of one shard.

    ``may_open``: called before it opens: whether one more shard may be out.
    """

    __slots__ = (
        "_may_open",
        "_policy",
        "allowance",
        "failures",
        "period",
        "probes",
        "state",
        "trials",
    )

    def __init__(self, policy: BreakerPolicy, may_open: Callable[[], bool] = lambda: True) -> None:
        self._policy = policy
        self._may_open = may_open
        self.state = State.CLOSED
        self.failures = 0  # in a row
        self.probes = 0  # probes since CLOSED
        self.allowance = 0  # calls at once, in HALF_OPEN
        self.trials = 0  # calls under way, in HALF_OPEN
        self.period = 0  # which period of trials this is, or was last

    def admit(self) -> bool:
        """Whether a call may go out now. In HALF_OPEN it takes one of the places."""
        if self.state is State.CLOSED:
            return True
        if self.state is State.HALF_OPEN and self.trials < self.allowance:
            self.trials += 1
            return True
        return False

    def succeeded(self, period: int | None = None) -> bool:
        """Note an answer; return whether this brought the shard back into service.

        ``period``, here and below: the one that the call has a place of, 0 if it has none. None:
        the caller does not keep that; it is taken for one of this period.
        """
        if self.state is State.HALF_OPEN:
            self._free(period)
            self.failures = 0
            self.allowance *= 2
            if self.allowance > FULL:
                self._close()
                return True
        elif self.state is State.CLOSED:
            self.failures = 0
        return False

    def failed(
        self, *, timeout: bool = False, lonely: bool = True, period: int | None = None
    ) -> bool:
        """Note a call without an answer; return whether this took the shard out of service."""
        if self.state is State.OPEN:  # a call that had been under way when it opened
            return False
        if self.state is State.CLOSED:
            self.failures += self._policy.failures if timeout and lonely else 1
            if self.failures < self._policy.failures or not self._may_open():
                return False
        elif timeout and not lonely:
            self._free(period)
            self.failures += 1
            if self.failures < self._policy.failures:
                return False
        self.state = State.OPEN
        return True

    def abandoned(self, period: int | None = None) -> None:
        """Give back the place of a call that ended without telling anything about the shard."""
        if self.state is State.HALF_OPEN:
            self._free(period)

    def probed(self, *, answered: bool) -> None:
        """Note what the prober heard."""
        if self.state is State.OPEN and answered:
            self.state = State.HALF_OPEN
            self.allowance = 1
            self.failures = 0
            self.new_period()

    def moved(self) -> None:
        """Forget what the former address did: calls are let through to the new one, on trial."""
        self.failures = self.probes = 0
        if self.state is not State.CLOSED:
            self.state = State.HALF_OPEN
            self.allowance = 1
            self.new_period()

    def new_period(self) -> None:
        """Free all places: whoever has one cannot give it back any more."""
        self.trials = 0
        self.period += 1

    def next_delay(self, random: float) -> float:
        """Seconds until the next probe; ``random`` in [0, 1) takes off up to a half."""
        delay = min(self._policy.first_delay * 2.0 ** min(self.probes, 32), self._policy.max_delay)
        self.probes += 1
        return delay * (1 - random / 2)

    def _free(self, period: int | None) -> None:
        if period is None or period == self.period:
            self.trials = max(self.trials - 1, 0)

    def _close(self) -> None:
        self.state = State.CLOSED
        self.failures = self.probes = self.allowance = self.trials = 0
