"""The sync side of `Canvass`: ask many shards, and wait for no more of them than are needed.

A link whose reply nobody waited for is not closed, nor does it go back to its pool: it is kept beside it (`Late`), and
the next canvass of that shard by the same thread goes out on it, behind what it still owes. So commands take effect in the order in
which they were sent, a hung voter holds up nobody, and a healthy one costs no new connection. A reply that is overdue when somebody
looks counts as a timeout of its shard: the breaker opens, and from then on nothing is sent there. Only what undoes something
goes out all the same, behind what it is to undo, before the connection is given up.
"""

import select
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shardcache.drivers.replies import answered
from shardcache.drivers.sync.shard import Late, Shard, may_retry
from shardcache.errors import ShardError, ShardOut
from shardcache.flows.own_pause import held_up, longer
from shardcache.flows.reply_checks import fit_of
from shardcache.flows.steps import Batch, Canvass
from shardcache.policy.breaker import State
from shardcache.resp import Command, Reply
from shardcache.wire import Link, Turn, pack_all

__all__ = ("canvass",)

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

    __slots__ = ("began", "clock", "deadline", "enough", "late", "out", "payload", "poll", "step", "until")

    def __init__(self, step: Canvass, clock: Callable[[], float]) -> None:
        self.step = step
        self.clock = clock
        self.began = now = clock()
        self.deadline = now + step.patience
        self.until = self.deadline if step.limit is None else min(self.deadline, now + step.limit)
        self.enough = step.take is None
        self.late = False  # whether this process stood still
        self.out: dict[int, _Asked] = {}
        self.poll = select.poll()
        self.payload = b""

    def ask(self, place: int, batch: Batch, shard: Shard, left: int) -> None:
        """Send a batch, or note why it cannot be sent. ``left`` shards are still to be asked, this one among them."""
        try:
            link, owed, due, kept = self._link(shard, left, batch)
        except ShardError as error:
            self._note(place, error)
            return
        try:
            turn = Turn(link, self.payload, len(batch.commands), batch.commands, owed, fit_of(batch))
            self._send(_Asked(place, shard, batch, turn, owed, due, kept))
        except BaseException:
            link.close()
            shard.abandon()
            raise

    def _link(self, shard: Shard, left: int, batch: Batch) -> tuple[Link, int, float, bool]:
        """Return a link, what it owes until when, and whether it is an old one; raise what stands in the way as `ShardError`."""
        if shard.breaker.state is not State.CLOSED:
            shard.admit()
        late = shard.recall()
        if late is not None:
            if not late.overdue:
                if late.owed < _MOST_OWED or batch.undo or batch.behind:
                    return late.link, late.owed, late.due, True
                shard.keep(late)
                shard.abandon()
                raise ShardOut(shard.name, f"has {late.owed} requests still to answer")
            if batch.undo:
                self._push(late.link)
            late.link.close()
            raise shard.lost(TimeoutError(), dialled=False, began=late.due - self.step.patience)
        try:
            link, fresh = shard.pool.take(self._share(left))
        except (OSError, ShardError) as error:
            raise self._lost(shard, error, hurried=left > 1) from error
        except BaseException:
            shard.abandon()
            raise
        return link, 0, self.deadline, not fresh

    def _share(self, left: int) -> float:
        """Return the deadline for opening a connection: they are opened one after the other, each within its share of what is left."""
        now = self.clock()
        return now + max(self.until - now, 0.0) / left

    def _lost(self, shard: Shard, error: OSError | ShardError, *, hurried: bool) -> ShardError:
        """Return the error for a connection that could not be opened. A caller in a hurry says nothing about the shard by giving up.

        ``hurried``: it had only a share of the time, as others had to be asked as well.
        """
        if isinstance(error, TimeoutError) and self.until < self.deadline:
            shard.abandon()
            return shard.late_error()
        return shard.lost(error, dialled=True, hurried=hurried, began=self.began, deadline=self.deadline)

    def _push(self, link: Link) -> None:
        """Send to a shard that hangs, as far as its buffers take it: it will read that when it wakes up."""
        try:
            link.send_some(memoryview(self.payload))
        except OSError:
            return

    def _send(self, asked: _Asked) -> None:
        link = asked.turn.link
        try:
            rest = link.send_some(memoryview(asked.turn.payload))
        except OSError as error:
            asked.turn.error = error
            self._over(asked)
            return
        asked.turn.rest = rest or None
        self.out[link.fileno()] = asked
        self.poll.register(link.fileno(), _BOTH if rest else _IN)

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
                        asked.turn.link.close()
                        raise
        take = self.step.take
        if take is not None and not self.enough:
            for asked in out.values():
                take(asked.place, asked.shard.late_error(), None)

    def _advance(self, turn: Turn, mask: int) -> bool:
        """Read and write what there is; return whether this turn is over, with replies or an error."""
        try:
            if mask & ~select.POLLOUT:
                turn.link.feed()
            if turn.rest is not None:
                turn.rest = turn.link.send_some(turn.rest) or None
                if turn.rest is None:
                    self.poll.modify(turn.link.fileno(), _IN)
            if turn.link.drain(turn.replies, turn.expected):
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
            outcome = answered(shard, replies)
            take = self.step.take
            self.enough = (take is not None and take(asked.place, outcome, turn.link.run)) or self.enough
            shard.pool.give(turn.link)
            return
        turn.link.close()
        if not isinstance(error, (OSError, ShardError)):
            shard.abandon()
            raise error
        if asked.kept and asked.batch.twice and may_retry(error):
            shard.again()
            self._again(asked)
        else:
            self._note(asked.place, shard.lost(error, dialled=False))

    def _again(self, asked: _Asked) -> None:
        shard, batch = asked.shard, asked.batch
        try:
            link = shard.pool.open(self._share(len(self.out) + 1))
        except (OSError, ShardError) as error:
            self._note(asked.place, self._lost(shard, error, hurried=bool(self.out)))
            return
        except BaseException:
            shard.abandon()
            raise
        payload = pack_all(batch.commands)
        turn = Turn(link, payload, len(batch.commands), batch.commands, fit=fit_of(batch))
        self._send(_Asked(asked.place, shard, batch, turn, 0, self.deadline, kept=False))

    def _note(self, place: int, error: ShardError) -> None:
        take = self.step.take
        self.enough = (take is not None and take(place, error, None)) or self.enough

    def keep(self) -> None:
        """Keep the links whose replies nobody waits for any more. What was sent by halves cannot be gone on with."""
        now = self.clock()
        # What a process that stood still has sent late has its whole time from now on.
        late = self.late or held_up(now, self.until)
        deadline = now + self.step.patience if late else self.deadline
        for asked in self.out.values():
            shard, turn = asked.shard, asked.turn
            if turn.rest is not None:
                turn.link.close()
                shard.lost(TimeoutError(), dialled=False, began=self.began, deadline=self.deadline)
            else:
                shard.abandon()  # should it be on trial, it has proved nothing yet
                due = asked.due if len(turn.replies) < asked.owed else deadline
                shard.keep(Late(turn.link, turn.expected - len(turn.replies), due))

    def drop(self) -> None:
        """Close all that is out."""
        for asked in self.out.values():
            asked.turn.link.close()
            asked.shard.abandon()


def canvass(shards: Sequence[Shard], step: Canvass, clock: Callable[[], float]) -> None:
    """Carry out one `Canvass`; return when ``take`` has said that enough is known, or patience is over."""
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
