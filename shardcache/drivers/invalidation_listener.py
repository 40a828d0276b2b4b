"""Hears the invalidations of one shard, and says for how long its values may be served from memory.

What is heard, and what follows from it, is the theory at the top of `policy/near_store.py`; the
question and its answers are in `topology/sign_of_life.py`.

| state | what happens | next |
|---|---|---|
| connecting | the server has confirmed that it tracks | hearing, with a life |
| | failed | pausing |
| | the server has no tracking | refused |
| hearing | `BEAT` seconds since the last question | one more; hearing |
| | a sign of life | the life lasts `LEASE` seconds from its question on; hearing |
| | an invalidation | its keys are dropped; hearing |
| | another answer, no sign for `LEASE` seconds, or closed | the life ends; pausing |
| | the shard has another address | the life ends; connecting |
| pausing | until the pause is over, which grows, with jitter | connecting |
| refused | until `RETRY` seconds are over; reads raise what the server said | connecting |
| any | the listener is closed, or nobody has it any more | the thread ends |

One thread per shard, client and process, for all event loops. A forked child has none until
`life` is asked for there.
"""

import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from shardcache.drivers.error_copy import copy_error
from shardcache.errors import CommandRefused, ShardError, ThreadNotStarted
from shardcache.events import Event, emit
from shardcache.flows.context import ClientContext
from shardcache.policy.near_store import LEASE, Life, NearStore
from shardcache.resp import Command
from shardcache.system.forked import ForkedObjects
from shardcache.system.threads import Worker
from shardcache.topology.nodes import Member
from shardcache.topology.sign_of_life import question_of, trouble
from shardcache.wire import Dialer
from shardcache.wire.sync.invalidations import Invalidations

__all__ = ("InvalidationListener",)

BEAT = 0.5  # seconds between two questions
FIRST_PAUSE = 0.05  # seconds before it connects again
LONGEST_PAUSE = 2.0
RETRY = 5.0  # seconds after which a server that has no tracking is asked again
_LOOK = 0.1  # seconds after which the thread looks at the topology, and whether it is still needed
_forked = ForkedObjects()


