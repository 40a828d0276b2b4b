"""Masters, replicas and Sentinels for the tests of this folder, and clients of them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from shardcache import Event, Options
from shardcache.embedded import LocalSentinels


@pytest.fixture(scope="module")
def watched() -> Iterator[LocalSentinels]:
    """Three masters whose Sentinels no test of the module stops."""
    with LocalSentinels() as servers:
        yield servers


@pytest.fixture
def mortal() -> Iterator[LocalSentinels]:
    """Three masters of this test alone."""
    with LocalSentinels() as servers:
        yield servers


@pytest.fixture
def client(colour: Any, events: list[Event]) -> Iterator[Callable[..., Any]]:
    """Make clients by their URL that are closed at the end."""
    with ExitStack() as stack:

        def build(url: str, **settings: Any) -> Any:
            options = Options(on_event=events.append, **settings.pop("options", {}))
            settings = {"timeout": 20.0, **settings}
            return stack.enter_context(colour.from_url(url, options=options, **settings))

        yield build
