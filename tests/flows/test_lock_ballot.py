"""Counting votes, by hand: when the outcome is certain, the token, each voter's word."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.errors import (
    AccessDenied,
    CommandRefused,
    OutOfMemory,
    ShardOut,
    ShardTimeout,
    ShardUnavailable,
)
from shardcache.flows.lock import Lease, Voters
from shardcache.flows.lock.ballot import Ballot
from shardcache.flows.lock.lease import quorum_th
from shardcache.flows.lock.lock_plan import LockKeys, LockPlan, drift
from shardcache.flows.lock.voter_registry import Life, VoterRegistry, VoterStatus
from shardcache.flows.steps import ServerRun

NAMES = tuple("abcde")
VOTERS = Voters((0, 1, 2, 3, 4), NAMES)
GRANT, HELD = [[1, 7, 0]], [[0, 1500, 9]]
OUT = ShardOut("a", "is out of service")


def ballot(hear_all: bool = False, status: VoterStatus | None = None) -> Ballot:
    return Ballot(VOTERS, status or VoterStatus(range(5)), hear_all=hear_all)


def grant(counter: int, reseeded: int = 0):
    return [[1, counter, reseeded]]


@pytest.mark.parametrize(
    ("outcomes", "certain_after", "granted"),
    [
        ([GRANT, GRANT, GRANT], 3, True),
        ([HELD, HELD, HELD], 3, False),
        ([GRANT, HELD, GRANT, HELD, GRANT], 5, True),
        ([GRANT, OUT, OUT, OUT], 4, False),
        ([OUT, GRANT, HELD, GRANT, OUT], 5, False),
        ([[CommandRefused("a", "NOPERM")], HELD, OUT], 3, False),
        ([[b"odd"], [None], [7]], 3, False),
    ],
)
def test_certain_as_soon_as_it_can_be(outcomes, certain_after, granted) -> None:
    """A majority of grants, or of refusals, is enough; the rest is not waited for."""
    votes = ballot()
    said = [votes.on_reply(place, outcome, None) for place, outcome in enumerate(outcomes)]
    assert (said, votes.granted) == ([False] * (certain_after - 1) + [True], granted)


def test_everybody_is_heard_while_there_is_somebody_to_vet() -> None:
    """A voter that was never met in this life makes it wait for all."""
    votes = ballot()
    run = ServerRun(b"new", 5.0)
    assert [votes.on_reply(place, GRANT, run) for place in range(5)] == [False] * 4 + [True]
    assert (votes.granted, sorted(votes.guarded), sorted(votes.lives)) == (
        False,
        [0, 1, 2, 3, 4],
        [0, 1, 2, 3, 4],
    )


def test_vetted_votes_count_after_all() -> None:
    """After the look at the register those count that may vote; a forgetful one waits."""
    status = VoterStatus(range(5))
    votes = ballot(status=status)
    for place in range(5):
        votes.on_reply(place, GRANT, ServerRun(b"%d" % place, 2.0))
    status.longest = 10_000
    for place in range(5):
        status.set_server_run(place, b"%d" % place, forgetful=place < 2, sure=True)
    votes.recount(status)
    assert (sorted(votes.fences), votes.granted) == ([2, 3, 4], True)
    assert [votes.guarded[place] for place in (0, 1)] == [pytest.approx(10 + drift(10) - 2)] * 2


def test_nobody_is_asked_when_nobody_is_to_be_verified() -> None:
    """Verifying costs no step where all voters are known, and so is the ttl; else it does."""
    registry, keys = VoterRegistry(), LockKeys(b"l", b"f", b"w", b"k")
    plan = LockPlan("l", keys, VOTERS, 1.0, 0.1, b"register")
    votes = ballot(status=registry.status(VOTERS))
    votes.on_reply(0, GRANT, None)
    assert len(list(votes.verify(plan, registry))) == 1  # the registers do not know the ttl
    registry.status(VOTERS).longest = 1000
    assert list(votes.verify(plan, registry)) == []
    votes.on_reply(1, GRANT, ServerRun(b"new", 5.0))
    assert len(list(votes.verify(plan, registry))) == 1


def test_refusals() -> None:
    """What waiting does not change is noted; it is the outcome when no majority is left."""
    votes, no, denied = ballot(), CommandRefused("a", "NOPERM"), AccessDenied("b", "no")
    said = [OUT, [no], HELD, [None], [OutOfMemory("e", "OOM")]]
    for place, outcome in enumerate(said):
        votes.on_reply(place, outcome, None)
    assert (votes.refusals, votes.refusal) == ([no], None)
    votes = ballot()
    for place, outcome in enumerate([denied, GRANT, [no], [no]]):
        votes.on_reply(place, outcome, None)
    assert (votes.refusals, votes.refusal) == ([denied, no, no], denied)


@pytest.mark.parametrize("absent", range(3))
@pytest.mark.parametrize("present", range(1, 6))
def test_majority(present: int, absent: int) -> None:
    """More than half of all voters, those that this client cannot ask among them."""
    voters = Voters(tuple(range(present)), NAMES[:present], (), ("x", "y", "z")[:absent])
    for number in range(present + 1):
        places = range(number)
        assert voters.majority(places) == (number >= voters.quorum)
        assert voters.hopeless(places) == (present - number < voters.quorum)
    assert voters.quorum == (present + absent) // 2 + 1


def test_counters_in_agreement() -> None:
    """The token is the highest counter of the grants."""
    votes = ballot()
    for place, counter in enumerate((5, 9, 7)):
        votes.on_reply(place, grant(counter), None)
    assert votes.fence == 9


def test_lost_counters_hear_their_peers() -> None:
    """A lost counter makes it wait for all, and go above what the refusing voters remember."""
    votes = ballot()
    assert [votes.on_reply(place, grant(4, int(place == 0)), None) for place in range(3)] == [
        False,
        False,
        False,
    ]
    assert votes.on_reply(3, [[0, 100, 40]], None) is False
    assert (votes.on_reply(4, [[0, 100, 30]], None), votes.fence) == (True, 41)


def test_all_counters_new() -> None:
    """Where every grant begins to count nobody can remember more: no need to wait."""
    votes = ballot()
    assert [votes.on_reply(place, grant(4, 1), None) for place in range(3)] == [False, False, True]


def test_in_words() -> None:
    """Each voter's answer has a kind, and a reason where there is more to say."""
    votes = ballot()
    votes.on_reply(0, HELD, None)
    votes.on_reply(1, ShardTimeout("b", "no reply"), None)
    votes.on_reply(2, ShardUnavailable("c", "cannot connect"), None)
    votes.on_reply(3, [CommandRefused("d", "NOPERM no")], None)
    assert [str(vote) for vote in votes.votes(NAMES)] == [
        "a: held for 1.5 s",
        "b: timeout (no reply)",
        "c: unreachable (cannot connect)",
        "d: refused (NOPERM no)",
        "e: late (it had not answered when the outcome was certain)",
    ]
    assert votes.unsure == {1, 4}


