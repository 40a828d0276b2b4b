"""Questions to several shards, several of them to the same one: a shard gets one batch, and each question its own part of what came of it."""

from collections.abc import Iterator, Sequence

from shardcache.commands import Command
from shardcache.errors import ShardError
from shardcache.flows.steps import Batch, Flow, Outcome, exchange

__all__ = ("Parts", "each")

Asked = Sequence[tuple[int, Sequence[Command]]]
"""For each question the shard, and the commands that it consists of."""


class Parts:
    """``batches``, one for each shard, and the way back from their outcomes to the questions."""

    __slots__ = ("_asked", "_places", "batches")

    def __init__(self, asked: Asked, *, twice: bool = True, undo: bool = False, behind: bool = False) -> None:
        places: dict[int, list[int]] = {}
        for place, (shard, _) in enumerate(asked):
            places.setdefault(shard, []).append(place)
        self._asked = asked
        self._places = list(places.values())
        self.batches = [
            Batch(shard, [command for place in own for command in asked[place][1]], twice, None, undo, behind)
            for shard, own in places.items()
        ]

    def of(self, at: int, outcome: Outcome) -> Iterator[tuple[int, Outcome]]:
        """Yield the place of each question in the batch ``at``, and its own part of the outcome."""
        begin = 0
        for place in self._places[at]:
            end = begin + len(self._asked[place][1])
            yield place, outcome if isinstance(outcome, ShardError) else outcome[begin:end]
            begin = end


def each(asked: Asked) -> Flow[list[Outcome]]:
    """Ask all in one exchange; return what came of each question: the replies to its commands, or the ShardError."""
    parts = Parts(asked)
    outcomes = yield from exchange(parts.batches)
    found = dict(part for at, outcome in enumerate(outcomes) for part in parts.of(at, outcome))
    return [found[place] for place in range(len(asked))]
