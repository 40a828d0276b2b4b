"""One figure: what was measured, against which goal; and the table that it is a line of."""

from dataclasses import dataclass

from race import Laps, Spread

__all__ = ("Figure", "against", "header")

LINE = "{what:<64} {goal:>8} {measured:>9} {spread:>15}  {verdict:<6}  {costs}"


@dataclass(frozen=True)
class Figure:
    """``goal`` is the most that is allowed, in ``unit``; None: the figure has no bound."""

    what: str
    measured: Spread
    goal: float | None = None
    unit: str = ""
    costs: str = ""

    @property
    def met(self) -> bool:
        return self.goal is None or self.measured.middle <= self.goal

    def __str__(self) -> str:
        # Three digits: 0.012, 0.58, 13.4.
        places = 3 if self.measured.middle < 0.1 else 2 if self.measured.middle < 10 else 1
        middle, low, high = (f"{value:.{places}f}" for value in self.measured)
        return LINE.format(
            what=self.what,
            goal="" if self.goal is None else f"≤ {self.goal:g}{self.unit}",
            measured=f"{middle}{self.unit}",
            spread=f"[{low} … {high}]",
            verdict="" if self.goal is None else "met" if self.met else "MISSED",
            costs=self.costs,
        ).rstrip()


def against(laps: Laps, name: str, peer: str, goal: float | None = None) -> Figure:
    """Return the figure "``name`` as a multiple of ``peer``", with what a call of each costs."""
    costs = f"{laps.micros(name):.1f} / {laps.micros(peer):.1f} µs"
    return Figure(f"{name} / {peer}", laps.ratio(name, peer), goal, "", costs)


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
