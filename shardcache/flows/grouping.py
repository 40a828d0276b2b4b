"""Questions to several shards, several of them to the same one: a shard gets one batch, and each question its own part of what came of it."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from shardcache.errors import ShardError
from shardcache.flows.steps import Batch, Broadcast, Flow, Outcome, ServerRun, exchange, gather
from shardcache.resp import Command

__all__ = ("GroupedBatches", "broadcast_grouped", "exchange_grouped", "together")

T = TypeVar("T")

Asked = Sequence[tuple[int, Sequence[Command]]]
"""For each question the shard, and the commands that it consists of."""


class GroupedBatches:
    """``batches``, one for each shard, and the way back from their outcomes to the questions."""

    __slots__ = ("_asked", "_places", "batches")

    def __init__(
        self,
        asked: Asked,
        *,
        idempotent: bool = True,
        compensates: bool = False,
        behind: bool = False,
        reads: bool = False,
    ) -> None:
        places: dict[int, list[int]] = {}
        for place, (shard, _) in enumerate(asked):
            places.setdefault(shard, []).append(place)
        self._asked = asked
        self._places = list(places.values())
        self.batches = [
            Batch(
                shard,
                [command for place in own for command in asked[place][1]],
                idempotent,
                None,
                compensates,
                behind,
                reads=reads,
            )
            for shard, own in places.items()
        ]

    def of(self, at: int, outcome: Outcome) -> Iterator[tuple[int, Outcome]]:
        """Yield the place of each question in the batch ``at``, and its own part of the outcome."""
        begin = 0
        for place in self._places[at]:
            end = begin + len(self._asked[place][1])
            yield place, outcome if isinstance(outcome, ShardError) else outcome[begin:end]
            begin = end


def exchange_grouped(
    asked: Asked, timeout: float | None = None, *, reads: bool = False
) -> Flow[list[Outcome]]:
    """Ask all in one exchange; return what came of each question: the replies to its commands, or the ShardError.

    ``patience``: seconds that a shard may take (None: a call's deadline).
    """
    parts = GroupedBatches(asked, reads=reads)
    if timeout is None:
        outcomes = yield from exchange(parts.batches)
    else:
        step, outcomes = gather(parts.batches, timeout, timeout)
        yield step
    found = dict(part for at, outcome in enumerate(outcomes) for part in parts.of(at, outcome))
    return [found[place] for place in range(len(asked))]


def broadcast_grouped(
    asked: Asked,
    on_reply: Callable[[int, Outcome, ServerRun | None], bool] | None,
    timeout: float,
    *,
    idempotent: bool = True,
    compensates: bool = False,
) -> Flow[None]:
    """Send what is asked, each (shard, commands), in one batch for each shard, behind whatever that still has to answer.

    Many keys are many answers that nobody waited for; a shard that is slow with them is not out. ``undo``: see `Batch`.

    ``heard`` is given the part of an outcome that belongs to a place in ``asked``, and says whether enough is known of all.
    """
    parts = GroupedBatches(asked, idempotent=idempotent, compensates=compensates, behind=True)

    def take(at: int, outcome: Outcome, run: ServerRun | None) -> bool:
        enough = False
        for place, part in parts.of(at, outcome):
            enough = on_reply is not None and on_reply(place, part, run)
        return enough

    yield Broadcast(parts.batches, None if on_reply is None else take, timeout)


def together(flows: Sequence[Flow[T]]) -> Flow[list[T]]:
    """Run flows side by side that do nothing but ask several shards and wait for answers; return their results, in order.

    Their questions to one shard go out in one batch.
    """
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

    for at in range(len(flows)):
        go_on(at)
    while steps:
        asking, steps = steps, {}
        yield from _ask_for_all(asking)
        for at in asking:
            go_on(at)
    return [results[at] for at in range(len(flows))]


def _ask_for_all(asking: dict[int, Broadcast]) -> Flow[None]:
    """Carry out the steps of several flows as one."""
    whose = [(at, place) for at, step in asking.items() for place in range(len(step.batches))]
    waiting = {at for at, step in asking.items() if step.on_reply is not None}

    def on_reply(number: int, outcome: Outcome, run: ServerRun | None) -> bool:
        at, place = whose[number]
        take = asking[at].on_reply
        if at in waiting and take is not None and take(place, outcome, run):
            waiting.discard(at)
        return not waiting

    asked = [(batch.shard, batch.commands) for step in asking.values() for batch in step.batches]
    idempotent = all(batch.idempotent for step in asking.values() for batch in step.batches)
    yield from broadcast_grouped(
        asked,
        on_reply if waiting else None,
        max(step.timeout for step in asking.values()),
        idempotent=idempotent,
    )
