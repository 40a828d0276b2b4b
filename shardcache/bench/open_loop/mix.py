"""A mix of calls at a fixed rate: when each is due, and for which key."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple

from shardcache.bench.scenarios.case import Case

__all__ = ("DueCall", "Mix", "Outage", "OutageKind", "due_calls")

OutageKind = Literal["dies", "hangs"]


class Outage(NamedTuple):
    """What happens to the first shard in each window.

    ``kind``: "dies": its process ends, and comes back empty; "hangs": it answers nothing.
    ``start``: seconds after the begin of the window.
    ``length``: seconds until it is back.
    """

    kind: OutageKind
    start: float
    length: float


@dataclass(frozen=True)
class Mix:
    """What is called, how often, and beside whom.

    ``case``: servers and workers; all other conditions of a call.
    ``peers``: names of `Peer` objects.
    ``rate``: calls a second, of all workers together.
    ``seconds``: length of a window; peers take turns, window by window.
    ``writes``: the share of calls that are a `set`; the others are a `get`.
    ``keys``: how many there are.
    ``exponent``: of Zipf's law, by which keys are chosen.
    ``outage``: None: all shards are well.
    """

    case: Case
    peers: Sequence[str]
    rate: int = 2_000
    seconds: float = 1.0
    writes: float = 0.1
    keys: int = 2_000
    exponent: float = 1.0
    outage: Outage | None = None


class DueCall(NamedTuple):
    """A call.

    ``due``: seconds after the begin of the window.
    ``key``: the index of its key.
    ``write``: whether it is a `set`.
    """

    due: float
    key: int
    write: bool


def due_calls(mix: Mix, seed: int) -> list[DueCall]:
    """Return the calls of one window, evenly spaced; the same for each peer."""
    chance = random.Random(seed)
    weights = list(accumulate((rank + 1) ** -mix.exponent for rank in range(mix.keys)))
    count = round(mix.rate * mix.seconds)
    keys = chance.choices(range(mix.keys), cum_weights=weights, k=count)
    return [
        DueCall(number / mix.rate, key, chance.random() < mix.writes)
        for number, key in enumerate(keys)
    ]
