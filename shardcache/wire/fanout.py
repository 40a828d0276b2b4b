"""One exchange with many shards: write to all, then read from whichever answers, without threads.

Reading and writing are interleaved, so a shard that does not take its bytes, or does not answer,
holds up nobody else; the whole ends at one deadline.
"""

import select
from collections.abc import Callable

from shardcache.commands import Reply
from shardcache.wire.link import Link, mark, unmark
from shardcache.wire.reply_parser import Answers

__all__ = ("Turn", "ask", "transfer")

_IN = select.POLLIN
_BOTH = select.POLLIN | select.POLLOUT


class Turn:
    """One link's part in an exchange: what to send, how many replies are due and what can be in them, what came of it.

    ``owed``: so many of the replies are to what was sent before, and may have begun to come.
    """

    __slots__ = ("_answer", "error", "expected", "link", "payload", "replies", "rest")

    def __init__(self, link: Link, payload: bytes, expected: int, answers: Answers = 0, owed: int = 0) -> None:
        self.link = link
        self.payload = payload
        self.expected = expected + owed
        link.parser.answers = answers
        if not owed:
            link.got = 0
        self.replies: list[Reply] = []
        self.rest: memoryview | None = None
        self.error: Exception | None = None  # set: the link is useless
        self._answer = b""
        if link.marked:
            echo, self._answer = mark()
            self.payload += echo
            self.expected += 1

    def settle(self) -> None:
        """Check that the replies are to what was asked, where the link is marked; raise `OutOfStep` if not."""
        if self._answer:
            unmark(self.link.shard, self.replies, self._answer)


def transfer(turns: list[Turn], deadline: float, clock: Callable[[], float]) -> None:
    """Carry out all turns; each ends with its replies, or with its ``error``. Raises nothing of its own."""
    poll = select.poll()
    open_turns: dict[int, Turn] = {}
    for turn in turns:
        link = turn.link
        try:
            rest = link.send_some(memoryview(turn.payload))
        except OSError as error:
            turn.error = error
            continue
        turn.rest = rest or None
        fd = link.fileno()
        open_turns[fd] = turn
        poll.register(fd, _BOTH if rest else _IN)
    while open_turns:
        wait = (deadline - clock()) * 1000
        ready = poll.poll(wait) if wait > 0 else ()
        if not ready:
            for turn in open_turns.values():
                turn.error = TimeoutError("no reply before the deadline")
            return
        for fd, mask in ready:
            turn = open_turns[fd]
            try:
                if mask & ~select.POLLOUT:
                    turn.link.feed()
                done = turn.link.drain(turn.replies, turn.expected)
                if turn.rest is not None:
                    rest = turn.link.send_some(turn.rest)
                    turn.rest = rest or None
                    if not rest:
                        poll.modify(fd, _IN)
                done = done and turn.rest is None
                if done:
                    turn.settle()
            except Exception as error:  # noqa: BLE001 - one link's trouble must not reach the others
                turn.error = error
                done = True
            if done:
                del open_turns[fd]
                poll.unregister(fd)


def ask(
    link: Link, payload: bytes, deadline: float, before: int = 0, first: list[Reply] | None = None, values: int = 0
) -> Reply:
    """Send one command and return its reply, as `Link.call` does, also over a marked link."""
    turn = Turn(link, payload, before + 1, values)
    transfer([turn], deadline, link.clock)
    if turn.error is not None:
        raise turn.error
    if first is not None:
        first.extend(turn.replies[:before])
    return turn.replies[before]
