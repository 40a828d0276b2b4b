"""Hears from a Sentinel when a master has moved, so that the next poll need not be waited for.

A message says no more than that it is time to ask: what counts is what all Sentinels answer then.
So a Sentinel that lies, repeats itself or is behind costs a poll, and a lost message costs the time
until the next one.

| state | what happens | next |
|---|---|---|
| connecting | subscribed at the next Sentinel: `refresh`, for what was missed | listening |
| | failed | pausing |
| listening | a message | `refresh`; listening |
| | nothing for `QUIET` seconds | a PING; listening |
| | nothing for ``timeout`` behind the PING | pausing |
| | closed, or what is no message came | pausing |
| pausing | until the pause is over, which grows, with jitter | connecting |
| any | the listener is closed, or nobody has it any more | the thread ends |

The pause is short again after a subscription that has lasted for `QUIET` seconds.

One thread per client and process. A forked child has none until `check` is called there.
"""

import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress

from shardcache.errors import ShardError, ThreadNotStarted
from shardcache.events import Hook
from shardcache.system.forked import ForkedObjects
from shardcache.system.threads import Worker
from shardcache.urls import Address
from shardcache.wire import Dialer
from shardcache.wire.sync.subscription import Subscription

__all__ = ("SentinelListener",)

QUIET = 2.0  # seconds of silence before a sign of life is asked for
FIRST_PAUSE = 0.1  # seconds before it connects again
LONGEST_PAUSE = 5.0
# What tells of another master: of the Sentinel that leads the failover (the first one comes before
# the other replicas have been reconfigured), and of those that hear of it.
CHANNELS = (b"+promoted-slave", b"+switch-master", b"+config-update-from", b"+reset-master")
_LOOK = 1.0  # seconds after which the thread looks whether it is still needed
_forked = ForkedObjects()


class SentinelListener:
    """Listens to one Sentinel at a time, and calls ``refresh`` when a master may have moved.

    ``addresses``: returns the Sentinels there are, at least one.
    ``dialer``: makes what connects to one of them, in RESP2.
    ``refresh``: called in the thread of the listener; it must neither block nor raise.
    ``timeout``: seconds for connecting, and for an answer to PING.
    ``hook``: gets the event if no thread can be started.
    ``clock``: the time in seconds.
    ``random``: random numbers from 0 to 1.
    """

    __slots__ = (
        "__weakref__",
        "_addresses",
        "_clock",
        "_closed",
        "_dialer",
        "_dialers",
        "_failures",
        "_hook",
        "_random",
        "_refresh",
        "_subscription",
        "_timeout",
        "_turn",
        "_worker",
    )

    def __init__(
        self,
        addresses: Callable[[], Sequence[Address]],
        dialer: Callable[[Address], Dialer],
        refresh: Callable[[], object],
        *,
        timeout: float,
        hook: Hook | None,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._addresses = addresses
        self._dialer = dialer
        self._refresh = refresh
        self._timeout = timeout
        self._hook = hook
        self._clock = clock
        self._random = random
        self._closed = False
        self._worker: Worker | None = None
        self._subscription: Subscription | None = None
        # One dialer for each Sentinel: it remembers what it has looked up.
        self._dialers: dict[Address, Dialer] = {}
        self._failures = 0
        self._turn = int(random() * 1000)  # so that not all processes listen to the same one
        _forked.add(self)

    def check(self) -> None:
        """Start the thread if there is none: at first, in a forked child, after a failed start."""
        running = self._worker
        if self._closed or (running is not None and running.is_alive()):
            return
        listener = weakref.ref(self)
        # Two calls that came at once may start one each: the last one stays.
        self._worker = worker = Worker("Sentinel listener", lambda: _listen(listener, worker))
        with suppress(ThreadNotStarted):  # an event has told; polling goes on
            worker.begin(self._hook, "listen")

    def close(self) -> None:
        """End the thread and its connection. It is not waited for."""
        self._closed = True
        if self._worker is not None:
            self._worker.end()
        subscription = self._subscription
        if subscription is not None:
            subscription.end()

    def __del__(self) -> None:
        if hasattr(self, "_subscription"):  # the constructor has not raised
            self.close()

    def after_fork(self) -> None:
        """Forget the thread of the parent, and its connection, which stays the parent's."""
        self._worker = None
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.close()  # this process' end of it; the parent's stays open

    # What the thread does.

    def belongs_to(self, worker: Worker) -> bool:
        """Return whether ``worker`` is the thread that listens."""
        return self._worker is worker and not self._closed

    def connect(self) -> Subscription | None:
        """Return a subscription at the next Sentinel, or None; say that what was missed is due."""
        self._turn += 1
        addresses = self._addresses()
        address = addresses[self._turn % len(addresses)]
        dial = self._dialers.get(address)
        if dial is None:
            self._dialers = {one: old for one, old in self._dialers.items() if one in addresses}
            dial = self._dialers[address] = self._dialer(address)
        deadline = self._clock() + self._timeout
        try:
            found = Subscription(dial(deadline), CHANNELS, deadline)
        except (OSError, ShardError):
            return None
        self._subscription = found
        self.tell()
        return found

    def tell(self) -> None:
        """Say that a master may have moved."""
        self._refresh()

    def over(self, listened: float) -> float:
        """Note the end of a subscription or of an attempt at one; return how long to pause.

        ``listened``: seconds for which it had been there.
        """
        self._subscription = None
        self._failures = 0 if listened >= QUIET else self._failures + 1
        pause = min(FIRST_PAUSE * 2.0 ** min(self._failures, 20), LONGEST_PAUSE)
        return pause * (0.5 + 0.5 * self._random())

    @property
    def clock(self) -> Callable[[], float]:
        """The time in seconds."""
        return self._clock

    @property
    def timeout(self) -> float:
        """Seconds for an answer to PING."""
        return self._timeout


def _listen(ref: "weakref.ref[SentinelListener]", worker: Worker) -> None:
    """Listen until the listener is closed or gone."""
    while (listener := ref()) is not None and listener.belongs_to(worker):
        clock, timeout = listener.clock, listener.timeout
        subscription = listener.connect()
        began = clock()
        listener = None  # while this waits, the listener may go
        if subscription is not None:
            try:
                _hear(ref, worker, subscription, clock, timeout)
            except (OSError, ShardError):
                pass  # the next Sentinel is asked
            finally:
                subscription.close()
        if (listener := ref()) is None:
            return
        pause = listener.over(clock() - began if subscription is not None else 0.0)
        listener = None
        if worker.pause(pause) == "end":
            return


def _hear(
    ref: "weakref.ref[SentinelListener]",
    worker: Worker,
    subscription: Subscription,
    clock: Callable[[], float],
    timeout: float,
) -> None:
    """Hand on messages until the connection ends or nobody wants them; may raise OSError."""
    heard, asked = clock(), None
    while (listener := ref()) is not None and listener.belongs_to(worker):
        listener = None
        now = clock()
        # Silence: a sign of life is asked for, and has its time.
        due = heard + QUIET if asked is None else asked + timeout
        if now >= due:
            if asked is not None:
                raise TimeoutError("no answer to PING")
            subscription.ping()
            asked = now
            continue
        message, anything = subscription.wait(min(due - now, _LOOK))
        if anything:
            heard, asked = clock(), None
        if message and (listener := ref()) is not None:
            listener.tell()
