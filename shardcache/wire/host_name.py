"""What this process knows of one host name: its last good addresses, and the look-up under way.

Theory of operation
-------------------
getaddrinfo takes no deadline, and where a name server hangs it may take minutes. So a look-up runs
in a thread of its own, at most one for each name at a time, for all clients and loops together.
Calls use what is known:

    what is known            what a call does that opens a connection
    ----------------------   ----------------------------------------------------------------
    nothing                  waits for the look-up, until its own deadline. All that come
                             meanwhile wait for the same one
    an answer                takes it
    an answer older than     begins a look-up, which has a head start of `HEAD_START` seconds.
    `Options.dns_ttl`        If that is over, it takes the old answer; the look-up goes on
    an answer without an     begins a look-up too, waits `SECOND_LOOK` seconds for it at most,
    address that can be      and tries the addresses that are new
    connected to

A look-up that fails, or does not end, changes nothing: the last good answer stays. The users of the
name are told that, and of the next good answer. If that has none of the addresses of the one
before, the name has moved: the users are told, and close the connections to the former addresses
when they come back. As long as one address is in both, connections stay, because the answers of
some names go round.

A forked child has the answers of its parent, and none of its look-ups.
"""

import math
import random
import time
import weakref
from collections.abc import Callable
from typing import NamedTuple, Protocol

from shardcache.events import Hook
from shardcache.wire.endpoint import Endpoint, look_up
from shardcache.wire.lookup_threads import LookupThreads
from shardcache.wire.shared_call import SharedCall

__all__ = ("HEAD_START", "LATE", "SECOND_LOOK", "STEP", "Answer", "HostName", "NameUser")

HEAD_START = 0.02
SECOND_LOOK = 0.25
LATE = 2.0  # seconds after which a look-up that goes on counts as one that hangs
PAUSE = 1.0  # seconds between the beginnings of two look-ups, where nothing waits for the answer
STEP = "looking up the host name"


class NameUser(Protocol):
    """A shard that is reached by a host name. It may be told in any thread, and must not raise."""

    def on_lookup(self, error: OSError | None) -> None:
        """Hear that a look-up has failed or takes too long; None: that there is an answer."""

    def on_name_moved(self) -> None:
        """Hear that the name stands for other addresses."""


class Answer(NamedTuple):
    """What the system said last.

    ``endpoints``: without a port.
    ``at``: when it was asked.
    ``early``: the part of its time by which it is taken for old before that, 0 to a quarter.
    """

    endpoints: list[Endpoint]
    at: float
    early: float


class _LookUp(SharedCall[Answer]):
    __slots__ = ()

    def _begin(self, run: Callable[[], None], hook: Hook | None) -> None:
        LookupThreads.of_process().run(run, hook)


class HostName:
    """One name; see `HostName.of`.

    ``clock``: the time in seconds, of all ages.
    ``random``: random numbers from 0 to 1.
    """

    __slots__ = ("__weakref__", "_begun", "_call", "_clock", "_host", "_random", "_users", "answer")

    def __init__(
        self,
        host: str,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._host = host
        self._clock = clock
        self._random = random
        self._call = _LookUp(STEP)
        self._begun = -math.inf  # when a look-up was last begun
        self._users: weakref.WeakValueDictionary[int, NameUser] = weakref.WeakValueDictionary()
        self.answer: Answer | None = None

    @staticmethod
    def of(host: str) -> "HostName":
        """Return what this process has for ``host``, as long as anybody uses it."""
        return _names.get(host) or _names.setdefault(host, HostName(host))

    def add_user(self, user: NameUser) -> None:
        """Tell ``user``, which is held weakly, of look-ups from now on."""
        self._users[id(user)] = user

    def remove_user(self, user: NameUser) -> None:
        """Tell ``user`` no more."""
        self._users.pop(id(user), None)

    @property
    def runs_for(self) -> float | None:
        """The seconds since the look-up under way began; None: there is none."""
        return self._clock() - self._begun if self._call.running else None

    @property
    def rested(self) -> float:
        """The seconds since a look-up was last begun."""
        return self._clock() - self._begun

    def is_old(self, ttl: float) -> bool:
        """Whether the answer is older than ``ttl`` seconds, by up to a quarter less."""
        answer = self.answer
        return answer is None or self._clock() - answer.at >= ttl * (1 - answer.early)

    def get(self, seconds: float, clock: Callable[[], float], hook: Hook | None) -> list[Endpoint]:
        """Return the answer of the look-up under way, or of a new one, if it comes in time.

        Raises OSError (`NotInTime`, `NotBegun`, or that of the look-up).

        ``seconds``: to wait, by ``clock``.
        """
        self._note_begin()
        return self._call.get(self._ask, clock() + seconds, clock, hook).endpoints

    async def get_async(
        self, seconds: float, clock: Callable[[], float], hook: Hook | None
    ) -> list[Endpoint]:
        """As `get`, on an event loop; ``clock`` is its own."""
        self._note_begin()
        return (await self._call.get_async(self._ask, clock() + seconds, hook)).endpoints

    def _note_begin(self) -> None:
        if not self._call.running:
            self._begun = self._clock()

    def _ask(self) -> Answer:
        at = self._clock()
        try:
            found = look_up(self._host)
        except OSError as error:
            for user in self._all_users():
                user.on_lookup(error)
            raise
        former, answer = self.answer, Answer(found, at, self._random() / 4)
        self.answer = answer
        moved = former is not None and not set(former.endpoints) & set(found)
        for user in self._all_users():
            user.on_lookup(None)
            if moved:
                user.on_name_moved()
        return answer

    def _all_users(self) -> list[NameUser]:
        # A list of the references is made in one step, whatever other threads do meanwhile.
        return [user for ref in self._users.valuerefs() if (user := ref()) is not None]


_names: weakref.WeakValueDictionary[str, HostName] = weakref.WeakValueDictionary()
