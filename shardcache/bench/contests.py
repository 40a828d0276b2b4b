"""What the figures of a run say of each peer: the ratios to it, and its latencies, by case."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from shardcache.bench.figure import Figure, digits
from shardcache.bench.race import Spread
from shardcache.bench.record import Record

__all__ = ("Latency", "Ratio", "better_peers", "latencies", "ratios")

OURS = "shardcache"


class Ratio(NamedTuple):
    """The client's time as a multiple of a peer's, in one case."""

    case: str
    peer: str
    measured: Spread


class Latency(NamedTuple):
    """A measure of one client under a mix: a percentile, or what was not served."""

    client: str
    measure: str
    measured: Spread
    unit: str


def ratios(figures: Collection[Figure]) -> list[Ratio]:
    """Return those of the figures that are ratios to a peer."""
    found = []
    for figure in figures:
        names = list(figure.per_call)
        if len(names) == 2 and not figure.unit:
            case = figure.what.removesuffix(f": {names[0]} / {names[1]}")
            found.append(Ratio(case, names[1], figure.measured))
    return found


def latencies(figures: Collection[Figure]) -> list[Latency]:
    """Return those of the figures that are measures of a mix: "redis-py: p99"."""
    found = []
    for figure in figures:
        client, colon, measure = figure.what.rpartition(": ")
        if colon and figure.unit in (" ms", " %") and not figure.per_call:
            found.append(Latency(client, measure, figure.measured, figure.unit))
    return found


def better_peers(record: Record, floor: Collection[str]) -> dict[str, list[str]]:
    """Return in which figures each peer is better, by more than the noise.

    ``floor``: names of peers that are no clients, and so left out.

    A ratio counts if its lower quartile is above 1, a latency if the quartiles do not overlap.
    """
    found: dict[str, list[str]] = {}
    subjects: dict[str, list[Figure]] = {}
    for (subject, _), figure in record.figures.items():
        subjects.setdefault(subject, []).append(figure)
    for subject, figures in subjects.items():
        for ratio in ratios(figures):
            if ratio.measured.low > 1 and ratio.peer not in floor:
                text = f"{ratio.case} ({digits(ratio.measured)[0]})"
                found.setdefault(ratio.peer, []).append(text)
        measured = latencies(figures)
        ours = {one.measure: one.measured for one in measured if one.client == OURS}
        for one in measured:
            if one.measure in ours and one.measured.high < ours[one.measure].low:
                found.setdefault(one.client, []).append(_compared(subject, one, ours))
    # The same case stands in several scenarios.
    return {peer: list(dict.fromkeys(texts)) for peer, texts in found.items()}


def _compared(subject: str, one: Latency, ours: Mapping[str, Spread]) -> str:
    theirs, mine = digits(one.measured)[0], digits(ours[one.measure])[0]
    return f"{subject} {one.measure} ({theirs} to {mine}{one.unit})"