def test_holder_without_an_end() -> None:
    """A key of somebody else's that never expires is held, for how long is unknown."""
    votes = ballot()
    votes.on_reply(0, [[0, -1, 0]], None)
    assert (votes.votes(NAMES)[0].left, str(votes.votes(NAMES)[0])) == (None, "a: held")


@given(
    st.permutations(range(5)),
    st.lists(st.sampled_from(["grant", "held", "out"]), min_size=5, max_size=5),
)
def test_order_does_not_matter(order, kinds) -> None:
    """In any order of answers: certain exactly when the rest cannot change the outcome."""
    outcomes = {"grant": GRANT, "held": HELD, "out": OUT}
    votes = ballot()
    grants = against = 0
    for place in order:
        certain = votes.on_reply(place, outcomes[kinds[place]], None)
        grants += kinds[place] == "grant"
        against += kinds[place] != "grant"
        assert certain is (grants >= 3 or against > 2)
        if certain:
            break
    assert votes.granted is (grants >= 3)


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=5))
def test_quorum_th_largest(times) -> None:
    """At the time that it gives a quorum still holds, and right after it none does."""
    quorum = len(times) // 2 + 1
    end = quorum_th(times, quorum)
    assert sum(time >= end for time in times) >= quorum
    assert sum(time > end for time in times) < quorum