class InvalidationListener:
    """Has the life of one shard.

    ``shard``: the number of the shard.
    ``context``: what the client consists of.
    ``store``: where the values are.
    ``clock``: the time in seconds.
    ``random``: random numbers from 0 to 1.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_connection",
        "_context",
        "_dial",
        "_failures",
        "_life",
        "_random",
        "_refusal",
        "_store",
        "_worker",
        "clock",
        "member",
        "shard",
    )

    def __init__(
        self,
        shard: int,
        context: ClientContext,
        store: NearStore,
        *,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self.shard = shard
        self.clock = clock
        self.member: Member = context.topology.known[shard]
        self._context = context
        self._store = store
        self._random = random
        self._closed = False
        self._worker: Worker | None = None
        self._connection: Invalidations | None = None
        self._dial: Dialer | None = None
        self._failures = 0
        self._life: Life | None = None
        self._refusal: CommandRefused | None = None
        _forked.add(self)

    def life(self) -> Life | None:
        """Return the life of the shard; start the thread if there is none.

        Raises `CommandRefused` if the server has no tracking.
        """
        running = self._worker
        if running is None or not running.is_alive():
            self._start()
        refusal = self._refusal  # the thread may forget it at any time
        if refusal is not None:
            raise copy_error(refusal)
        return self._life

    def _start(self) -> None:
        if self._closed:
            return
        listener = weakref.ref(self)
        # Two calls that came at once may start one each: the last one stays.
        self._worker = worker = Worker("invalidations", lambda: _listen(listener, worker))
        with suppress(ThreadNotStarted):  # an event has told; nothing is kept until there is one
            worker.begin(self._context.options.on_event, "listen", shard=self.member.node.name)

    def close(self) -> None:
        """End the thread and its connection. It is not waited for."""
        self._closed = True
        if self._worker is not None:
            self._worker.end()
        self.on_name_moved()

    def __del__(self) -> None:
        if hasattr(self, "_refusal"):  # the constructor has not raised
            self.close()

    def after_fork(self) -> None:
        """Forget the thread of the parent, and its connection, which stays the parent's."""
        self._worker = self._life = self._refusal = self._dial = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()  # this process' end of it; the parent's stays open

    # What a host name's look-ups tell (`NameUser`).

    def on_lookup(self, error: OSError | None) -> None:
        """The shard tells of it."""

    def on_name_moved(self) -> None:
        """Have the thread find its connection closed."""
        connection = self._connection
        if connection is not None:
            connection.end()

    # What the thread does.

    def belongs_to(self, worker: Worker) -> bool:
        """Return whether ``worker`` is the thread that listens, and the shard is in service."""
        return (
            self._worker is worker
            and not self._closed
            and self.shard in self._context.topology.numbers
        )

    def connect(self) -> Invalidations | None:
        """Return a connection on which the server tells of writes, or None."""
        context, topology = self._context, self._context.topology
        dial = self._dialer(topology.known[self.shard])
        began = self.clock()
        deadline = began + min(context.timeout, LEASE)
        try:
            prefix = context.keys.prefix
            question = question_of(topology, self.shard, prefix)
            found = Invalidations(dial(deadline), prefix, question, deadline)
            if trouble(found.first):
                found.close()
                return None
        except CommandRefused as error:
            self._refuse(error)
            return None
        except (OSError, ShardError):
            return None
        self._refusal = None
        self._connection = found
        self._life = Life(self.shard, topology, began + LEASE)
        return found

    def _dialer(self, member: Member) -> Dialer:
        """Return what connects to where the shard is now, perhaps another server than before."""
        options = self._context.options
        if self._dial is None or member != self.member:
            self.member = member
            options = replace(options, protocol=3, tls=member.tls or options.tls, echo_check=False)
            self._dial = Dialer(member.node.name, member.address, options, self.clock, member.kind)
            self._dial.watch(self)
        return self._dial

    def _refuse(self, error: CommandRefused) -> None:
        if self._refusal is None:
            self._refusal = CommandRefused(
                error.shard,
                "near=NearCache() needs CLIENT TRACKING in RESP3 (Redis 6, Valkey), "
                f"or mode='ttl-only'; the server says: {error.reason}",
                error.code,
            )

    def heard(self, keys: list[bytes] | None) -> None:
        """Drop what is invalid; None: all keys."""
        store = self._store
        store.invalidations += 1 if keys is None else len(keys)
        store.drop(keys)

    def question(self) -> Command | None:
        """Return what the server is asked for a sign of life; None if the shard has left."""
        topology = self._context.topology
        if self.shard not in topology.numbers:
            return None
        return question_of(topology, self.shard, self._context.keys.prefix)

    def lasts(self, until: float) -> bool:
        """Have the life last until then; return whether the connection leads to the shard still."""
        life, topology = self._life, self._context.topology
        if life is None or topology.known[self.shard] != self.member:
            return False
        if life.topology is not topology:
            self._life = Life(self.shard, topology, until)
        elif until > life.until:
            life.until = until
        return True

    def over(self, worker: Worker, lasted: float) -> float:
        """End the life, if there is one; return how long to pause.

        ``lasted``: seconds for which there was a connection.
        """
        if self._worker is not worker:
            return 0.0
        self._connection = None
        life, self._life = self._life, None
        if life is not None:
            self._store.end(life, self.member.node.name)
            self._context.suspect()
            if not self._closed:
                emit(self._context.options.on_event, Event("near_flushed", self.member.node.name))
        if self._refusal is not None:
            return RETRY
        self._failures = 0 if lasted >= BEAT else self._failures + 1
        pause = min(FIRST_PAUSE * 2.0 ** min(self._failures, 20), LONGEST_PAUSE)
        return pause * (0.5 + 0.5 * self._random())


def _listen(ref: "weakref.ref[InvalidationListener]", worker: Worker) -> None:
    """Listen until the listener is closed or gone."""
    while (listener := ref()) is not None and listener.belongs_to(worker):
        clock = listener.clock
        connection = listener.connect()
        began = clock()
        pause = 0.0
        listener = None  # while this waits, the listener may go
        try:
            if connection is not None:
                _hear(ref, worker, connection, clock)
        except (OSError, ShardError):
            pass  # another connection is opened
        finally:
            # First nothing is served any more, then the connection is closed.
            if (listener := ref()) is not None:
                pause = listener.over(worker, clock() - began)
                listener = None
            if connection is not None:
                connection.close()
        if worker.pause(pause) == "end":
            return


def _hear(
    ref: "weakref.ref[InvalidationListener]",
    worker: Worker,
    connection: Invalidations,
    clock: Callable[[], float],
) -> None:
    """Hand on invalidations until the connection ends or nobody wants them; may raise OSError."""
    asked: deque[float] = deque()
    answered = clock()
    beat = answered
    while (listener := ref()) is not None and listener.belongs_to(worker):
        # Ask, if it is time.
        now = clock()
        if now >= answered + LEASE:
            raise TimeoutError("no sign of life")
        if now >= beat:
            question = listener.question()
            if question is None:
                return
            connection.ask(question)
            asked.append(now)
            beat = now + BEAT
        listener = None
        found, answers = connection.wait(min(beat - now, _LOOK))
        if (listener := ref()) is None:
            return
        # First values are dropped, then it is said that nothing was missed.
        for keys in found:
            listener.heard(keys)
        for answer in answers:
            if not asked or trouble(answer):
                return
            answered = asked.popleft()
        if not listener.lasts(answered + LEASE):
            return
