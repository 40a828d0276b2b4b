"""Voters that come back with old data or none: snapshot, log cut off, emptied, replaced.

Of three voters, one is to forget (`forgetful`), one is out of reach while the others go on
(`behind`), and one knows everything (`knowing`). A client that cannot reach a voter has an
address at which nobody answers.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from shardcache.embedded import LocalShards
from shardcache.errors import QuorumUnavailable

pytestmark = pytest.mark.long

NOWHERE = "redis://127.0.0.1:1"
SHORT = 1.0  # seconds: a ttl that is waited for
LONG = 600.0  # seconds: one that never ends in a test
LONG_TIMEOUT = 120.0
SHIPPED = {"save": "3600 1 300 100 60 10000"}
EVERYSEC = {"appendonly": "yes", "appendfsync": "everysec", "aof-load-truncated": "yes"}
LOSSES = [
    "snapshot",
    "cut log",
    "log cut in a command",
    "flushall",
    "flushdb",
    "flush of a client",
    "replaced",
]


class Fleet(NamedTuple):
    """Three voters, and what is needed to have one of them forget."""

    shards: LocalShards
    plain: Any
    make: Callable[..., Any]
    loss: str
    forgetful: str = "shard-1"
    behind: str = "shard-2"
    knowing: str = "shard-3"

    def client(self, *unreachable: str) -> Any:
        return self.make({**self.shards.urls, **dict.fromkeys(unreachable, NOWHERE)})

    @property
    def server(self) -> Any:
        return next(one for one in self.shards.servers if one.name == self.forgetful)

    def remember(self) -> Callable[[], None]:
        """Note the forgetful voter's data; return a call that takes it back to them, or to none."""
        directory, connection = (
            Path(self.shards.directory or "", self.forgetful),
            self.plain[self.forgetful],
        )
        match self.loss:
            case "snapshot":
                connection.save()
                return self.server.restart
            case "cut log" | "log cut in a command":
                log = next(directory.glob("appendonlydir/*.incr.aof"))
                size = log.stat().st_size + (7 if "command" in self.loss else 0)
                return lambda: self.crash(lambda: cut(log, size))
            case "flushall":
                return connection.flushall
            case "flushdb":
                return connection.flushdb
            case "flush of a client":
                return lambda: self.make({"cache": self.shards.urls[self.forgetful]}).clear(
                    flush=True
                )
            case _:
                return lambda: self.crash(lambda: shutil.rmtree(directory / "appendonlydir"))

    def kill(self, name: str) -> None:
        next(one for one in self.shards.servers if one.name == name).kill()

    def crash(self, meanwhile: Callable[[], None]) -> None:
        self.server.kill()
        meanwhile()
        self.server.start()


def cut(log: Path, size: int) -> None:
    """Let a log end where the disk had got to.

    It may be shorter: while one fsync runs, "everysec" keeps back what follows, and the crash takes
    that.
    """
    with log.open("ab") as file:
        file.truncate(min(size, log.stat().st_size))


@pytest.fixture(params=LOSSES)
def loss(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def fleet(program: str, loss: str, make: Any, look: Any) -> Iterator[Fleet]:
    """Three servers."""
    options = EVERYSEC if "log" in loss or loss == "replaced" else SHIPPED
    with LocalShards(3, options=options, binary=program) as shards:
        yield Fleet(shards, look(shards), make, loss)


def tokens(lock: Any, times: int) -> list[int]:
    """Acquire and release so often; return the fencing tokens."""
    found = []
    for _ in range(times):
        assert lock.acquire(timeout=LONG_TIMEOUT) is True
        found.append(lock.fencing_token)
        # Where a voter does not confirm it in time, the ttl ends the lease.
        with suppress(QuorumUnavailable):
            lock.release()
    return found


def all_of_them(fleet: Fleet, lock: Any) -> None:
    """Acquire once with every voter, so that all of them have the same counter."""
    tokens(lock, 1)
    counters = [
        int(fleet.plain[name].get(lock._holder.plan.keys.fence) or 0) for name in lock.voters
    ]
    for name in lock.voters:  # whoever was later than the majority
        fleet.plain[name].set(lock._holder.plan.keys.fence, max(counters), keepttl=True)


def known_to_forget(fleet: Fleet, lock: Any) -> bool:
    """Whether the other voters have been told that the forgetful one is."""
    field = f":{fleet.forgetful}"
    registers = [
        fleet.plain[name].hget(lock._holder.plan.register, field) or b""
        for name in (fleet.behind, fleet.knowing)
    ]
    return all(b":1:" in register for register in registers)


@pytest.mark.parametrize("loss", LOSSES[:3], indirect=True)
def test_tokens_increase(fleet: Fleet) -> None:
    """A voter with an old counter and one that missed the newer tokens give no token again."""
    lock = fleet.client().lock("l", SHORT)
    all_of_them(fleet, lock)
    forget = fleet.remember()
    given = tokens(fleet.client(fleet.behind).lock("l", SHORT), 20)
    forget()
    cache = fleet.client()
    another = cache.lock("another", SHORT)
    while not known_to_forget(fleet, another):
        tokens(another, 1)
    fleet.kill(fleet.knowing)
    given += tokens(cache.lock("l", SHORT), 20)  # needs the vote of the one that forgot
    assert given == sorted(set(given))


@pytest.mark.parametrize("known", [True, False], ids=["same client", "new client"])
def test_nobody_else_gets_it(fleet: Fleet, known: bool) -> None:
    """A lock stays with its holder though one of the two voters that granted it forgets."""
    before = fleet.client()
    all_of_them(fleet, before.lock("l", LONG))
    forget = fleet.remember()
    lock = fleet.client(fleet.behind).lock("l", LONG)
    assert lock.acquire(timeout=LONG_TIMEOUT) is True
    forget()
    other = (before if known else fleet.client()).lock("l", LONG)
    assert other.acquire(blocking=False) is False
    fleet.kill(fleet.knowing)
    vote = refused(other, fleet.forgetful)
    assert 0.98 * LONG < vote.left <= 1.02 * LONG
    assert fleet.plain.having(lock, [fleet.forgetful, fleet.behind]) == []
    assert lock.held is True


def refused(lock: Any, voter: str) -> Any:
    """Try until this voter is heard; return its vote, which must not count.

    After its restart it may be called out of reach for a while.
    """
    while True:
        try:
            # False: what the attempt before has given back is still in the key for a moment.
            assert lock.acquire(blocking=False) is False
        except QuorumUnavailable as unavailable:
            votes = unavailable.votes
        else:
            continue
        vote = next(vote for vote in votes if vote.voter == voter)
        # Refused: it is loading its data.
        if vote.kind not in ("unreachable", "timeout", "late", "refused"):
            assert vote.kind == "guarded"
            return vote
