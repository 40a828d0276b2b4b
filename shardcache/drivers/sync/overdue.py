"""Connections that still owe replies which nobody waits for, beside the pool of one shard.

Theory of operation
-------------------
A broadcast ends when enough is known. A connection whose reply has not come by then is not closed,
nor does it go back to its pool: it is kept here, for the thread that used it, and the next
broadcast of that thread to that shard goes out on it, behind what it still owes. So commands take
effect in the order in which they were sent, a hung voter holds up nobody, and a healthy one costs
no new connection.

Replies that come late are read when somebody wants the connection. One that has still not come
when its time is over makes the connection overdue, and its shard late: whoever finds that out
tells the breaker.

A call that is interrupted may have sent commands that the server has not read yet. What undoes them
goes out on another connection, and a server that finds both waiting may read that one first. So the
connection of the call is told to finish, and what undoes is sent when the server has closed it: by
then all that came on it is carried out.

The dictionary is changed by single steps of the interpreter, under no lock: threads, finalizers
and signal handlers may come in between any two of them.
"""

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from shardcache.drivers.shard_health import may_retry
from shardcache.errors import ShardError
from shardcache.policy.breaker import State
from shardcache.resp import Reply
from shardcache.wire import Connection

if TYPE_CHECKING:
    from shardcache.drivers.sync.shard import Shard

__all__ = ("Overdue", "OverdueConnections")

_MOST_BROKEN_OFF = 4


class Overdue(NamedTuple):
    """A connection that owes replies.

    ``owed``: how many.
    ``due``: when the first of them is overdue, in seconds of the shard's clock.
    ``overdue``: whether it was, at the last look.
    """

    connection: Connection
    owed: int
    due: float
    overdue: bool = False


class OverdueConnections:
    """The connections of one shard that owe replies, at most one for each thread."""

    __slots__ = ("_shard", "broken_off", "by_thread")

    def __init__(self, shard: "Shard") -> None:
        self._shard = shard
        self.by_thread: dict[int, Overdue] = {}
        # Those that have been told to finish, oldest first.
        self.broken_off: deque[Connection] = deque()

    def __len__(self) -> int:
        return len(self.by_thread)

    def take(self) -> Overdue | None:
        """Return a connection to send on, behind what it owes; None if there is none.

        It is the calling thread's own, so that its commands keep their order; or another's, if
        that owes nothing any more or is overdue.
        """
        if not self.by_thread:
            return None
        me = threading.get_ident()
        while self.by_thread:
            thread, taken = me, self.by_thread.pop(me, None)
            if taken is None:
                thread = next(iter(list(self.by_thread)), me)
                taken = self.by_thread.pop(thread, None)
                if taken is None:  # another thread was faster
                    continue
            taken = self._read(taken)
            if taken is None:
                continue
            if thread == me or not taken.owed or taken.overdue:
                return taken
            self.keep(taken, thread)
            return None
        return None

    def _read(self, taken: Overdue) -> Overdue | None:
        """Read what has come; return what is owed now, None if the connection is of no more use."""
        shard = self._shard
        connection, owed, due, _ = taken
        if connection.generation != shard.pool.generation:
            connection.close()
            return None
        # Before the look at the socket: a pause of this process gives the server time to answer.
        now = shard.clock()
        replies: list[Reply] = []
        try:
            connection.feed()
            connection.drain(replies, owed)
        except (OSError, ShardError) as error:
            connection.close()
            if may_retry(error):
                shard.record_retry()
            else:
                shard.record_failure(error, dialled=False, period=0)
            return None
        # Nobody waited for them, but they are answers. Their places on trial were given back.
        if replies and (shard.breaker.failures or shard.breaker.state is not State.CLOSED):
            shard.record_success(period=0)
        owed -= len(replies)
        return Overdue(connection, owed, due, overdue=owed > 0 and now > due)

    def keep(self, taken: Overdue, thread: int | None = None) -> None:
        """Keep a connection for a thread (None: the calling one) that has none here yet."""
        shard = self._shard
        if shard.breaker.state is State.OPEN:
            taken.connection.close()
            return
        thread = threading.get_ident() if thread is None else thread
        if self.by_thread.setdefault(thread, taken) is not taken:
            taken.connection.close()
        if shard.closed:  # in this very moment
            self.close()

    def break_off(self, connection: Connection) -> None:
        """Close a connection on which commands may be under way, when the server has read them."""
        self.broken_off.append(connection)  # first, so that it is closed whatever comes in between
        connection.finish()
        self._close_broken_off(0 if self._shard.closed else _MOST_BROKEN_OFF)

    def wait_for_broken_off(self, until: float) -> None:
        """Wait until the servers have carried out what calls that were broken off have sent."""
        while self.broken_off:
            with suppress(IndexError, ValueError):  # changed meanwhile
                connection = self.broken_off[0]
                connection.finish()
                if not connection.is_finished(until):
                    return
                connection.close()
                self.broken_off.remove(connection)

    def _close_broken_off(self, most: int) -> None:
        while len(self.broken_off) > most:
            with suppress(IndexError):
                self.broken_off.popleft().close()

    def close(self) -> None:
        """Close all."""
        self._close_broken_off(0)
        while self.by_thread:
            try:
                self.by_thread.popitem()[1].connection.close()
            except KeyError:
                return
