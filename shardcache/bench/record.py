"""A record: the figures of one run with their command, machine and versions, and its JSON."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shardcache.bench.figure import Figure
from shardcache.bench.race import Spread
from shardcache.errors import InvalidOption

__all__ = ("Record", "Setting", "joined", "read_record")

FORMAT = 1  # of the file; another number is another format


@dataclass(frozen=True)
class Setting:
    """What the figures depend on.

    ``command``: as it can be typed again.
    ``date``: of the start, ISO 8601.
    ``clock``: what was timed.
    ``rounds``: of each race.
    ``machine``: system, processor, cores, load at the start, and the like.
    ``versions``: of the interpreter and of the packages.
    """

    command: str
    date: str
    clock: str
    rounds: int
    machine: Mapping[str, str]
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Record:
    """A run.

    ``figures``: by subject and by what they say, in the order of the run.
    ``absent``: what was not measured, in a sentence each. Default: none.
    """

    setting: Setting
    figures: Mapping[tuple[str, str], Figure]
    absent: Sequence[str] = ()

    def to_json(self) -> str:
        """Return the text of a file that `read_record` reads."""
        figures = [
            {
                "subject": subject,
                "what": what,
                "unit": figure.unit.strip(),
                "goal": figure.goal,
                "measured": figure.measured._asdict(),
                "costs": figure.costs,
                "per_call_us": {name: cost._asdict() for name, cost in figure.per_call.items()},
            }
            for (subject, what), figure in self.figures.items()
        ]
        whole: dict[str, Any] = {
            "format": FORMAT,
            "setting": vars(self.setting),
            "figures": figures,
        }
        whole["absent"] = list(self.absent)
        return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def joined(records: Iterable[Record]) -> Record:
    """Return runs as one: what several measured counts by the last, and so do date and rounds.

    What else differs between their settings is shown of each, in their order.
    """
    found = list(records)
    last = found[-1].setting
    figures = {name: figure for record in found for name, figure in record.figures.items()}
    absent = dict.fromkeys(one for record in found for one in record.absent)
    commands = "; ".join(dict.fromkeys(record.setting.command for record in found))
    machine = _of_each([record.setting.machine for record in found])
    versions = _of_each([record.setting.versions for record in found])
    setting = replace(last, command=commands, machine=machine, versions=versions)
    return Record(setting, figures, tuple(absent))


def _of_each(found: Sequence[Mapping[str, str]]) -> dict[str, str]:
    names = dict.fromkeys(name for one in found for name in one)
    return {
        name: " / ".join(dict.fromkeys(one.get(name, "none") for one in found)) for name in names
    }


def read_record(path: Path) -> Record:
    """Read the JSON of an earlier run.

    ``path``: of the file.

    `InvalidOption`: the file cannot be read, or is no record of this format.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise ValueError(f"no format {FORMAT}")
        setting = Setting(**found["setting"])
        figures = {(one["subject"], one["what"]): _figure(one) for one in found["figures"]}
        absent = tuple(map(str, found.get("absent", ())))
    except OSError as error:
        raise InvalidOption(f"cannot read {path}: {error.strerror}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidOption(
            f"{path} must be what --json FILE of a benchmark wrote, got something else "
            f"({type(error).__name__}: {error})"
        ) from None
    return Record(setting, figures, absent)


def _figure(one: Mapping[str, Any]) -> Figure:
    return Figure(
        what=one["what"],
        measured=_spread(one["measured"]),
        goal=one["goal"],
        unit=f" {one['unit']}" if one["unit"] else "",
        costs=one["costs"],
        per_call={name: _spread(cost) for name, cost in one["per_call_us"].items()},
    )


def _spread(one: Mapping[str, Any]) -> Spread:
    spread = Spread(**one)
    if not all(math.isfinite(value) for value in spread):  # TypeError: a text
        raise ValueError(f"a number that is none: {spread}")
    return spread
