"""One exchange with many shards: write to all, then read from those that answer, without threads.

Reading and writing are interleaved, so a shard that does not take its bytes, or does not answer,
does not delay the others. The whole exchange has one deadline.
"""

import select
from collections.abc import Callable

from shardcache.errors import OutOfStep
from shardcache.flows.own_pause import longer
from shardcache.resp import Reply
from shardcache.wire.reply_parser import Answers
from shardcache.wire.sync.connection import Connection, mark, unmark

__all__ = ("Fit", "Turn", "ask", "ask_many", "transfer")

Fit = Callable[[list[Reply]], bool]

_IN = select.POLLIN
_BOTH = select.POLLIN | select.POLLOUT


class Turn:
    """One connection's part in an exchange: what to send, and the replies or the error.

    ``expected``: how many replies the payload has.
    ``answers``: what these replies can hold.
    ``owed``: how many replies are still to come to what was sent before.
    ``validate``: whether the replies can be replies to these commands.
    """

    __slots__ = (
        "_answer",
        "_validate",
        "connection",
        "error",
        "expected",
        "owed",
        "payload",
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
        validate: Fit | None = None,
    ) -> None:
        self.connection = connection
        self.payload = payload
        self.expected = expected + owed
        self.owed = owed
        self._validate = validate
        connection.parser.answers = answers
        if not owed:
            connection.got = 0
        self.replies: list[Reply] = []
        self.rest: memoryview | None = None
        self.error: Exception | None = None  # if it is set, the connection is useless
        self._answer = b""
        if connection.marked:
            echo, self._answer = mark()
            self.payload += echo
            self.expected += 1

    def settle(self) -> None:
        """Check that the replies can be to what was asked; raise `OutOfStep` if not."""
        if self._answer:
            unmark(self.connection.shard, self.replies, self._answer)
        if self._validate is not None and not self._validate(
            self.replies[self.owed :] if self.owed else self.replies
        ):
            raise OutOfStep(self.connection.shard, "the replies do not fit the commands")


def transfer(turns: list[Turn], deadline: float, clock: Callable[[], float]) -> None:
    """Carry out all turns. Each ends with its replies, or with its ``error``; nothing is raised."""
    poll = select.poll()
    open_turns: dict[int, Turn] = {}
    # Send to all first: each sends what the kernel takes without waiting.
    for turn in turns:
        connection = turn.connection
        try:
            rest = connection.send_some(memoryview(turn.payload))
        except OSError as error:
            turn.error = error
            continue
        turn.rest = rest or None
        fd = connection.fileno()
        open_turns[fd] = turn
        poll.register(fd, _BOTH if rest else _IN)
    looked = False
    # Then wait for all that are open, and read or send whichever is ready.
    while open_turns:
        now = clock()
        wait = deadline - now
        ready = poll.poll(wait * 1000) if wait > 0 else ()
        # The time is over: look once more, since a pause of this process may be to blame.
        if not ready and not looked:
            looked = True
            now = clock()
            wait = longer(now, deadline)
            deadline = now + wait
            ready = poll.poll(wait * 1000)
        if not ready:
            for turn in open_turns.values():
                turn.error = TimeoutError("no reply before the deadline")
            return
        for fd, mask in ready:
            turn = open_turns[fd]
            try:
                if mask & ~select.POLLOUT:
                    turn.connection.feed()
                done = turn.connection.drain(turn.replies, turn.expected)
                if turn.rest is not None:
                    rest = turn.connection.send_some(turn.rest)
                    turn.rest = rest or None
                    if not rest:
                        poll.modify(fd, _IN)
                done = done and turn.rest is None
                if done:
                    turn.settle()
            except Exception as error:  # noqa: BLE001 - one connection must not fail the others
                turn.error = error
                done = True
            if done:
                del open_turns[fd]
                poll.unregister(fd)


def ask(connection: Connection, payload: bytes, deadline: float, values: int = 0) -> Reply:
    """Send one command and return its reply, as `Connection.call` does, also if it is marked."""
    return ask_many(connection, payload, 1, deadline, values)[0]


def ask_many(
    connection: Connection, payload: bytes, number: int, deadline: float, values: int = 0
) -> list[Reply]:
    """Send several commands and return their replies.

    ``values``: how many stored values the replies can hold.
    """
    turn = Turn(connection, payload, number, values)
    transfer([turn], deadline, connection.clock)
    if turn.error is not None:
        raise turn.error
    return turn.replies
