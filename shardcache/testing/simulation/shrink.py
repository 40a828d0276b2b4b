"""Makes a failing scenario smaller, as long as it fails in the same way."""

from collections.abc import Iterator
from dataclasses import replace

from shardcache.testing.simulation.history import play
from shardcache.testing.simulation.judge import Kind
from shardcache.testing.simulation.scenario import Scenario

__all__ = ("shrink_scenario",)


def shrink_scenario(scenario: Scenario, kind: Kind) -> Scenario:
    """Return the smallest scenario found that still has a violation of this kind.

    ``scenario``: the failing scenario; cycles of clients, faults and chances are taken out.
    ``kind``: the kind of violation that has to stay.
    """
    smaller = True
    while smaller:
        smaller = False
        for candidate in _candidates(scenario):
            if any(violation.kind == kind for violation in play(candidate).violations):
                scenario, smaller = candidate, True
                break
    return scenario


def _candidates(scenario: Scenario) -> Iterator[Scenario]:
    clients, faults = scenario.clients, scenario.faults
    for at in range(len(clients)):
        # Faults name clients by index, so no client is taken out: one without cycles does nothing.
        for cycles in range(clients[at].cycles):
            idle = replace(clients[at], cycles=cycles)
            yield replace(scenario, clients=(*clients[:at], idle, *clients[at + 1 :]))
    for at in range(len(faults)):
        yield replace(scenario, faults=faults[:at] + faults[at + 1 :])
    calmer = (
        replace(scenario, loss=0.0),
        replace(scenario, slow=0.0),
        replace(scenario, pause=0.0),
        replace(scenario, cancel=0.0),
    )
    yield from (candidate for candidate in calmer if candidate != scenario)
