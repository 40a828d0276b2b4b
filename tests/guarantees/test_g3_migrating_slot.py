"""G3 while the key's slot moves to another server of a Redis Cluster, key by key.

The flows, and what follows redirects, are the real ones. The servers answer as
`testing/simulation/migration.py` says; `tests/cluster/test_loads.py` has real ones.
"""

from collections import Counter

import pytest

from shardcache.flows.load import scripts as real
from shardcache.flows.operations import Requests
from shardcache.testing.simulation.interleaving import interleave
from shardcache.testing.simulation.load_scripts import LOAD_SCRIPTS
from tests.guarantees.test_g3_stale_set import MIXES, fill_without_look, fill_without_token

pytestmark = pytest.mark.long


@pytest.mark.parametrize("jumps", [False, True], ids=["plain", "locks-end"])
@pytest.mark.parametrize("part", range(3))
def test_nothing_old_is_stored_while_the_slot_moves(part, jumps) -> None:
    """3 times 1000 orders of commands and of moves of the keys, in each of two worlds."""
    total: Counter[str] = Counter()
    for seed in range(1000 * part, 1000 * (part + 1)):
        history = interleave(seed, MIXES[seed % len(MIXES)], jumps=jumps, migrates=True)
        total.update({f"{kind}, seed {seed}": 1 for kind in history.violations})
        total.update(loads=history.loads, stored=history.stored, refused=history.refused)
    assert [kind for kind in total if kind not in ("loads", "stored", "refused")] == []
    assert total["stored"] > 300
    assert total["refused"] > 100


@pytest.mark.parametrize("ablation", ["no token check", "no look at the value", "no invalidation"])
def test_what_the_argument_needs_while_the_slot_moves(monkeypatch, ablation) -> None:
    """The parts of the argument are needed here too, and the judge sees when one is missing."""
    match ablation:
        case "no token check":
            monkeypatch.setitem(LOAD_SCRIPTS, real.FILL, fill_without_token)
        case "no look at the value":
            monkeypatch.setitem(LOAD_SCRIPTS, real.FILL, fill_without_look)
        case "no invalidation":
            monkeypatch.setattr(Requests, "invalidate_load", lambda _, __: None)
    assert any(
        "overwrote" in interleave(seed, MIXES[seed % len(MIXES)], migrates=True).violations
        for seed in range(6000)
    )
