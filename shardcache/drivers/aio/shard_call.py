"""One call to one shard: who lets it out, and who tells the breaker what came of it.

Theory of operation
-------------------
Every request of the asyncio client goes the same way:

1. The breaker is asked. In service: the call goes out. Half-open: it takes a place on trial.
   Else it ends with `ShardOut`, and nothing is sent.
2. A `SharedConnection` sends it; a command that blocks goes over a connection of its own
   (`BlockingConnections`).
3. What came of it is told to the breaker once:

   what came of it                  who tells the breaker
   ------------------------------   ---------------------------------------------------------
   a reply to one command           `SharedConnection.on_room`, once for all replies of one read
   an error reply to one command    `SharedConnection.fail`
   the replies to several           `ShardCall.answered`
   no reply                         `SharedConnection.fail`, or `ShardCall.failed` where the
                                    call has a connection of its own
   a dead connection, sent again    nobody: `SharedConnection.retry` counts it, the call goes on
   cancelled, or the client closed  nobody: this says nothing about the shard

4. A call on trial gives back its place when it ends, whatever the end is: a `ShardCall` knows the
   period of trials that the place is of. Calls that were let out in service have none.

In service, a caller that awaits one future needs no `ShardCall`.
"""

import math
from typing import Self

from shardcache.drivers.shard_health import ShardState
from shardcache.errors import ShardError
from shardcache.policy.breaker import State
from shardcache.resp import Reply

__all__ = ("ShardCall",)

_CLOSED = State.CLOSED


class ShardCall:
    """One call that the breaker has let out. Used by ``with``, it gives back its place at the end.

    To make one raises `ShardOut` if the breaker lets nothing out, `ClientClosed` if the client is
    closed.
    """

    __slots__ = ("_period", "shard")

    def __init__(self, shard: ShardState) -> None:
        self.shard = shard
        self._period = 0 if shard.breaker.state is _CLOSED else shard.admit()

    def answered(self, replies: list[Reply]) -> list[Reply]:
        """Return the replies with a `ShardError` for each error reply; tell the breaker."""
        period, self._period = self._period, 0
        return self.shard.record_replies(replies, period)

    def failed(
        self,
        error: OSError | ShardError,
        *,
        dialled: bool,
        hurried: bool = False,
        began: float | None = None,
        deadline: float = math.inf,
    ) -> ShardError:
        """Return the named error of a call without a reply; tell the breaker.

        The parameters are those of `ShardState.record_failure`.
        """
        period, self._period = self._period, 0
        return self.shard.record_failure(
            error, dialled=dialled, hurried=hurried, began=began, deadline=deadline, period=period
        )

    def give_back(self, _: object = None) -> None:
        """Give back the place of a call on trial, unless that was done: also a done callback."""
        if self._period:
            period, self._period = self._period, 0
            self.shard.release_trial(period)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_back()
