"""The five ways in which drivers mark the parameters of a statement (PEP 249, ``paramstyle``)."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from string import Formatter
from typing import Any

from shardcache.errors import InvalidOption

__all__ = ("Paramstyle", "check_paramstyle", "paramstyle_of")


@dataclass(frozen=True, slots=True)
class Paramstyle:
    """One way to mark parameters.

    ``mark``: the text in place of a parameter.
    ``keyed``: whether values are given by name, not by position.
    """

    mark: str
    keyed: bool

    def render(
        self, template: str, values: Mapping[str, object], *, table: str
    ) -> tuple[str, tuple[object, ...] | dict[str, object]]:
        """Return a statement and its parameters, as `execute` of the driver takes them.

        ``template``: SQL with ``{table}``, and ``{name}`` once for each value that it needs.
        ``values``: the values by name; it may have more than the template needs.
        ``table``: the name of the table.
        """
        names = [name for _, name, _, _ in Formatter().parse(template) if name and name != "table"]
        marks = {
            name: self.mark.format(name=name, number=number) for number, name in enumerate(names, 1)
        }
        chosen = {name: values[name] for name in names}
        return template.format(table=table, **marks), chosen if self.keyed else tuple(
            chosen.values()
        )


STYLES = {
    "qmark": Paramstyle("?", keyed=False),
    "numeric": Paramstyle(":{number}", keyed=False),
    "named": Paramstyle(":{name}", keyed=True),
    "format": Paramstyle("%s", keyed=False),
    "pyformat": Paramstyle("%({name})s", keyed=True),
}


def check_paramstyle(name: str) -> Paramstyle:
    """Return the style of a name; raise `InvalidOption` if there is none."""
    if not isinstance(name, str) or name not in STYLES:
        raise InvalidOption(f"paramstyle must be one of {', '.join(STYLES)}, got {name!r:.80}")
    return STYLES[name]


def paramstyle_of(target: Any) -> Paramstyle:
    """Return the style that the driver's module says it has.

    ``target``: a connection or a cursor of the driver.

    Raises `InvalidOption` if no module of the driver says it.
    """
    for kind in (*type(target).__mro__, *type(getattr(target, "connection", None)).__mro__):
        # The class of a connection is often in a submodule (psycopg.connection), and the package
        # (psycopg) has the paramstyle.
        module = kind.__module__
        while module:
            if isinstance(style := getattr(sys.modules.get(module), "paramstyle", None), str):
                return check_paramstyle(style)
            module = module.rpartition(".")[0]
    raise InvalidOption(
        f"no module of {type(target).__name__} has a paramstyle: give FencedSQL(paramstyle=…)"
    )
