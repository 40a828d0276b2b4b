"""The sync side of `Broadcast`: ask many shards, and wait for no more of them than are needed.

A link whose reply nobody waited for is not closed, nor does it go back to its pool: it is kept beside it (`Overdue`), and
the next canvass of that shard by the same thread goes out on it, behind what it still owes. So commands take effect in the order in
which they were sent, a hung voter holds up nobody, and a healthy one costs no new connection. A reply that is overdue when somebody
looks counts as a timeout of its shard: the breaker opens, and from then on nothing is sent there. Only what undoes something
goes out all the same, behind what it is to undo, before the connection is given up.
"""

import select
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shardcache.drivers.replies import check_replies
from shardcache.drivers.sync.shard import Overdue, Shard, may_retry
from shardcache.errors import ShardError, ShardOut
from shardcache.flows.own_pause import held_up, longer
from shardcache.flows.reply_checks import fit_of
from shardcache.flows.steps import Batch, Broadcast
from shardcache.policy.breaker import State
from shardcache.resp import Command, Reply
from shardcache.wire import Connection, Turn, pack_all

__all__ = ("run_broadcast",)

_IN = select.POLLIN
_BOTH = select.POLLIN | select.POLLOUT
# So much and what undoes it is read by a server in one go (16 KiB). Of more, it would lose the rest when it wakes up to a connection
# that we have closed: its first reply is then answered by a reset.
_MOST_OWED = 8


@dataclass(slots=True)
class _Asked:
    """A batch that is out on a link: ``owed`` replies to what was sent before come first, overdue from ``due`` on."""

    place: int
    shard: Shard
    batch: Batch
    turn: Turn
    owed: int
    due: float
    kept: bool  # the link had been opened before, so it may simply have died


