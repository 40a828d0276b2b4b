"""Questions to several shards, some of them to the same one.

A shard gets one batch, and each question its own part of the replies to it.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from shardcache.errors import ShardError
from shardcache.flows.steps import Batch, Broadcast, Flow, Outcome, ServerRun, exchange, gather
from shardcache.resp import Command

__all__ = ("broadcast_grouped", "exchange_grouped", "together")

T = TypeVar("T")

Asked = Sequence[tuple[int, Sequence[Command]]]
"""For each question the shard, and the commands that it consists of."""

_Parts = list[tuple[int, slice]]
"""The questions of one batch: the index of each, and which replies of the batch are its own."""


def _by_shard(asked: Asked) -> dict[int, tuple[list[Command], _Parts]]:
    """Return for each shard all commands for it, and the questions that they belong to."""
    groups: dict[int, tuple[list[Command], _Parts]] = {}
    for place, (shard, own) in enumerate(asked):
        commands, parts = groups.setdefault(shard, ([], []))
        parts.append((place, slice(len(commands), len(commands) + len(own))))
        commands += own
    return groups


def exchange_grouped(
    asked: Asked, timeout: float | None = None, *, reads: bool = False
) -> Flow[list[Outcome]]:
    """Ask all in one exchange; return for each question the replies, or the ShardError.

    ``timeout``: seconds that a shard may take (None: a call's deadline).
    ``reads``: the commands change nothing.
    """
    groups = _by_shard(asked)
    batches = [Batch(shard, commands, True, reads=reads) for shard, (commands, _) in groups.items()]
    if timeout is None:
        outcomes = yield from exchange(batches)
    else:
        step, outcomes = gather(batches, timeout)
        yield step
    found: dict[int, Outcome] = {}
    for (_, parts), outcome in zip(groups.values(), outcomes, strict=True):
        for place, part in parts:
            found[place] = outcome if isinstance(outcome, ShardError) else outcome[part]
    return [found[place] for place in range(len(asked))]


def broadcast_grouped(
    asked: Asked,
    on_reply: Callable[[int, Outcome, ServerRun | None], bool] | None,
    timeout: float,
    *,
    idempotent: bool = True,
    compensates: bool = False,
) -> Flow[None]:
    """Ask all at once, behind whatever each shard still has to answer.

    Many keys make many answers that nobody waits for; a shard that is slow with them is not out.

    ``on_reply``: gets the place of a question in ``asked`` and its part of an outcome, and says
        whether enough is known of all; None: no answer is waited for.
    ``timeout``: seconds that a shard may take.
    ``idempotent``, ``compensates``: see `Batch`.
    """
    # One batch for each shard, behind the replies that its connection owes.
    groups = _by_shard(asked)
    batches = [
        Batch(shard, commands, idempotent, None, compensates, after_pending=True)
        for shard, (commands, _) in groups.items()
    ]
    if on_reply is None:
        yield Broadcast(batches, None, timeout)
        return
    # Each outcome is cut into the parts of its questions.
    parts_of = [parts for _, parts in groups.values()]

    def hand_on(at: int, outcome: Outcome, run: ServerRun | None) -> bool:
        enough = False
        for place, part in parts_of[at]:
            own = outcome if isinstance(outcome, ShardError) else outcome[part]
            enough = on_reply(place, own, run)
        return enough

    yield Broadcast(batches, hand_on, timeout)


def together(flows: Sequence[Flow[T]], *, hear_all: bool = False) -> Flow[list[T]]:
    """Run flows side by side; return their results in order.

    ``flows``: flows that yield nothing but `Broadcast`; else raises `TypeError`.
    ``hear_all``: wait for all replies, so that the shards owe none when more is to be sent.

    Their questions to one shard are sent in one batch.
    """
    # Each flow has a step to be carried out, or a result.
    results: dict[int, T] = {}
    steps: dict[int, Broadcast] = {}

    def go_on(at: int) -> None:
        try:
            step = next(flows[at])
        except StopIteration as end:
            results[at] = end.value
        else:
            if not isinstance(step, Broadcast):
                raise TypeError(
                    f"only questions to several shards go side by side, got {step!r:.80}"
                )
            steps[at] = step

    # All steps are carried out as one, then all flows go on to their next step.
    for at in range(len(flows)):
        go_on(at)
    while steps:
        asking, steps = steps, {}
        yield from _ask_for_all(asking, hear_all=hear_all)
        for at in asking:
            go_on(at)
    return [results[at] for at in range(len(flows))]


def _ask_for_all(asking: dict[int, Broadcast], *, hear_all: bool) -> Flow[None]:
    """Carry out the steps of several flows as one."""
    whose = [(at, place) for at, step in asking.items() for place in range(len(step.batches))]
    waiting = {at for at, step in asking.items() if step.on_reply is not None}

    def on_reply(number: int, outcome: Outcome, run: ServerRun | None) -> bool:
        at, place = whose[number]
        take = asking[at].on_reply
        if at in waiting and take is not None and take(place, outcome, run):
            waiting.discard(at)
        return not waiting and not hear_all

    batches = [batch for step in asking.values() for batch in step.batches]
    asked = [(batch.shard, batch.commands) for batch in batches]
    yield from broadcast_grouped(
        asked,
        on_reply if waiting or hear_all else None,
        max(step.timeout for step in asking.values()),
        idempotent=all(batch.idempotent for batch in batches),
        compensates=any(batch.compensates for batch in batches),
    )
