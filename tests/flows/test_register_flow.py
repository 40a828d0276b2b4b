"""The register of voters, driven by hand: which voters count, and from when on."""

import pytest

from shardcache.errors import (
    QuorumUnavailable,
)
from shardcache.flows.lock import (
    VoterRegistry,
)
from shardcache.flows.lock.lock_plan import drift
from shardcache.flows.lock.voter_registry import Life
from shardcache.flows.steps import ServerRun
from tests.flows.lock_driver import DEAD, PLAN, Driver, attempt


def registering(*states: int, floor: int = 0):
    """Return answers to a register that says this of each voter, and grants."""
    return lambda word, place: {"ACQUIRE": [1, 7, 0], "REGISTER": [10_000, 5, floor, *states]}.get(
        word, 1
    )


def test_fresh_fleet() -> None:
    """Voters never met before are verified, and vote at once if no peer remembers them."""
    register = VoterRegistry()
    driver = Driver(registering(0, 0, 0, floor=40), run=lambda place: ServerRun(b"%d" % place, 1.0))
    assert attempt(driver, register).fence == 41
    assert driver.words() == ["ACQUIRE", "REGISTER", "REGISTER", "CONFIRM"]
    assert (attempt(driver, register).fence, driver.words()[4:]) == (41, ["ACQUIRE", "CONFIRM"])


def test_fleet_that_others_have_asked() -> None:
    """Where it is noted that all were asked, nothing is to be told."""
    driver = Driver(registering(2, 2, 2), run=lambda place: ServerRun(b"%d" % place, 1.0))
    attempt(driver, VoterRegistry())
    assert driver.words() == ["ACQUIRE", "REGISTER", "CONFIRM"]


@pytest.mark.parametrize(("states", "votes"), [((0, 0, 0), "guarded"), ((2, 2, 2), "granted")])
def test_one_that_is_not_heard(states, votes) -> None:
    """If one voter does not answer the register, the others wait, unless all were asked before."""
    answer = registering(*states)
    driver = Driver(
        lambda word, place: DEAD if word == "REGISTER" and place == 2 else answer(word, place),
        run=lambda place: ServerRun(b"%d" % place, 1.0),
    )
    try:
        assert attempt(driver, VoterRegistry()).fence == 7
        kinds = {"granted"}
    except QuorumUnavailable as error:
        kinds = {vote.kind for vote in error.votes[:2]}
    assert kinds == {votes}


def test_forgetful_majority() -> None:
    """Voters that their peers remember in another life count after the longest ttl."""
    age = [1.0]
    register = VoterRegistry()
    driver = Driver(registering(1, 1, 0), run=lambda place: ServerRun(b"%d" % place, age[0]))
    with pytest.raises(QuorumUnavailable, match="have restarted") as caught:
        attempt(driver, register)
    assert [vote.kind for vote in caught.value.votes] == ["guarded", "guarded", "granted"]
    age[0] = 10 + drift(10) + 0.01
    assert attempt(driver, register).fence == 7


@pytest.mark.parametrize(
    ("promotes", "since", "wait"),
    [(False, 0, 0.0), (True, 0, 10 + drift(10)), (True, 4_000_000, 6 + drift(10)), (True, 99e6, 0)],
)
def test_a_promoted_replica_is_as_old_as_its_floor(promotes, since, wait) -> None:
    """Where replicas are promoted, uptime and old data do not end the wait of who forgot."""
    status = VoterRegistry(promotes=promotes).status(PLAN.voters)
    status.longest, status.floors[1] = 10_000, 10**15
    run = ServerRun(b"replica", 1e6)  # it has been up for long, and so have its data
    life = Life.of(run, 5, (10**15 + int(since)) // 1000)
    assert life is not None
    status.set_server_run(1, life.id, forgetful=True, sure=True)
    assert status.wait(1, life) == pytest.approx(wait, abs=0.01)
    status.set_server_run(1, life.id, forgetful=False, sure=True)
    assert status.wait(1, life) == 0.0


@pytest.mark.parametrize("answers", [0, 1])
def test_one_answer_of_the_register_is_not_enough(answers) -> None:
    """A voter is verified when a majority is told; the longest ttl is what a majority knows."""
    register = VoterRegistry()
    flow = register.verify(
        PLAN, {place: Life(b"%d" % place, 100.0, b"%d" % place) for place in range(3)}
    )
    step = next(flow)
    for place in range(3):
        step.on_reply(
            place,
            [[10_000, 5, 0, 0, 0, 0]] if place < answers else DEAD,
            ServerRun(b"%d" % place, 100.0),
        )
    with pytest.raises(StopIteration):
        flow.send(None)
    status = register.status(PLAN.voters)
    assert (status.longest, [status.known[place] for place in range(3)]) == (0, [None] * 3)


def test_a_voter_answers_for_itself() -> None:
    """A voter that did not answer the register in this life is not verified: it has no floor."""
    register = VoterRegistry()
    flow = register.verify(
        PLAN, {place: Life(b"%d" % place, 100.0, b"%d" % place) for place in range(3)}
    )
    step = next(flow)
    step.on_reply(0, [[10_000, 5, 0, 2, 2, 2]], ServerRun(b"another", 1.0))
    step.on_reply(1, [[10_000, 5, 9, 2, 2, 2]], ServerRun(b"1", 100.0))
    step.on_reply(2, DEAD, None)
    with pytest.raises(StopIteration):
        flow.send(None)
    status = register.status(PLAN.voters)
    assert ([status.known[place] is not None for place in range(3)], status.floors[1]) == (
        [False, True, False],
        9,
    )


def test_seen_in_another_life_by_this_process() -> None:
    """What a process has seen itself counts as a memory: it tells its peers."""
    register = VoterRegistry()
    for run, forgot in ((b"one", b"0"), (b"two", b"1")):
        step = next(register.verify(PLAN, {0: Life(run, 1.0)}))
        assert step.batches[0].commands[0][-3:] == (b"a", run, forgot)


def test_register_without_a_majority() -> None:
    """As long as no majority keeps the register no voter is verified, and no lock is granted."""
    driver = Driver(
        lambda word, place: (
            [1, 7, 0] if word == "ACQUIRE" else (DEAD if place else [10_000, 5, 0, 0, 0, 0])
        ),
        run=lambda place: ServerRun(b"%d" % place, 1.0),
    )
    with pytest.raises(QuorumUnavailable):
        attempt(driver, VoterRegistry())


def test_longest_ttl_must_be_registered() -> None:
    """A lock is not granted unless a majority knows its ttl: a restarted voter must wait for it."""
    driver = Driver(
        lambda word, place: [1, 7, 0] if word == "ACQUIRE" else (None if place else [10_000, 5, 0])
    )
    with pytest.raises(QuorumUnavailable):
        attempt(driver, VoterRegistry())
