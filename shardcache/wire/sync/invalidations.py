"""A connection over which a server tells of every key of a namespace that is written.

CLIENT TRACKING in broadcast mode, in RESP3: an invalidation is a push message. The server writes it
before it answers the write that caused it.
"""

import select
import socket
from contextlib import suppress

import hiredis

from shardcache.errors import CommandRefused, OutOfStep
from shardcache.refusals import words
from shardcache.resp import Command, ErrorReply, Reply, as_error
from shardcache.wire.reply_parser import NOT_YET
from shardcache.wire.sync.connection import Connection, pack, pack_all

__all__ = ("Invalidations",)

# In RESP2 the server would track, and tell of nothing.
_RESP3: Command = (b"HELLO", b"3")


class Invalidations:
    """Hears the invalidations of one server, on a connection that does nothing else.

    ``connection``: logged in. It is closed with this, and if this cannot be made.
    ``prefix``: what the keys begin with; empty: all keys.
    ``question``: what the server is asked for a first sign of life.
    ``deadline``: until when the server must have answered.

    ``first``: the answer to the question.

    Raises OSError or `ShardError`; `CommandRefused` if the server has no tracking.
    """

    __slots__ = ("_connection", "_poll", "first")

    def __init__(
        self, connection: Connection, prefix: bytes, question: Command, deadline: float
    ) -> None:
        self._connection = connection
        scope: Command = (b"PREFIX", prefix) if prefix else ()
        tracking: Command = (b"CLIENT", b"TRACKING", b"ON", b"BCAST", *scope)
        try:
            # What it tells before it has answered all this is of no concern yet.
            *confirmed, self.first = connection.call_many(
                pack_all([_RESP3, tracking, question]), 3, deadline
            )
            for reply in confirmed:
                if isinstance(reply, ErrorReply):
                    error = as_error(connection.shard, reply)
                    # A server that is busy, say, is not one that has no tracking.
                    if isinstance(error, CommandRefused):
                        error = CommandRefused(connection.shard, words(str(reply)), error.code)
                    raise error
        except BaseException:
            connection.close()
            raise
        # One message names all keys that a command has written: it may be as long as a value.
        connection.parser.answers = 1
        self._poll = select.poll()
        self._poll.register(connection.fd, select.POLLIN)

    def ask(self, question: Command) -> None:
        """Ask for a sign of life. Raises OSError."""
        if self._connection.send_some(pack(question)) is not None:
            raise TimeoutError("the request could not be sent")

    def wait(self, seconds: float) -> tuple[list[list[bytes] | None], list[Reply]]:
        """Wait for ``seconds`` at most; return what is invalid, and what was answered.

        Each invalidation is a list of keys; None stands for all keys. Raises OSError or
        `ShardError` if the connection is of no use any more.
        """
        found: list[list[bytes] | None] = []
        answers: list[Reply] = []
        connection = self._connection
        if not self._poll.poll(max(seconds, 0.0) * 1000):
            return found, answers
        connection.feed()
        while (reply := connection.message()) is not NOT_YET:
            connection.got = 0  # else all is one message, which has a limit
            if not isinstance(reply, hiredis.PushNotification):
                answers.append(reply)
            elif len(reply) == 2 and reply[0] == b"invalidate":
                found.append(reply[1])
            else:
                raise OutOfStep(
                    connection.shard, f"a message of an unknown kind came: {reply!r:.80}"
                )
        return found, answers

    def close(self) -> None:
        """Close the connection, in the thread that waits on it."""
        self._connection.close()

    def end(self) -> None:
        """Have the thread that waits on the connection find it closed; from any thread."""
        with suppress(OSError):
            self._connection.sock.shutdown(socket.SHUT_RDWR)
