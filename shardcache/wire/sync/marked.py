"""A connection with `Options.echo_check`: behind each exchange goes an ECHO of a fresh number."""

from shardcache.resp import Reply
from shardcache.wire.sync.connection import Connection
from shardcache.wire.sync.exchange import Turn, transfer

__all__ = ("MarkedConnection",)


class MarkedConnection(Connection):
    """Has no fast path: the marks are put and checked where those of several connections are."""

    __slots__ = ()

    def call(self, payload: bytes, deadline: float, values: int = 0) -> Reply:
        return self.call_many(payload, 1, deadline, values)[0]

    def call_many(
        self, payload: bytes, number: int, deadline: float, values: int = 0
    ) -> list[Reply]:
        turn = Turn(self, payload, number, values)
        transfer([turn], deadline, self.clock)
        if turn.error is not None:
            raise turn.error
        return turn.replies
