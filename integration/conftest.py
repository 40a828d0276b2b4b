"""Fixtures: fleets of real servers, the same tests on every backend.

``fleet(3)`` gives three servers that run, can be reached and are empty. Containers
that cannot be had are skipped with the reason; with ``CI`` or
``SHARDCACHE_REQUIRE_CONTAINERS`` set, that is a failure of the run.
"""

import os
from collections.abc import Callable, Iterator

import pytest

from .servers import BACKENDS, Backend, Fleet, NoNetworkOfItsOwn, Server


def containers_required() -> bool:
    wishes = (os.environ.get("SHARDCACHE_REQUIRE_CONTAINERS"), os.environ.get("CI"))
    return any(wish not in (None, "", "0", "false") for wish in wishes)


@pytest.fixture(scope="session")
def fleets() -> Iterator[Callable[[Backend], Fleet]]:
    """Keep one fleet for each backend, whatever order the tests come in; close all at the end."""
    known: dict[str, Fleet] = {}
    problems: dict[str, str | None] = {}

    def fleet_of(backend: Backend) -> Fleet:
        if backend.name not in problems:
            problems[backend.name] = backend.why_not()
        if problem := problems[backend.name]:
            if backend.in_container and containers_required():
                pytest.fail(f"{backend.name}: {problem}", pytrace=False)
            pytest.skip(f"{backend.name}: {problem}")
        return known.setdefault(backend.name, Fleet(backend))

    yield fleet_of
    for fleet in known.values():
        fleet.close()


@pytest.fixture(params=BACKENDS, ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Run the test once on each backend."""
    chosen: Backend = request.param
    return chosen


@pytest.fixture
def fleet(backend: Backend, fleets: Callable[[Backend], Fleet]) -> Fleet:
    """Give the backend's fleet: call it with the number of servers that the test wants."""
    return fleets(backend)


@pytest.fixture
def server(fleet: Fleet) -> Server:
    """Give one server."""
    return fleet(1)[0]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Skip a test that cuts the network of a server which has none of its own, and say so."""
    try:
        return (yield)
    except NoNetworkOfItsOwn as reason:
        pytest.skip(str(reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures that tests have recorded: those of a passed test would go unseen."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            if report.when == "call" and report.user_properties:
                terminalreporter.section(report.nodeid)
                for name, figure in report.user_properties:
                    terminalreporter.line(f"{name}: {figure}")
