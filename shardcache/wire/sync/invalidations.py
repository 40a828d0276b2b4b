"""A connection over which a server tells of every key of a namespace that is written.

CLIENT TRACKING in broadcast mode, redirected to this very connection, which listens in RESP2. The
server writes an invalidation before it answers the write that caused it.
"""

from shardcache.errors import CommandRefused, OutOfStep
from shardcache.refusals import words
from shardcache.resp import Command, ErrorReply, Reply
from shardcache.wire.sync.connection import Connection, pack
from shardcache.wire.sync.subscription import Subscription

__all__ = ("Invalidations",)

_CHANNEL = b"__redis__:invalidate"


class Invalidations:
    """Hears the invalidations of one server, on a connection that does nothing else.

    ``connection``: logged in, in RESP2. It is closed with this, and if this cannot be made.
    ``prefix``: what the keys begin with; empty: all keys.
    ``deadline``: until when the server must have confirmed it.

    Raises OSError or `ShardError`; `CommandRefused` if the server has no tracking.
    """

    __slots__ = ("_subscription",)

    def __init__(self, connection: Connection, prefix: bytes, deadline: float) -> None:
        try:
            number = _ask(connection, (b"CLIENT", b"ID"), deadline)
            tracking: Command = (b"CLIENT", b"TRACKING", b"ON", b"REDIRECT", b"%d" % number)
            scope: Command = (b"BCAST", b"PREFIX", prefix) if prefix else (b"BCAST",)
            _ask(connection, (*tracking, *scope), deadline)
        except BaseException:
            connection.close()
            raise
        self._subscription = Subscription(connection, (_CHANNEL,), deadline)

    def ping(self) -> None:
        """Ask for a sign of life. Raises OSError."""
        self._subscription.ping()

    def wait(self, seconds: float) -> tuple[list[list[bytes] | None], int]:
        """Wait for ``seconds`` at most; return what is invalid, and how many signs of life came.

        Each invalidation is a list of keys; None stands for all keys. Raises OSError or
        `ShardError` if the connection is of no use any more.
        """
        replies = self._subscription.take(seconds)
        found = [reply[2] for reply in replies if reply[0] == b"message"]
        return found, sum(reply[0] == b"pong" for reply in replies)

    def close(self) -> None:
        """Close the connection, in the thread that waits on it."""
        self._subscription.close()

    def end(self) -> None:
        """Have the thread that waits on the connection find it closed; from any thread."""
        self._subscription.end()


def _ask(connection: Connection, command: Command, deadline: float) -> Reply:
    reply = connection.call(pack(command), deadline)
    if isinstance(reply, ErrorReply):
        text = words(str(reply))
        raise CommandRefused(connection.shard, text, text.partition(" ")[0])
    if command[1] == b"ID" and reply.__class__ is not int:
        raise OutOfStep(connection.shard, "what came is no number of a connection")
    return reply
