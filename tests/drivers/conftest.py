"""Watches of a source, which are closed at the end."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from shardcache.drivers.node_watch import NodeWatch
from tests.drivers.watched_source import Client, Source, watch_of


@pytest.fixture
def source() -> Iterator[Source]:
    made = Source()
    yield made
    made.free.set()


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def watching(source: Source, client: Client) -> Iterator[Callable[..., NodeWatch[Any]]]:
    """Make watches that are closed at the end."""
    with ExitStack() as stack:

        def build(**settings: Any) -> NodeWatch[Any]:
            made = watch_of(source, client, **settings)
            stack.callback(made.close)
            return made

        yield build


@pytest.fixture
def watch(watching: Callable[..., NodeWatch[Any]]) -> NodeWatch[Any]:
    return watching()