class _Round:
    """One canvass under way."""

    __slots__ = (
        "began",
        "clock",
        "deadline",
        "enough",
        "late",
        "out",
        "payload",
        "poll",
        "step",
        "until",
    )

    def __init__(self, step: Broadcast, clock: Callable[[], float]) -> None:
        self.step = step
        self.clock = clock
        self.began = now = clock()
        self.deadline = now + step.timeout
        self.until = self.deadline if step.limit is None else min(self.deadline, now + step.limit)
        self.enough = step.on_reply is None
        self.late = False  # whether this process stood still
        self.out: dict[int, _Asked] = {}
        self.poll = select.poll()
        self.payload = b""

    def ask(self, place: int, batch: Batch, shard: Shard, left: int) -> None:
        """Send a batch, or note why it cannot be sent. ``left`` shards are still to be asked, this one among them."""
        try:
            connection, owed, due, kept = self._connection(shard, left, batch)
        except ShardError as error:
            self._note(place, error)
            return
        try:
            turn = Turn(
                connection, self.payload, len(batch.commands), batch.commands, owed, fit_of(batch)
            )
            self._send(_Asked(place, shard, batch, turn, owed, due, kept))
        except BaseException:
            connection.close()
            shard.release_trial()
            raise

    def _connection(
        self, shard: Shard, left: int, batch: Batch
    ) -> tuple[Connection, int, float, bool]:
        """Return a link, what it owes until when, and whether it is an old one; raise what stands in the way as `ShardError`."""
        if shard.breaker.state is not State.CLOSED:
            shard.admit()
        late = shard.reclaim()
        if late is not None:
            if not late.overdue:
                if late.owed < _MOST_OWED or batch.compensates or batch.after_pending:
                    return late.connection, late.owed, late.due, True
                shard.keep_overdue(late)
                shard.release_trial()
                raise ShardOut(shard.name, f"has {late.owed} requests still to answer")
            if batch.compensates:
                self._push(late.connection)
            late.connection.close()
            raise shard.record_failure(
                TimeoutError(), dialled=False, began=late.due - self.step.timeout
            )
        try:
            connection, fresh = shard.pool.acquire(self._share(left))
        except (OSError, ShardError) as error:
            raise self._lost(shard, error, hurried=left > 1) from error
        except BaseException:
            shard.release_trial()
            raise
        return connection, 0, self.deadline, not fresh

    def _share(self, left: int) -> float:
        """Return the deadline for opening a connection: they are opened one after the other, each within its share of what is left."""
        now = self.clock()
        return now + max(self.until - now, 0.0) / left

    def _lost(self, shard: Shard, error: OSError | ShardError, *, hurried: bool) -> ShardError:
        """Return the error for a connection that could not be opened. A caller in a hurry says nothing about the shard by giving up.

        ``hurried``: it had only a share of the time, as others had to be asked as well.
        """
        if isinstance(error, TimeoutError) and self.until < self.deadline:
            shard.release_trial()
            return shard.overdue_error()
        return shard.record_failure(
            error, dialled=True, hurried=hurried, began=self.began, deadline=self.deadline
        )

    def _push(self, connection: Connection) -> None:
        """Send to a shard that hangs, as far as its buffers take it: it will read that when it wakes up."""
        try:
            connection.send_some(memoryview(self.payload))
        except OSError:
            return

    def _send(self, asked: _Asked) -> None:
        connection = asked.turn.connection
        try:
            rest = connection.send_some(memoryview(asked.turn.payload))
        except OSError as error:
            asked.turn.error = error
            self._over(asked)
            return
        asked.turn.rest = rest or None
        self.out[connection.fileno()] = asked
        self.poll.register(connection.fileno(), _BOTH if rest else _IN)

    def wait(self) -> None:
        """Take answers until enough is known, or patience is over."""
        out = self.out
        looked = False
        while out and not self.enough:
            wait = self.until - self.clock()
            ready = self.poll.poll(wait * 1000) if wait > 0 else ()
            if not ready and not looked:
                looked = True
                now = self.clock()
                self.late = held_up(now, self.until)
                wait = longer(now, self.until)
                self.until = now + wait
                ready = self.poll.poll(wait * 1000)
            if not ready:
                break
            for fd, mask in ready:
                asked = out[fd]
                if self._advance(asked.turn, mask):
                    del out[fd]
                    self.poll.unregister(fd)
                    try:
                        self._over(asked)
                    except BaseException:
                        asked.turn.connection.close()
                        raise
        take = self.step.on_reply
        if take is not None and not self.enough:
            for asked in out.values():
                take(asked.place, asked.shard.overdue_error(), None)

    def _advance(self, turn: Turn, mask: int) -> bool:
        """Read and write what there is; return whether this turn is over, with replies or an error."""
        try:
            if mask & ~select.POLLOUT:
                turn.connection.feed()
            if turn.rest is not None:
                turn.rest = turn.connection.send_some(turn.rest) or None
                if turn.rest is None:
                    self.poll.modify(turn.connection.fileno(), _IN)
            if turn.connection.drain(turn.replies, turn.expected):
                turn.settle()
                return True
        except Exception as error:  # noqa: BLE001 - one link's trouble must not reach the others
            turn.error = error
            return True
        return False

    def _over(self, asked: _Asked) -> None:
        """Give the outcome to ``take``; a batch whose kept link had died goes out once more if it may."""
        shard, turn, owed = asked.shard, asked.turn, asked.owed
        error = turn.error
        if error is None:
            replies: list[Reply] = turn.replies[owed:] if owed else turn.replies
            shard.latest = max(shard.latest, self.began + shard.timeout)
            outcome = check_replies(shard, replies)
            take = self.step.on_reply
            self.enough = (
                take is not None and take(asked.place, outcome, turn.connection.run)
            ) or self.enough
            shard.pool.release(turn.connection)
            return
        turn.connection.close()
        if not isinstance(error, (OSError, ShardError)):
            shard.release_trial()
            raise error
        if asked.kept and asked.batch.idempotent and may_retry(error):
            shard.record_retry()
            self._again(asked)
        else:
            self._note(asked.place, shard.record_failure(error, dialled=False))

    def _again(self, asked: _Asked) -> None:
        shard, batch = asked.shard, asked.batch
        try:
            connection = shard.pool.open(self._share(len(self.out) + 1))
        except (OSError, ShardError) as error:
            self._note(asked.place, self._lost(shard, error, hurried=bool(self.out)))
            return
        except BaseException:
            shard.release_trial()
            raise
        payload = pack_all(batch.commands)
        turn = Turn(
            connection, payload, len(batch.commands), batch.commands, validate=fit_of(batch)
        )
        self._send(_Asked(asked.place, shard, batch, turn, 0, self.deadline, kept=False))

    def _note(self, place: int, error: ShardError) -> None:
        take = self.step.on_reply
        self.enough = (take is not None and take(place, error, None)) or self.enough

    def keep(self) -> None:
        """Keep the links whose replies nobody waits for any more. What was sent by halves cannot be gone on with."""
        now = self.clock()
        # What a process that stood still has sent late has its whole time from now on.
        late = self.late or held_up(now, self.until)
        deadline = now + self.step.timeout if late else self.deadline
        for asked in self.out.values():
            shard, turn = asked.shard, asked.turn
            if turn.rest is not None:
                turn.connection.close()
                shard.record_failure(
                    TimeoutError(), dialled=False, began=self.began, deadline=self.deadline
                )
            else:
                shard.release_trial()  # should it be on trial, it has proved nothing yet
                due = asked.due if len(turn.replies) < asked.owed else deadline
                shard.keep_overdue(Overdue(turn.connection, turn.expected - len(turn.replies), due))

    def drop(self) -> None:
        """Close all that is out."""
        for asked in self.out.values():
            asked.turn.connection.close()
            asked.shard.release_trial()


def run_broadcast(shards: Sequence[Shard], step: Broadcast, clock: Callable[[], float]) -> None:
    """Carry out one `Broadcast`; return when ``take`` has said that enough is known, or patience is over."""
    around = _Round(step, clock)
    commands: list[Command] | None = None
    left = len(step.batches)
    try:
        for place, batch in enumerate(step.batches):
            if batch.commands is not commands:
                commands = batch.commands
                around.payload = pack_all(commands)
            around.ask(place, batch, shards[batch.shard], left)
            left -= 1
        around.wait()
    except BaseException:
        around.drop()
        raise
    around.keep()
