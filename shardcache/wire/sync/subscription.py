"""A connection that listens to channels (SUBSCRIBE), in RESP2, where messages are plain replies."""

import select
import socket
from collections import Counter
from contextlib import suppress
from typing import Any

from shardcache.errors import CommandRefused, OutOfStep
from shardcache.refusals import words
from shardcache.resp import ErrorReply
from shardcache.wire.reply_parser import NOT_YET
from shardcache.wire.sync.connection import Connection, pack

__all__ = ("Subscription",)

_PING = pack((b"PING",))
_KINDS = (b"subscribe", b"message", b"pong")


class Subscription:
    """Listens on a connection that does nothing else.

    ``connection``: logged in, in RESP2. It is closed with this, and if this cannot be made.
    ``channels``: the names of the channels.
    ``deadline``: until when the server must have confirmed all of them.

    Raises OSError (TimeoutError is one) or `ShardError`.
    """

    __slots__ = ("_connection", "_poll")

    def __init__(
        self, connection: Connection, channels: tuple[bytes, ...], deadline: float
    ) -> None:
        self._connection = connection
        self._poll = select.poll()
        self._poll.register(connection.fd, select.POLLIN)
        connection.parser.answers = len(channels)
        try:
            self._send(pack((b"SUBSCRIBE", *channels)))
            confirmed = 0
            while confirmed < len(channels):
                left = deadline - connection.clock()
                if left <= 0:
                    raise TimeoutError("no reply before the deadline")
                # A message may come already, between two of them.
                confirmed += _kinds(self.take(left))[b"subscribe"]
        except BaseException:
            connection.close()
            raise

    def ping(self) -> None:
        """Ask for a sign of life. Raises OSError."""
        self._send(_PING)

    def wait(self, seconds: float) -> tuple[bool, bool]:
        """Wait for ``seconds`` at most; return whether a message came, and whether anything did.

        Raises OSError or `ShardError` if the connection is of no use any more.
        """
        came = _kinds(self.take(seconds))
        return bool(came[b"message"]), bool(came)

    def close(self) -> None:
        """Close the connection, in the thread that waits on it."""
        self._connection.close()

    def end(self) -> None:
        """Have the thread that waits on the connection find it closed; from any thread."""
        with suppress(OSError):
            self._connection.sock.shutdown(socket.SHUT_RDWR)

    def _send(self, payload: bytes) -> None:
        if self._connection.send_some(payload) is not None:
            raise TimeoutError("the request could not be sent")

    def take(self, seconds: float) -> list[Any]:
        """Wait for ``seconds`` at most; return what came, each a list with its kind first."""
        came: list[Any] = []
        connection = self._connection
        if not self._poll.poll(max(seconds, 0.0) * 1000):
            return came
        connection.feed()
        while (reply := connection.next()) is not NOT_YET:
            if isinstance(reply, ErrorReply):
                text = words(str(reply))
                raise CommandRefused(connection.shard, text, text.partition(" ")[0])
            if not isinstance(reply, list) or len(reply) < 2 or reply[0] not in _KINDS:
                raise OutOfStep(connection.shard, "what came is no message to a subscriber")
            came.append(reply)
        if came:
            connection.got = 0  # else it is one message, which has a limit
        return came


def _kinds(replies: list[Any]) -> Counter[bytes]:
    """Return how many replies of each kind there are."""
    return Counter(reply[0] for reply in replies)
