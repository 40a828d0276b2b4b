"""G3: a load that began before a delete or set never overwrites it; and one loads at a time.

The flows are the real ones. The scripts are their Python twins, which
`tests/testing/test_simulated_loads.py` compares with a server. Each history is one order of the
single commands.
"""

import hashlib
from collections import Counter

import pytest

from shardcache.flows.load import scripts as real
from shardcache.flows.load.context import LoadContext
from shardcache.flows.operations import Requests
from shardcache.keys import KeySpace
from shardcache.testing.simulation.interleaving import interleave
from shardcache.testing.simulation.load_scripts import LOAD_SCRIPTS

pytestmark = pytest.mark.long

MIXES = (
    ("load", "delete"),
    ("load", "set"),
    ("load", "delete", "load"),
    ("load", "set", "load"),
    ("load", "load", "delete", "set"),
    ("load", "load", "load"),
)


def play(seeds: range, **settings: bool) -> Counter[str]:
    """Run a history for each seed; return violations, and numbers of loads, stores and refusals."""
    total: Counter[str] = Counter()
    for seed in seeds:
        history = interleave(seed, MIXES[seed % len(MIXES)], **settings)
        total.update({f"{kind}, seed {seed}": 1 for kind in history.violations})
        total.update(loads=history.loads, stored=history.stored, refused=history.refused)
    return total


@pytest.mark.parametrize(
    "settings",
    [{}, {"jumps": True}, {"outage": True}, {"jumps": True, "outage": True}],
    ids=["plain", "locks-end", "a-voter-gone", "both"],
)
@pytest.mark.parametrize("part", range(3))
def test_no_load_overwrites_what_came_after_it(settings, part) -> None:
    """3 times 1000 orders of loads, deletes and sets in each of four worlds: 12,000 in all."""
    total = play(range(1000 * part, 1000 * (part + 1)), **settings)
    assert [kind for kind in total if kind not in ("loads", "stored", "refused")] == []
    assert total["stored"] > 300
    assert total["refused"] > 100


def test_loads_alone_run_once() -> None:
    """Three processes that miss at once: one loads, and its value is stored, in every order."""
    for seed in range(500):
        history = interleave(seed, ("load", "load", "load"))
        assert (history.loads, history.stored, history.violations) == (1, 1, [])


def fill_without_token(db, keys, argv):
    db.values[keys[0]] = db.values[keys[1]] = argv[0]  # whoever fills has lock and pass
    return LOAD_SCRIPTS_REAL[real.FILL](db, keys, argv)


def fill_without_look(db, keys, argv):
    now = db.find(keys[4])
    seen = (
        hashlib.sha1(now, usedforsecurity=False).hexdigest().encode()
        if isinstance(now, bytes)
        else b""
    )
    return LOAD_SCRIPTS_REAL[real.FILL](db, keys, [argv[0], seen, *argv[2:]])


LOAD_SCRIPTS_REAL = dict(LOAD_SCRIPTS)


@pytest.mark.parametrize(
    ("ablation", "kind"),
    [
        ("no token check in the fill", "overwrote"),
        ("writes do not void", "overwrote"),
        ("the fill does not look at the value", "overwrote"),
        ("no second look after the claim", "again"),
        ("voiding takes the lock away", "two-loads"),
        ("no lock", "two-loads"),
    ],
)
def test_what_the_argument_needs(monkeypatch, ablation, kind) -> None:
    """Without one of its parts the argument falls, and the judge sees it."""
    match ablation:
        case "no token check in the fill":
            monkeypatch.setitem(LOAD_SCRIPTS, real.FILL, fill_without_token)
        case "the fill does not look at the value":
            monkeypatch.setitem(LOAD_SCRIPTS, real.FILL, fill_without_look)
        case "writes do not void":
            monkeypatch.setattr(Requests, "invalidate_load", lambda _, __: None)
        case "no second look after the claim":
            monkeypatch.setattr(LoadContext, "newer", lambda *_: None)
        case "voiding takes the lock away":
            monkeypatch.setattr(
                Requests,
                "invalidate_load",
                lambda _, wire: (b"UNLINK", KeySpace().internal(b"load", wire)),
            )
        case "no lock":
            monkeypatch.setitem(LOAD_SCRIPTS, real.CLAIM, lambda _, __, ___: [1, 0, 0])
    found: set[str] = set()
    for seed in range(4000):
        found |= set(interleave(seed, MIXES[seed % len(MIXES)]).violations)
        if kind in found:
            break
    assert kind in found
