"""A connection on a fake transport, fed by hand."""

import asyncio
from typing import Any

from shardcache.resp import ErrorReply, Op
from shardcache.wire import pack
from shardcache.wire.aio.connection import AsyncConnection

GET = pack((b"GET", b"k"))
TIMEOUT = 1.0


class Wire(asyncio.Transport):
    """Takes down what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.aborted = 0

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def abort(self) -> None:
        self.aborted += 1


class Bench:
    """A link on a fake transport, and what it reports."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.ended: list[BaseException] = []
        self.rooms: list[int] = []
        self.lost: list[Exception] = []
        self.wire = Wire()
        self.connection = AsyncConnection(
            "a", self.loop, TIMEOUT, lambda _, error: self.ended.append(error), self._room
        )
        self.connection.connection_made(self.wire)

    def _room(self, answers: int) -> None:
        self.rooms.append(answers)

    def send(self, owed: int = 1, seconds: float = TIMEOUT) -> "asyncio.Future[Any]":
        return self.connection.send(GET * owed, owed, self.loop.time() + seconds)

    def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.connection.data_received(piece)

    # The default is never changed.
    def ask(self, kinds: set[type] = {bytes, ErrorReply}) -> "asyncio.Future[Any]":  # noqa: B006
        """Send one command as a client's call does.

        What is lost, or an error reply, goes to ``lost``.
        """
        future = self.loop.create_future()
        op = Op(
            "get",
            idempotent=True,
            writes=False,
            degraded=None,
            read=lambda reply: reply,
            reply_types=frozenset(kinds),
        )
        self.connection.put(
            (
                future,
                self.loop.time() + TIMEOUT,
                GET,
                op,
                lambda slot, error: self.lost.append(error),
            )
        )
        return future

    def finish(self) -> None:
        """End the link, so that no timer is left."""
        self.connection.end(ConnectionError("the test is over"))


def outcome(future: "asyncio.Future[Any]") -> Any:
    """Return a future's result, or the type of its exception, or None while it is open."""
    if not future.done() or future.cancelled():
        return None
    return type(future.exception()) if future.exception() else future.result()
