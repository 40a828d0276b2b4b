"""A new list of nodes is rolled out: clients with five nodes and with six share one lock.

It has one holder at a time, before, while and after voters are changed.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from shardcache import AsyncShardCache, ShardCache
from shardcache.cli import main
from shardcache.embedded import LocalShards
from shardcache.errors import InvalidArgument, LockError, QuorumUnavailable
from shardcache.flows.lock.voter_registry import Life
from shardcache.locks.voter_nodes import (
    VoterNodes,
    change_voters,
    finish_change,
    voter_nodes,
)
from tests.waiting import until

ROUNDS = 60  # of each of eight contenders


@pytest.fixture(scope="module")
def six() -> Iterator[LocalShards]:
    """Six servers."""
    with LocalShards(6) as shards:
        yield shards


def some(six: LocalShards, nodes: int) -> dict[str, str]:
    """Return the URLs of so many nodes."""
    return dict(list(six.urls.items())[:nodes])


@pytest.fixture
def client(colour: Any, six: LocalShards, namespace: str) -> Iterator[Callable[[int], Any]]:
    """Make clients that have so many of the nodes in their list."""
    with ExitStack() as stack:
        yield lambda nodes: stack.enter_context(
            colour(some(six, nodes), namespace=namespace, timeout=5)
        )


def in_both_colours(function: Callable[[Any], Any]) -> Callable[[Any], VoterNodes]:
    """Return a function that waits for what ``function`` returns if it is to be awaited."""
    return lambda cache: (
        function(cache) if isinstance(cache, ShardCache) else cache._call(function, cache._target)
    )


change = in_both_colours(change_voters)
finish = in_both_colours(finish_change)
voting = in_both_colours(voter_nodes)


@pytest.fixture
def long_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the servers seem to have been up for an hour.

    Else clients that lack a voter, and so cannot ask all, wait for a minute.
    """
    real = Life.of
    monkeypatch.setattr(
        Life, "of", lambda *arguments: (found := real(*arguments)) and found._replace(age=3600.0)
    )


class Contest:
    """Contenders for one lock who note when somebody else has it at the same time."""

    def __init__(self) -> None:
        self.inside = 0
        self.doubles = 0
        self.tokens: list[int] = []
        self.failed: list[BaseException] = []

    def contend(self, cache: Any, rounds: int) -> None:
        try:
            for _ in range(rounds):
                with cache.lock("l", 30, timeout=60) as lock:
                    self.inside += 1
                    self.doubles += self.inside > 1
                    self.tokens.append(lock.fencing_token)
                    threading.Event().wait(0.0005)
                    self.inside -= 1
        except BaseException as error:
            self.failed.append(error)

    def run(self, caches: list[Any], rounds: int, during: Callable[[], Any] = lambda: None) -> None:
        threads = [threading.Thread(target=self.contend, args=(cache, rounds)) for cache in caches]
        for thread in threads:
            thread.start()
        during()
        for thread in threads:
            thread.join()
        assert (self.failed, self.doubles) == ([], 0)
        assert self.tokens == sorted(set(self.tokens))
        assert len(self.tokens) == rounds * len(caches)


def test_five_nodes_and_six(client) -> None:
    """Clients with five nodes and with six have the same voters: those agreed on first."""
    with client(5).lock("l"):
        pass
    Contest().run([client(5 + number % 2) for number in range(8)], ROUNDS)
    assert len(voting(client(6)).names) == 5


@pytest.mark.usefixtures("long_up")
def test_five_nodes_and_six_at_the_very_first(client) -> None:
    """They agree without an earlier agreement too; a client that lacks a voter goes on."""
    Contest().run([client(5 + number % 2) for number in range(8)], ROUNDS)


@pytest.mark.usefixtures("long_up")
def test_five_nodes_where_six_vote(client) -> None:
    """A client that lacks one node takes all locks without that voter, by a majority of all."""
    with client(6).lock("l"):
        pass
    five, six = client(5), client(6)
    # One lock in six is without the sixth node.
    locks = [five.lock(f"l{number}", 30) for number in range(100)]
    assert [lock.acquire(blocking=False) for lock in locks] == [True] * 100
    assert {len(lock.voters) for lock in locks} == {4, 5}
    assert not any(six.lock(lock.name, 30).acquire(blocking=False) for lock in locks)
    assert [lock.extend() for lock in locks] == [True] * 100
    tokens = [lock.fencing_token for lock in locks]
    for lock in locks:
        lock.release()
    later = [six.lock(lock.name, 30) for lock in locks]
    assert [lock.acquire(blocking=False) for lock in later] == [True] * 100
    assert all(lock.fencing_token > token for lock, token in zip(later, tokens, strict=True))


def test_locks_of_a_change_are_extended(client) -> None:
    """A lock that is taken while voters are being changed can be extended, and handed over."""
    with client(5).lock("l"):
        pass
    change(client(6))
    cache = client(6)
    with cache.lock("first"):  # it learns of the change
        pass
    locks = [cache.lock(f"l{number}", 30) for number in range(12)]
    assert [lock.acquire(blocking=False) for lock in locks] == [True] * 12
    assert [lock.extend() for lock in locks] == [True] * 12
    heirs = [cache.lock(f"l{number}", 30) for number in range(12)]
    for heir, lock in zip(heirs, locks, strict=True):
        heir.adopt(lock.handover())
    assert [heir.extend() for heir in heirs] == [True] * 12


