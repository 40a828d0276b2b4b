"""The sync side of `Canvass`: ask many shards, and wait for no more of them than are needed.

A link whose reply nobody waited for is not closed, nor does it go back to its pool: it is kept beside it (`Late`), and
the next canvass of that shard goes out on it, behind what it still owes. So commands take effect in the order in which they
were sent, a hung voter holds up nobody, and a healthy one costs no new connection. A reply that is overdue when somebody looks
counts as a timeout of its shard: the breaker opens, and from then on nothing is sent there.
"""

import select
from collections.abc import Callable, Sequence
from typing import NamedTuple

from shardcache.commands import Command, Reply
from shardcache.drivers.replies import answered
from shardcache.drivers.shard import Late, Shard
from shardcache.errors import ShardError
from shardcache.flows.steps import Canvass
from shardcache.policy.breaker import State
from shardcache.wire import Link, Turn, pack_all

__all__ = ("canvass",)

_IN = select.POLLIN
_BOTH = select.POLLIN | select.POLLOUT


class _Asked(NamedTuple):
    """A batch that is out: ``owed`` replies to what was sent before come first."""

    place: int
    shard: Shard
    turn: Turn
    owed: int


def canvass(shards: Sequence[Shard], step: Canvass, clock: Callable[[], float]) -> None:
    """Carry out one `Canvass`; return when ``take`` has said that enough is known, or patience is over."""
    deadline = clock() + step.patience
    take = step.take
    enough = take is None
    out: dict[int, _Asked] = {}
    poll = select.poll()
    commands: list[Command] | None = None
    payload = b""
    left = len(step.batches)
    try:
        for place, batch in enumerate(step.batches):
            shard = shards[batch.shard]
            if batch.commands is not commands:
                commands = batch.commands
                payload = pack_all(commands)
            try:
                link, owed = _link(shard, deadline, left, clock)
            except ShardError as error:
                enough = (take is not None and take(place, error, None)) or enough
                continue
            finally:
                left -= 1
            turn = Turn(link, payload, len(commands) + owed)
            try:
                rest = link.send_some(memoryview(turn.payload))
            except OSError as error:
                link.close()
                enough = (take is not None and take(place, shard.lost(error, dialled=False), None)) or enough
                continue
            turn.rest = rest or None
            out[link.fileno()] = _Asked(place, shard, turn, owed)
            poll.register(link.fileno(), _BOTH if rest else _IN)
        while out and not enough:
            wait = (deadline - clock()) * 1000
            ready = poll.poll(wait) if wait > 0 else ()
            if not ready:
                break
            for fd, mask in ready:
                asked = out[fd]
                if _advance(asked.turn, mask, poll):
                    del out[fd]
                    poll.unregister(fd)
                    enough = _count(asked, step) or enough
        if take is not None and not enough:
            for asked in out.values():
                take(asked.place, asked.shard.late_error(), None)
    except BaseException:
        for asked in out.values():
            asked.turn.link.close()
            asked.shard.abandon()
        raise
    for asked in out.values():
        _keep(asked, deadline)


def _link(shard: Shard, deadline: float, left: int, clock: Callable[[], float]) -> tuple[Link, int]:
    """Return a link and how many replies it owes; raise what stands in the way as `ShardError`."""
    late = shard.recall()
    if late is not None:
        return late
    if shard.breaker.state is not State.CLOSED:
        shard.admit()
    now = clock()
    try:
        # Connections are made one after the other: each may use its share of what is left.
        link, _ = shard.pool.take(deadline if left == 1 else now + (deadline - now) / left)
    except (OSError, ShardError) as error:
        raise shard.lost(error, dialled=True) from error
    except BaseException:
        shard.abandon()
        raise
    return link, 0


def _advance(turn: Turn, mask: int, poll: "select.poll") -> bool:
    """Read and write what there is; return whether this turn is over, with replies or an error."""
    try:
        if mask & ~select.POLLOUT:
            turn.link.feed()
        if turn.rest is not None:
            turn.rest = turn.link.send_some(turn.rest) or None
            if turn.rest is None:
                poll.modify(turn.link.fileno(), _IN)
        if turn.link.drain(turn.replies, turn.expected):
            turn.settle()
            return True
    except Exception as error:  # noqa: BLE001 - one link's trouble must not reach the others
        turn.error = error
        return True
    return False


def _count(asked: _Asked, step: Canvass) -> bool:
    """Give the outcome to ``take``; return whether enough is known."""
    _, shard, turn, owed = asked
    error = turn.error
    if error is None:
        run = turn.link.run
        shard.pool.give(turn.link)
        replies: list[Reply] = turn.replies[owed:] if owed else turn.replies
        return bool(step.take and step.take(asked.place, answered(shard, replies), run))
    turn.link.close()
    if not isinstance(error, (OSError, ShardError)):
        shard.abandon()
        raise error
    return bool(step.take and step.take(asked.place, shard.lost(error, dialled=False), None))


def _keep(asked: _Asked, deadline: float) -> None:
    """Keep a link whose reply nobody waits for any more. What was sent by halves cannot be gone on with."""
    _, shard, turn, _ = asked
    if turn.rest is not None:
        turn.link.close()
        shard.lost(TimeoutError(), dialled=False)
    else:
        shard.abandon()  # should it be on trial, it has proved nothing
        shard.late.append(Late(turn.link, turn.expected - len(turn.replies), deadline))
