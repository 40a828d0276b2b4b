"""One figure: what was measured, against which goal; and the table that it is a line of."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shardcache.bench.race import Laps, Spread

__all__ = ("Absent", "Figure", "against", "digits", "header")

LINE = "{what:<64} {goal:>8} {measured:>9} {spread:>15}  {verdict:<6}  {costs}"


@dataclass(frozen=True)
class Figure:
    """What was measured: less is better, whatever the figure.

    ``what``: the question, as the table says it; with its subject, the name of the figure.
    ``measured``: a median between its quartiles, in ``unit``.
    ``goal``: the most that is allowed, in ``unit``. Default: None, the figure has no bound.
    ``unit``: as it stands behind the number. Default: "", a ratio or a count.
    ``costs``: what one call of each costs, as text.
    ``per_call``: the same in microseconds, by client.
    """

    what: str
    measured: Spread
    goal: float | None = None
    unit: str = ""
    costs: str = ""
    per_call: Mapping[str, Spread] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        return self.goal is None or self.measured.middle <= self.goal

    def __str__(self) -> str:
        middle, low, high = digits(self.measured)
        return LINE.format(
            what=self.what,
            goal="" if self.goal is None else f"≤ {self.goal:g}{self.unit}",
            measured=f"{middle}{self.unit}",
            spread=f"[{low} … {high}]",
            verdict="" if self.goal is None else "met" if self.met else "MISSED",
            costs=self.costs,
        ).rstrip()


@dataclass(frozen=True)
class Absent:
    """What was not measured.

    ``what``: a peer, or a case.
    ``reason``: why not.
    """

    what: str
    reason: str

    def __str__(self) -> str:
        return f"not measured: {self.what}: {self.reason}"


def against(laps: Laps, name: str, peer: str, goal: float | None = None) -> Figure:
    """Return the figure "``name`` as a multiple of ``peer``", with what a call of each costs."""
    costs = f"{laps.micros(name):.1f} / {laps.micros(peer):.1f} µs"
    ratio = laps.ratio(name, peer)
    return Figure(f"{name} / {peer}", ratio, goal, "", costs, laps.costs(name, peer))


def digits(spread: Spread) -> tuple[str, str, str]:
    """Return median and quartiles with three digits: 0.012, 0.58, 13.4."""
    places = 3 if spread.middle < 0.1 else 2 if spread.middle < 10 else 1
    middle, low, high = (f"{value:.{places}f}" for value in spread)
    return middle, low, high


def header() -> str:
    """Return the line that heads the table."""
    head = LINE.format(
        what="",
        goal="goal",
        measured="measured",
        spread="quartiles",
        verdict="",
        costs="per call, medians",
    )
    return f"{head}\n{'─' * len(head)}"
