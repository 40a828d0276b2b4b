"""Slots are shared out evenly, and none moves without need."""

from hypothesis import given
from hypothesis import strategies as st

from shardcache.embedded.slot_plan import plan_moves


@st.composite
def fleets(draw) -> tuple[dict[str, list[int]], set[str]]:
    """Draw which master has which slots, and who leaves."""
    names = draw(st.lists(st.sampled_from("abcdef"), min_size=1, unique=True))
    owners = draw(st.lists(st.sampled_from(names), max_size=120))
    owned: dict[str, list[int]] = {name: [] for name in names}
    for slot, name in enumerate(owners):
        owned[name].append(slot)
    leaving = draw(st.sets(st.sampled_from(names), max_size=len(names) - 1))
    return owned, leaving


@given(fleets(), st.integers(1, 20))
def test_plan(fleet, most):
    """Each slot keeps one owner; shares differ by one at most; a move has no more than it may."""
    owned, leaving = fleet
    after = {name: set(slots) for name, slots in owned.items()}
    moves = plan_moves(owned, leaving, most=most)
    for source, target, slots in moves:
        assert 0 < len(slots) <= most
        assert set(slots) <= after[source]
        after[source] -= set(slots)
        after[target] |= set(slots)
    counts = [len(slots) for name, slots in after.items() if name not in leaving]
    assert max(counts) - min(counts) <= 1
    assert not any(after[name] for name in leaving)
    # As many move as some master has too many, with the odd slots left where they are.
    base, odd = divmod(sum(map(len, owned.values())), len(counts))
    have = sorted((len(owned[name]) for name in owned if name not in leaving), reverse=True)
    kept = sum(min(count, base + (at < odd)) for at, count in enumerate(have))
    moved = sum(len(move.slots) for move in moves)
    assert moved == sum(map(len, owned.values())) - kept


def test_even_shares_stay():
    """What is even already does not move; a new master gets its share in a range from each."""
    assert plan_moves({"a": [0, 1, 2], "b": [3, 4]}) == []
    assert plan_moves({"a": [0, 1, 2, 3], "b": [4, 5, 6, 7], "c": []}, most=1) == [
        ("a", "c", (3,)),
        ("b", "c", (7,)),
    ]