def test_voters_are_changed_under_way(client) -> None:
    """Clients that have all nodes go on while the voters are changed, one holder at a time."""
    with client(5).lock("l"):
        pass
    operator = client(6)
    Contest().run([client(6) for _ in range(8)], ROUNDS, lambda: change(operator))
    state = finish(operator)
    assert (len(state.names), state.former, state.silent) == (6, (), ())
    Contest().run([client(6) for _ in range(4)], 10)


def test_holder_of_before(client, long_up, six, look) -> None:
    """A holder from before the change keeps the lock, and keeps the change from its end."""
    holder = client(5)
    names = [f"l{number}" for number in range(20)]
    locks = [holder.lock(name, 30) for name in names]
    assert [lock.acquire(blocking=False) for lock in locks] == [True] * 20
    operator, other = client(6), client(6)
    assert change(operator) == change(operator)
    assert [other.lock(name, 30).acquire(blocking=False) for name in names] == [False] * 20
    assert [lock.extend() for lock in locks] == [True] * 20
    assert all(other.lock(name).owner() is not None for name in names)
    with pytest.raises(LockError, match="still held by their former voters"):
        finish(operator)
    tokens = [lock.fencing_token for lock in locks]
    for lock in locks:
        lock.release()
    plain = look(six)  # what a majority has confirmed may still be on its way to the others
    until(lambda: not any(plain.having(lock, list(six.urls)) for lock in locks))
    assert finish(operator).former == ()
    later = [other.lock(name, 30) for name in names]
    assert [lock.acquire(blocking=False) for lock in later] == [True] * 20
    assert all(lock.fencing_token > token for lock, token in zip(later, tokens, strict=True))


def test_client_without_a_voter(client) -> None:
    """A client that lacks so many nodes that it can have no majority says so, and what to do."""
    with client(6).lock("l"):
        pass
    old = client(2)
    with pytest.raises(
        QuorumUnavailable,
        match=r"[34] of its 5 voters are not among .*: shard-.*`shardcache lock voters`",
    ):
        old.lock("l", timeout=5).acquire()


def test_handed_over_before_the_change(client) -> None:
    """A lease that was handed over before the change can be adopted after it."""
    locks = [client(5).lock(f"l{number}", 30) for number in range(8)]
    for lock in locks:
        lock.acquire()
    texts = [lock.handover() for lock in locks]
    change(client(6))
    heirs = [client(6).lock(f"l{number}", 30) for number in range(8)]
    for heir, text in zip(heirs, texts, strict=True):
        heir.adopt(text)
    assert all(heir.extend() for heir in heirs)
    assert all(client(6).lock(f"l{number}").force_release() >= 5 for number in range(8))
    assert all(client(6).lock(f"l{number}", 30).acquire(blocking=False) for number in range(8))


def test_on_the_command_line(six, namespace, capsys) -> None:
    """`lock voters` shows, changes and finishes."""
    with ShardCache(some(six, 5), namespace=namespace, timeout=5) as cache, cache.lock("l"):
        pass
    url = ",".join(f"{url}&name={name}&namespace={namespace}" for name, url in six.urls.items())
    said = []
    for step in ([], ["--change"], ["--finish"]):
        assert main(["lock", "voters", *step, "--url", url]) == 0
        said.append(capsys.readouterr().out)
    assert [line.split(" vote, version ")[0] for line in said] == ["5 nodes", "6 nodes", "6 nodes"]
    assert "being changed" in said[1]


def test_changed_from_a_task(six, namespace) -> None:
    """Tasks of one event loop take the lock while another task changes the voters."""

    async def main() -> None:
        async with (
            AsyncShardCache(some(six, 5), namespace=namespace, timeout=5) as old,
            AsyncShardCache(six.urls, namespace=namespace, timeout=5) as cache,
        ):
            async with old.lock("l"):
                pass
            tokens: list[int] = []
            inside = 0

            async def contend() -> None:
                nonlocal inside
                for _ in range(10):
                    async with cache.lock("l", 30, timeout=60) as lock:
                        inside += 1
                        assert inside == 1
                        tokens.append(lock.fencing_token)
                        await asyncio.sleep(0)
                        inside -= 1

            async with asyncio.TaskGroup() as group:
                for _ in range(4):
                    group.create_task(contend())
                changed = await change_voters(cache)
                assert (len(changed.names), len(changed.former), changed.silent) == (6, 5, ())
            assert (tokens, len(tokens)) == (sorted(set(tokens)), 40)
            assert (await finish_change(cache)).former == ()
            assert await voter_nodes(cache) == await finish_change(cache)

    asyncio.run(main())


def test_broken_off(six, namespace) -> None:
    """A step that is cancelled, however far it has come, is gone on with by doing it again."""

    async def main() -> None:
        async with (
            AsyncShardCache(some(six, 5), namespace=namespace, timeout=5) as old,
            AsyncShardCache(six.urls, namespace=namespace, timeout=5) as cache,
        ):
            async with old.lock("l"):
                pass
            for step in (change_voters, finish_change):
                for turns in range(40):
                    task = asyncio.create_task(step(cache))
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    task.cancel()
                    await asyncio.wait([task])
                    async with cache.lock("l", 30, timeout=60):
                        assert not await old.lock("l", 30).acquire(blocking=False)
                await step(cache)
            state = await voter_nodes(cache)
            assert (len(state.names), state.former, state.silent) == (6, (), ())

    asyncio.run(main())


@pytest.mark.parametrize("step", [voter_nodes, change_voters, finish_change])
def test_of_what_is_no_client(step) -> None:
    """Only clients have voters."""
    with pytest.raises(InvalidArgument, match="expected a ShardCache or an AsyncShardCache, got"):
        step({"a": "redis://127.0.0.1:1"})
