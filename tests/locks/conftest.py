"""Five voters, locks of both colours on them, and ways to look at the voters past the locks."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from shardcache import AsyncQuorumLock, Event, Options, QuorumLock, ShardCache
from shardcache.embedded import LocalShards

LONG_TIMEOUT = 20.0  # seconds: the deadline of what is not about time


class Plain:
    """Connections to the voters that know nothing of locks."""

    def __init__(self, urls: Mapping[str, str], stack: ExitStack) -> None:
        self.by_name = {
            name: stack.enter_context(redis.Redis.from_url(url)) for name, url in urls.items()
        }

    def __getitem__(self, name: str) -> redis.Redis:
        return self.by_name[name]

    def having(self, lock: Any, names: Any = None) -> list[str]:
        """Return the voters that have the lock's key, in the order of the ring."""
        return [
            name for name in names or lock.voters if self[name].exists(lock._holder.plan.keys.lock)
        ]

    def wipe(self, lock: Any, names: Any = None) -> None:
        """Take the lock's key away, as its expiry would."""
        for name in names or lock.voters:
            self[name].delete(lock._holder.plan.keys.lock)


@pytest.fixture
def meet() -> Callable[[Any], None]:
    """Have a client meet all voters, however long a busy machine takes to answer.

    If one of them were too late, the others' age would have to be waited for.
    """

    def acquire_and_release(client: Any) -> None:
        with client.lock("other", 600, voter_timeout=LONG_TIMEOUT):
            pass

    return acquire_and_release


@pytest.fixture(scope="session")
def voters() -> Iterator[LocalShards]:
    """Five servers that no test stops."""
    with LocalShards(5) as servers:
        yield servers


@pytest.fixture
def mortal() -> Iterator[LocalShards]:
    """Five servers of this test alone, to be killed and paused."""
    with LocalShards(5) as servers:
        yield servers


@pytest.fixture
def plain(voters: LocalShards) -> Iterator[Plain]:
    with ExitStack() as stack:
        yield Plain(voters.urls, stack)


@pytest.fixture
def look() -> Iterator[Callable[[LocalShards], Plain]]:
    """Look at other servers than the shared ones."""
    with ExitStack() as stack:
        yield lambda servers: Plain(servers.urls, stack)


@pytest.fixture
def make(
    colour: Any, voters: LocalShards, namespace: str, events: list[Event]
) -> Iterator[Callable[..., Any]]:
    """Make clients that are closed at the end."""
    with ExitStack() as stack:

        def build(nodes: Any = None, **settings: Any) -> Any:
            chosen = voters.urls if nodes is None else nodes
            usual = {
                "namespace": namespace,
                "timeout": LONG_TIMEOUT,
                "options": Options(on_event=events.append),
            }
            return stack.enter_context(colour(chosen, **{**usual, **settings}))

        yield build


@pytest.fixture
def alone(colour: Any) -> Any:
    """The lock of this colour, to be used without a client."""
    return QuorumLock if colour is ShardCache else colour.like(AsyncQuorumLock)
