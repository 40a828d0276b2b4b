"""The loaders that run now, whatever the colour: which of them a call stands in."""

import contextvars
from collections.abc import Iterable

from shardcache.errors import LoadCycle

__all__ = ("ActiveLoad", "active_loads", "refuse_cycle", "set_active_loads")


class ActiveLoad:
    """A loader that runs, or has run.

    ``owner``: the flights of its client.
    ``wires``: the wire keys that it loads.
    """

    __slots__ = ("is_over", "owner", "wires")

    def __init__(self, owner: object, wires: tuple[bytes, ...]) -> None:
        self.owner = owner
        self.wires = wires
        self.is_over = False  # so that it counts no more, even where the context still has it


# The loaders which this call stands in, the outermost first.
_active: contextvars.ContextVar[tuple[ActiveLoad, ...]] = contextvars.ContextVar(
    "shardcache_loading", default=()
)


def active_loads() -> tuple[ActiveLoad, ...]:
    """Return the loaders which this call stands in, the outermost first."""
    around = _active.get()
    return tuple(load for load in around if not load.is_over) if around else ()


def set_active_loads(around: tuple[ActiveLoad, ...]) -> None:
    """Let what follows in this context stand in these loaders."""
    _active.set(around)


def refuse_cycle(owner: object, wires: Iterable[bytes]) -> None:
    """Raise `LoadCycle` if this call comes from the loader of one of these keys.

    It would wait for itself.
    """
    around = [load for load in active_loads() if load.owner is owner]
    for wire in wires if around else ():
        if any(wire in load.wires for load in around):
            raise LoadCycle(
                f"the loader of {wire.decode('utf-8', 'backslashreplace')!r} asked for that key"
            )
