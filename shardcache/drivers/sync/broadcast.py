"""Batches to many shards at once: a broadcast, and an exchange, which waits for every answer.

Each batch has a `Checkout` of its shard, which owns what the breaker and the pool must know, and a
`Turn` of one `Transfer`, which sends and reads. What is different:

                           an exchange                     a broadcast
    --------------------   -----------------------------   -----------------------------------
    ends                   with the last answer, or when   the same, or as soon as ``on_reply``
                           the time is over                says that enough is known
    goes out on            any connection                  the one on which this thread has
                                                           sent before, if that owes replies
    a reply that has not   is a failure of the shard: the  is left for the next broadcast: the
    come by then           connection is closed            connection is kept (`overdue.py`)
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf

from shardcache.drivers.sync.checkout import Checkout
from shardcache.drivers.sync.shard import Shard
from shardcache.errors import ShardError
from shardcache.flows.own_pause import held_up
from shardcache.flows.reply_checks import shapes_fit
from shardcache.flows.steps import Batch, Broadcast, OnReply, Outcome, ServerRun
from shardcache.resp import Command
from shardcache.wire import Connection, Transfer, Turn, pack_all

__all__ = ("run_broadcast", "run_exchange")


class _Round:
    """Batches under way.

    ``outcomes``: where an exchange puts the outcome of each batch; None: it is a broadcast.
    ``on_reply``: is told of them (None: nobody is).
    ``timeout``: seconds after which an answer is overdue.
    ``limit``: seconds after which the caller waits no more, if that is less.
    """

    __slots__ = (
        "_batches",
        "_began",
        "_checkouts",
        "_clock",
        "_deadline",
        "_enough",
        "_on_reply",
        "_outcomes",
        "_shards",
        "_timeout",
        "_transfer",
        "_until",
    )

    def __init__(
        self,
        shards: Mapping[int, Shard],
        batches: Sequence[Batch],
        clock: Callable[[], float],
        timeout: float,
        limit: float = inf,
        *,
        outcomes: list[Outcome | None] | None = None,
        on_reply: OnReply | None = None,
    ) -> None:
        self._shards = shards
        self._batches = batches
        self._outcomes = outcomes
        self._on_reply = on_reply
        # If nobody wants an answer, it is over when all is sent.
        self._enough = outcomes is None and on_reply is None
        self._clock = clock
        self._timeout = timeout
        self._began = began = clock()
        self._deadline = self._until = began + timeout
        if limit < timeout:
            self._until = began + limit
        self._checkouts: dict[int, Checkout] = {}  # by the place of the batch
        self._transfer = Transfer(self._until, clock)

    def run(self) -> None:
        """Carry them out. Whatever is raised meanwhile, no checkout is left over."""
        transfer = self._transfer
        commands: list[Command] | None = None
        payload = b""
        try:
            for place, batch in enumerate(self._batches):
                if batch.commands is not commands:
                    commands = batch.commands
                    payload = batch.packed or pack_all(commands)
                self._ask(place, batch, payload)
            # Note answers as they come, until enough is known, or the time is over.
            while transfer.open and not self._enough:
                over = transfer.wait()
                if over is None:
                    break
                for turn in over:
                    self._note_turn(turn)
            if transfer.open:
                self._leave()
        except BaseException:
            for checkout in self._checkouts.values():
                checkout.abandon()
            raise

    def _ask(self, place: int, batch: Batch, payload: bytes) -> None:
        """Send one batch, or note why it cannot be sent."""
        parts = len(self._batches) - place
        try:
            shard = self._shards[batch.shard]
            checkout = Checkout(shard, self._began, self._deadline, self._until)
            self._checkouts[place] = checkout
            connection = (
                checkout.acquire_in_order(batch, payload, parts)
                if self._outcomes is None
                else checkout.acquire(parts)
            )
        except ShardError as error:
            self._note(place, error)
        else:
            self._send(place, batch, connection, payload, checkout.owed)

    def _send(
        self, place: int, batch: Batch, connection: Connection, payload: bytes, owed: int
    ) -> None:
        commands = batch.commands
        validate = batch.validate or partial(shapes_fit, commands)
        turn = Turn(connection, payload, len(commands), commands, owed, validate, place)
        if not self._transfer.start(turn):
            self._note_turn(turn)

    def _note_turn(self, turn: Turn) -> None:
        """Note what came of a turn; or send its batch once more, if that is worth it."""
        place = turn.place
        checkout = self._checkouts[place]
        if turn.error is None:
            outcome = checkout.succeed(turn.replies)
            self._note(place, outcome, turn.connection.run if self._outcomes is None else None)
            return
        batch = self._batches[place]
        parts = len(self._transfer.open) + 1
        try:
            connection = checkout.recover(turn.error, idempotent=batch.idempotent, parts=parts)
        except ShardError as error:
            self._note(place, error)
        else:
            self._send(place, batch, connection, batch.packed or pack_all(batch.commands), 0)

    def _note(self, place: int, outcome: Outcome, run: ServerRun | None = None) -> None:
        if self._outcomes is not None:
            self._outcomes[place] = outcome
        if self._on_reply is not None and self._on_reply(place, outcome, run):
            self._enough = True

    def _leave(self) -> None:
        """End the turns without an answer: see the table above."""
        transfer = self._transfer
        # An exchange: who has not answered by now has failed.
        if self._outcomes is not None:
            for turn in transfer.open.values():
                error = TimeoutError("no reply before the deadline")
                self._note(turn.place, self._checkouts[turn.place].fail(error))
            return
        # A broadcast: who has not answered may still do so in time.
        if not self._enough:
            for turn in transfer.open.values():
                shard = self._shards[self._batches[turn.place].shard]
                self._note(turn.place, shard.overdue_error())
        now = self._clock()
        # What a process that stood still has sent late has its whole time from now on.
        paused = transfer.paused or held_up(now, transfer.until)
        deadline = now + self._timeout if paused else self._deadline
        for turn in transfer.open.values():
            checkout = self._checkouts[turn.place]
            if turn.rest is not None:  # what was sent by halves cannot be gone on with
                checkout.fail(TimeoutError())
            else:
                due = checkout.due if len(turn.replies) < turn.owed else deadline
                checkout.keep(turn.expected - len(turn.replies), due)


def run_broadcast(
    shards: Mapping[int, Shard], step: Broadcast, clock: Callable[[], float], limit: float = inf
) -> None:
    """Carry out a `Broadcast`; return when enough is known, or the time is over.

    ``limit``: seconds that are left of the caller's budget.
    """
    limit = min(step.limit, limit)
    _Round(shards, step.batches, clock, step.timeout, limit, on_reply=step.on_reply).run()


def run_exchange(
    shards: Mapping[int, Shard],
    batches: Sequence[Batch],
    timeout: float,
    clock: Callable[[], float],
    on_reply: OnReply | None = None,
) -> list[Outcome]:
    """Send every batch to its shard, all at once; return their outcomes, within ``timeout``.

    ``on_reply``: is told of each outcome as it comes, and must say False: all are waited for.
    """
    outcomes: list[Outcome | None] = [None] * len(batches)
    _Round(shards, batches, clock, timeout, outcomes=outcomes, on_reply=on_reply).run()
    return outcomes  # type: ignore[return-value]  # every place is filled by now
