"""For the operator: who holds a lock, on which voters, how long; the list of locks; freeing one."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from shardcache.errors import QuorumUnavailable, ShardError
from shardcache.flows.lock.lease import quorum_th
from shardcache.flows.lock.lock_plan import LockKeys, LockPlan
from shardcache.flows.lock.scripts import BREAK, LOOK
from shardcache.flows.lock.slot_voters import lock_key, number_of, voter_key
from shardcache.flows.scan import page, pattern
from shardcache.flows.steps import Batch, Broadcast, Flow, Outcome, ServerRun, exchange
from shardcache.keys import KeySpace
from shardcache.resp import Command, Reply
from shardcache.topology.slots import slot_of

__all__ = (
    "FoundLocks",
    "LockState",
    "VoterState",
    "force_release",
    "held_locks_flow",
    "inspect_lock",
    "voter_state_of",
)


class VoterState(NamedTuple):
    """What one voter has: the token of the holder, seconds left, the voter's counter."""

    token: bytes | None
    left: float
    fence: int


def voter_state_of(reply: Reply) -> VoterState:
    """Return the state that the script `LOOK` answered."""
    token, left, fence = reply
    return VoterState(token, max(left, 0) / 1000 if left != -1 else float("inf"), fence)


@dataclass(frozen=True, slots=True)
class LockState:
    """What the voters have at one moment.

    ``seen``: the state of each voter, by place; an error if a voter did not answer.
    ``quorum``: how many voters are a majority.
    """

    seen: tuple[VoterState | ShardError, ...]
    quorum: int

    def lefts(self, token: bytes) -> list[float]:
        """Seconds that each voter will still hold ``token``: 0.0 where it does not."""
        return [
            0.0 if isinstance(one, ShardError) or one.token != token else one.left
            for one in self.seen
        ]

    @property
    def holder(self) -> bytes | None:
        """The token that a majority holds, if there is one."""
        tokens = [
            one.token
            for one in self.seen
            if not isinstance(one, ShardError) and one.token is not None
        ]
        return next(
            (token for token in dict.fromkeys(tokens) if tokens.count(token) >= self.quorum), None
        )

    @property
    def remaining(self) -> float:
        """Seconds that a majority will still hold the holder's token."""
        token = self.holder
        return 0.0 if token is None else quorum_th(self.lefts(token), self.quorum)

    @property
    def answered(self) -> int:
        return sum(not isinstance(one, ShardError) for one in self.seen)


def inspect_lock(plan: LockPlan) -> Flow[LockState]:
    """Ask every voter. Raises `QuorumUnavailable` if fewer than a majority answer."""
    # Wait for all voters, in the time that a voter has.
    shards = plan.voters.shards
    seen: list[VoterState | ShardError | None] = [None] * len(shards)

    def on_reply(place: int, outcome: Outcome, _: ServerRun | None) -> bool:
        reply = outcome if isinstance(outcome, ShardError) else outcome[0]
        if isinstance(reply, ShardError):
            seen[place] = reply
        else:
            seen[place] = voter_state_of(reply)
        return None not in seen

    commands = [plan.script(LOOK)]
    yield Broadcast(
        [Batch(shard, commands, True) for shard in shards], on_reply, plan.voter_timeout
    )
    # A voter that has not answered by now counts as an error.
    answers = [
        one or ShardError(name, "did not answer")
        for one, name in zip(seen, plan.voters.names, strict=True)
    ]
    state = LockState(tuple(answers), plan.quorum)
    if state.answered < plan.quorum:
        out = "; ".join(str(one) for one in answers if isinstance(one, ShardError))
        raise QuorumUnavailable(
            plan.name, f"too few of the {plan.voters.total} voters answer: {out}"
        )
    return state


def force_release(plan: LockPlan) -> Flow[int]:
    """Free the lock, whichever client holds it; return on how many voters it was held."""
    # An error of a voter is no answer, but it is heard.
    shards = plan.voters.shards
    heard = freed = 0
    errors: list[ShardError] = []

    def on_reply(_: int, outcome: Outcome, __: ServerRun | None) -> bool:
        nonlocal heard, freed
        heard += 1
        reply = outcome if isinstance(outcome, ShardError) else outcome[0]
        if isinstance(reply, ShardError):
            errors.append(reply)
        else:
            freed += reply
        return heard == len(shards)

    # All voters are asked, and all that answer are counted; a majority is needed.
    commands = [plan.script(BREAK)]
    yield Broadcast(
        [Batch(shard, commands, True) for shard in shards], on_reply, plan.voter_timeout
    )
    if heard - len(errors) < plan.quorum:
        out = "; ".join(map(str, errors)) or "none answered"
        raise QuorumUnavailable(
            plan.name, f"too few of the {plan.voters.total} voters answer: {out}"
        )
    return freed


FoundLocks = dict[bytes, dict[int, VoterState | ShardError]]
"""For each lock, by its wire key, what each voter has that has its key, by its number."""

_FAMILY = b"lock"


def held_locks_flow(
    shards: Iterable[int], space: KeySpace, *, on_slots: bool = False
) -> Flow[tuple[FoundLocks, dict[int, ShardError]]]:
    """Return the locks of a namespace by their wire keys, and the shards that failed.

    The list is not of one moment: a lock that is taken or released during the walk may be in it or
    not. The servers look at all their keys, 500 in each step; each step has the deadline of a call.

    ``shards``: where to look.
    ``space``: the namespace.
    ``on_slots``: whether the voters are slots of a Redis Cluster (`slot_voters`).
    """
    found: FoundLocks = {}
    out: dict[int, ShardError] = {}
    for shard in shards:
        cursor = None
        while cursor != 0:
            cursor, keys, error = yield from page(
                shard, cursor or 0, pattern(space.internals + _FAMILY + b":", b"*")
            )
            places: list[tuple[bytes | None, int | None]]
            if on_slots:
                places = [
                    (space.wire_of(_FAMILY, lock_key(key) or b""), slot_of(key)) for key in keys
                ]
            else:
                places = [(space.wire_of(_FAMILY, key), None) for key in keys]
            locks = [(wire, slot) for wire, slot in places if wire]
            if locks and error is None:
                error = yield from _look(shard, locks, space, found)
            if error is not None:
                out[shard] = error
                break
    return found, out


def _look(
    shard: int, locks: list[tuple[bytes, int | None]], space: KeySpace, found: FoundLocks
) -> Flow[ShardError | None]:
    """Note in ``found`` what one shard has of these locks.

    ``locks``: the wire key of each, and the slot that is the voter; None: the shard is.
    """
    commands: list[Command] = [
        (
            *(b"EVAL", LOOK, b"4"),
            *(key if slot is None else voter_key(key, slot) for key in LockKeys.of(wire, space)),
        )
        for wire, slot in locks
    ]
    [outcome] = yield from exchange([Batch(shard, commands, True)])
    if isinstance(outcome, ShardError):
        return outcome
    for (wire, slot), reply in zip(locks, outcome, strict=True):
        seen = reply if isinstance(reply, ShardError) else voter_state_of(reply)
        # Without a token, the lock was released a moment ago.
        if isinstance(seen, ShardError) or seen.token is not None:
            found.setdefault(wire, {})[shard if slot is None else number_of(slot)] = seen
    return None
