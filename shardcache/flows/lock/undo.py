"""What a call that takes or releases a lock may have left with the voters.

It is noted before the first byte goes out, outside of the flow: a flow that is broken off twice,
the second time while it tidies up, cannot undo anything itself any more.
"""

from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from shardcache.flows.lock.lock_plan import LockPlan
from shardcache.flows.lock.scripts import ADOPT, RELEASE
from shardcache.flows.steps import Batch, Broadcast, Flow
from shardcache.resp import Command

__all__ = ("AT_ONCE", "LockUndo", "Pending", "give_back", "give_back_all", "put_back")

AT_ONCE = 100  # locks in one step


def _none() -> Collection[int]:
    return ()


class Pending(NamedTuple):
    """A token that voters may have.

    ``unsure``: names the places of the voters that may still grant late.
    ``given``: of an adoption, the token that is to stand there again.
    """

    plan: LockPlan
    token: bytes
    unsure: Callable[[], Collection[int]] = _none
    given: bytes = b""


class LockUndo:
    """What is to be undone of one call: ``pending``, or nothing."""

    __slots__ = ("pending",)

    def __init__(self) -> None:
        self.pending: Pending | None = None

    def flow(self) -> Flow[None]:
        """Undo on the voters what is pending. May be run again."""
        pending = self.pending
        if pending is None:
            return
        if pending.given:
            yield from put_back(pending.plan, pending.token, pending.given)
        else:
            yield from give_back_all([pending])
        self.pending = None


def give_back(plan: LockPlan, token: bytes, unsure: Collection[int] = ()) -> Flow[None]:
    """Tell every voter to release, whether it answered or not, and wait for none of them.

    ``unsure``: the places of the voters that may grant late.
    """
    return give_back_all([Pending(plan, token, lambda: unsure)])


def give_back_all(pending: Iterable[Pending]) -> Flow[None]:
    """Give several locks back, in one step, so that nothing can come between two of them.

    Of very many, `AT_ONCE` go out in one step: more than a connection takes would be lost. Only the
    answers to the last step are not waited for.
    """
    everything = list(pending)
    for at in range(0, len(everything), AT_ONCE):
        part = everything[at : at + AT_ONCE]
        step = _giving_back(part, wait=at + AT_ONCE < len(everything))
        try:
            yield step
        except GeneratorExit:
            raise
        except BaseException:  # broken off by a signal handler, perhaps before it was sent
            yield step
            raise


def _giving_back(part: list[Pending], *, wait: bool) -> Broadcast:
    """Return the step that gives some locks back; ``wait``: for the answers of all voters."""
    commands: dict[int, list[Command]] = {}
    late: set[int] = set()
    for plan, token, unsure, _ in part:
        command = plan.script(RELEASE, token)
        places = unsure()
        for place, shard in enumerate(plan.voters.shards):
            commands.setdefault(shard, []).append(command)
            if place in places:
                late.add(shard)
    batches = [
        Batch(shard, own, True, compensates=shard in late) for shard, own in commands.items()
    ]
    timeout = max(plan.voter_timeout for plan, *_ in part)
    # That the last voter has answered ends the step.
    return Broadcast(batches, (lambda _, __, ___: False) if wait else None, timeout)


def put_back(plan: LockPlan, own: bytes, given: bytes) -> Flow[None]:
    """Undo an adoption that nobody goes on with: where our token is, the given one is again.

    Waits for no answer.
    """
    commands = [plan.script_with_life(ADOPT, own, given)]
    yield Broadcast(
        [Batch(shard, commands, True, compensates=True) for shard in plan.voters.shards],
        None,
        plan.voter_timeout,
    )
