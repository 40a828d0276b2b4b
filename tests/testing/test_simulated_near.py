"""The near cache in virtual time: nothing is stale, and each part of it is needed for that."""

from typing import Any

import pytest

from shardcache.policy.near_store import LEASE, Life, NearEntry, NearStore
from shardcache.testing.simulation.near import play_near


@pytest.mark.parametrize(
    "runs", [5, pytest.param(250, marks=pytest.mark.long, id="a million reads")]
)
def test_nothing_is_stale(runs: int) -> None:
    """Whatever is late, lost or cut: no read is older than the bound, or than its ttl."""
    reads, hits, stale = play_near(range(runs))
    assert stale == []
    assert reads > runs * 4000
    assert hits > reads / 2


class WithoutFlush(NearStore):
    """Serves what a lost connection has told of last."""

    def end(self, life: Life, name: str) -> None:
        pass


class WithoutGuard(NearStore):
    """Keeps a reply although an invalidation has passed it."""

    def keep(self, entry: NearEntry | None, wire: bytes, outcome: Any) -> None:
        if entry is not None:
            self._items[wire] = entry
        super().keep(entry, wire, outcome)


class WithoutTTL(NearStore):
    """Does not ask how long a value lasts on its server."""

    def keep(self, entry: NearEntry | None, wire: bytes, outcome: Any) -> None:
        if isinstance(outcome, list):
            outcome = [outcome[0], -1]
        super().keep(entry, wire, outcome)


@pytest.mark.parametrize(
    ("store", "lease"),
    [(WithoutFlush, 3600.0), (WithoutGuard, LEASE), (WithoutTTL, LEASE), (NearStore, 3600.0)],
    ids=["no flush", "no guard", "no ttl", "no lease"],
)
def test_judge_sees_what_is_missing(store: type[NearStore], lease: float) -> None:
    """Without any one part of it, something is stale."""
    assert any(play_near(range(seed, seed + 1), store, lease)[2] for seed in range(20))