@given(
    st.lists(st.floats(0, 1000), min_size=3, max_size=5), st.floats(0.02, 100), st.floats(0, 2000)
)
def test_shorter_ttl_is_never_outlived(until, ttl, sent) -> None:
    """Once a request for a shorter ttl has left, the holder believes in no more than that."""
    lease = Lease(b"t", len(until) // 2 + 1, list(until))
    lease.within(sent, ttl)
    assert all(one <= sent + ttl - drift(ttl) for one in lease.until)


@pytest.mark.parametrize(
    ("forgetful", "sure", "waits"),
    [(False, True, 0.0), (True, True, 10.0), (True, False, 60.0), (False, False, 60.0)],
)
def test_how_long_a_vote_waits(forgetful, sure, waits) -> None:
    """A forgetful voter waits for the longest ttl, also one that an unheard voter may know."""
    status = VoterStatus(range(3))
    status.longest = 10_000
    assert status.wait(0, Life(b"x", 1.0)) is None
    status.set_server_run(0, b"x", forgetful=forgetful, sure=sure)
    left = waits and waits + drift(waits) - 1
    assert status.wait(0, Life(b"x", 1.0), vetted=True) == pytest.approx(left)
    assert (status.wait(0, Life(b"x", 1.0)) is None) is not sure
    assert status.wait(0, Life(b"x", 61.0)) == 0.0
    assert status.wait(0, Life(b"y", 61.0)) is None


def test_life_ends_with_process_and_with_data() -> None:
    """The life of a voter is that of its process or of its data, whichever is younger."""
    lives = [
        Life.of(ServerRun(b"r", 5.0), 7, 2000),
        Life.of(ServerRun(b"r", 1.0), 8, 2000),
        Life.of(ServerRun(b"r", 5.0)),
        Life.of(None, 7, 2000),
    ]
    assert [life and (life.id, life.age) for life in [*lives, Life.of(None)]] == [
        (b"r:7", 2.0),
        (b"r:8", 1.0),
        (b"r", 5.0),
        (b":7", 2.0),
        None,
    ]


def test_floor_lifts_what_was_granted_before_it() -> None:
    """A vote from an old counter, from before the register's floor, gives a token above it."""
    status = VoterStatus(range(5))
    status.floors[1] = 100
    votes = ballot(status=status)
    for place in range(3):
        votes.on_reply(place, grant(7), None)
    assert votes.fence == 101


def test_every_pair_of_majorities_meets() -> None:
    """What all of this rests on, for each number of voters."""
    for many in range(1, 6):
        quorum = Voters(tuple(range(many)), NAMES[:many]).quorum
        majorities = [set(one) for one in itertools.combinations(range(many), quorum)]
        assert all(one & other for one in majorities for other in majorities)


def test_order_of_voters_does_not_matter() -> None:
    """Known servers stay known in any order of voters: no second exchange verifies them."""
    register = VoterRegistry()
    register.status(Voters((0, 1, 2), ("a", "b", "c"))).set_server_run(
        1, b"life", forgetful=False, sure=True
    )
    other = register.status(Voters((1, 2, 0), ("b", "c", "a")))
    assert other.wait(1, Life(b"life", 5.0)) == 0.0
    ballot = Ballot(Voters((1, 2, 0), ("b", "c", "a")), other, hear_all=False)
    ballot.on_reply(0, [[1, 7, 0]], ServerRun(b"life", 5.0))
    assert (ballot.fences, ballot.lives) == ({0: 7}, {})
