"""Exchanges with many shards: send to all, then read from those that answer, without threads.

Reading and sending are interleaved, so a shard that does not take its bytes, or does not answer,
does not delay the others. All that wait for several servers wait in `Transfer.wait`.
"""

import select
from collections.abc import Callable

from shardcache.errors import OutOfStep, ShardError
from shardcache.flows.own_pause import held_up, longer
from shardcache.resp import Reply
from shardcache.wire.reply_parser import Answers
from shardcache.wire.sync.connection import BROKEN_INPUT, Connection, mark, unmark

__all__ = ("Transfer", "Turn", "Validate", "transfer")

Validate = Callable[[list[Reply]], bool]

_IN = select.POLLIN
_OUT = select.POLLOUT


class Turn:
    """One connection's part in an exchange: what to send, and the replies or the error.

    ``expected``: how many replies the payload has.
    ``answers``: what these replies can hold.
    ``owed``: how many replies are still to come to what was sent before.
    ``validate``: whether the replies can be replies to these commands.
    ``place``: which part of the exchange it is, for its owner.
    """

    __slots__ = (
        "_answer",
        "_validate",
        "connection",
        "error",
        "expected",
        "owed",
        "payload",
        "place",
        "replies",
        "rest",
    )

    def __init__(
        self,
        connection: Connection,
        payload: bytes,
        expected: int,
        answers: Answers = 0,
        owed: int = 0,
        validate: Validate | None = None,
        place: int = 0,
    ) -> None:
        self.connection = connection
        self.payload = payload
        self.expected = expected + owed
        self.owed = owed
        self.place = place
        self._validate = validate
        # Overdue replies come first; the parser has begun with them.
        connection.parser.answers = answers
        if not owed:
            connection.got = 0
        self.replies: list[Reply] = []
        self.rest: memoryview | None = None  # what is not sent yet
        self.error: Exception | None = None  # if it is set, the connection is useless
        # With `Options.echo_check`, an ECHO goes behind, whose reply must be the last one.
        self._answer = b""
        if connection.marked:
            echo, self._answer = mark()
            self.payload += echo
            self.expected += 1

    def settle(self) -> None:
        """Leave the replies to this payload; raise `OutOfStep` if they cannot be replies to it."""
        if self._answer:
            unmark(self.connection.shard, self.replies, self._answer)
        if self.owed:
            del self.replies[: self.owed]
        if self._validate is not None and not self._validate(self.replies):
            raise OutOfStep(self.connection.shard, "the replies do not fit the commands")


class Transfer:
    """Turns under way on several connections.

    `start` sends, `wait` gives back the turns that are over. Whoever uses it decides whether to
    start further ones meanwhile, and how long to go on.

    ``until``: when the waiting ends, in the seconds of ``clock``.
    """

    __slots__ = ("_clock", "_looked", "_poll", "open", "paused", "until")

    def __init__(self, until: float, clock: Callable[[], float]) -> None:
        self.until = until
        self.open: dict[int, Turn] = {}  # by file descriptor
        self.paused = False  # whether this process stood still when the time was over
        self._clock = clock
        self._looked = False
        self._poll = select.poll()

    def start(self, turn: Turn) -> bool:
        """Send what the kernel takes without waiting; return False if the connection failed."""
        connection = turn.connection
        try:
            turn.rest = connection.send_some(turn.payload)
        except OSError as error:
            turn.error = error
            return False
        self.open[connection.fd] = turn
        self._poll.register(connection.fd, _IN if turn.rest is None else _IN | _OUT)
        return True

    def wait(self) -> list[Turn] | None:
        """Wait for one event; return the turns that are over with it. None: the time is over.

        A turn is over with its replies or with its ``error``; what goes wrong on one connection
        does not reach the others.
        """
        left = self.until - self._clock()
        ready = self._poll.poll(left * 1000) if left > 0 else ()
        if not ready:
            ready = self._look_again()
            if not ready:
                return None
        over: list[Turn] = []
        for fd, events in ready:
            turn = self.open[fd]
            if self._advance(turn, events):
                del self.open[fd]
                self._poll.unregister(fd)
                over.append(turn)
        return over

    def _look_again(self) -> list[tuple[int, int]] | tuple[()]:
        """Look once more when the time is over: a pause of this process may be to blame."""
        if self._looked:
            return ()
        self._looked = True
        now = self._clock()
        self.paused = held_up(now, self.until)
        wait = longer(now, self.until)
        self.until = now + wait
        return self._poll.poll(wait * 1000)

    def _advance(self, turn: Turn, events: int) -> bool:
        """Read and send what can be; return whether the turn is over."""
        connection = turn.connection
        try:
            if events & ~_OUT:
                connection.feed()
            if turn.rest is not None:
                turn.rest = connection.send_some(turn.rest)
                if turn.rest is None:
                    self._poll.modify(connection.fd, _IN)
            # A peer may answer before it has read all. It is over when both are done.
            if not connection.drain(turn.replies, turn.expected) or turn.rest is not None:
                return False
            turn.settle()
        # One connection must not fail the others. What a signal handler raises ends them all.
        except (OSError, ShardError, LookupError, *BROKEN_INPUT) as error:
            turn.error = error
        return True


def transfer(turns: list[Turn], deadline: float, clock: Callable[[], float]) -> None:
    """Carry out all turns. Each ends with its replies, or with its ``error``; nothing is raised."""
    under_way = Transfer(deadline, clock)
    for turn in turns:
        under_way.start(turn)
    while under_way.open and under_way.wait() is not None:
        pass
    for turn in under_way.open.values():
        turn.error = TimeoutError("no reply before the deadline")
