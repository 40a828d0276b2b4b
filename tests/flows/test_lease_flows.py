"""Extending, adopting and releasing a lease, driven by hand."""

import pytest

from shardcache.errors import (
    LockLost,
    QuorumUnavailable,
)
from shardcache.flows.lock import (
    VoterRegistry,
    extend,
    release,
)
from shardcache.flows.lock.adoption import adopt
from shardcache.flows.lock.lock_plan import drift
from shardcache.flows.steps import ServerRun
from tests.flows.lock_driver import DEAD, LATE, OUT, PLAN, Driver, held, known


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ({0: 1, 1: 1, 2: 1}, "extended"),
        ({0: 1, 1: OUT, 2: 1}, "extended"),
        ({0: 1, 1: 0, 2: -1}, "lost"),
        ({0: OUT, 1: 0, 2: -1}, "lost"),
        ({0: 1, 1: OUT, 2: None}, "unknown"),
        ({0: 1, 1: OUT, 2: 0}, "unknown"),
        ({0: OUT, 1: OUT, 2: OUT}, "unknown"),
    ],
)
def test_extend(answers, outcome) -> None:
    """Only who has had the key all the time counts; too few answers are no loss."""
    driver, lease = Driver(lambda word, place: answers[place]), held()
    assert driver.run(extend(PLAN, lease, clock=driver.clock)) == outcome
    assert lease.valid_until == (110 - drift(10) if outcome == "extended" else 105)


def test_extend_repairs_what_has_gone() -> None:
    """A missing key is put back after the extension, not counted; a foreign key is left alone."""
    answers = {0: 0, 1: 1, 2: 1}
    driver, lease = Driver(lambda word, place: answers[place]), held()
    assert driver.run(extend(PLAN, lease, clock=driver.clock)) == "extended"
    assert (driver.steps[1:], lease.until[0]) == ([("REPAIR", (0,))], 105)


def test_released_while_it_repairs() -> None:
    """A release that came in between takes back what the repair has set."""
    answers = {0: 0, 1: 1, 2: 1}
    lease = held()

    def answer(word, place):
        if word == "REPAIR":
            lease.ended = True
        return answers[place]

    driver = Driver(answer)
    driver.run(extend(PLAN, lease, clock=driver.clock))
    assert driver.steps[1:] == [
        ("REPAIR", (0,)),
        ("RELEASE", (0,)),
    ]  # elsewhere it may be somebody's who has adopted it


def adopting(driver):
    return driver.run(
        adopt(
            PLAN,
            b"given",
            b"own",
            7,
            registry=VoterRegistry(),
            clock=driver.clock,
            random=lambda: 0.5,
        )
    )


def test_adopted() -> None:
    """A majority whose token was changed is a lease for what the voters say is left."""
    lefts = {0: 4000, 1: 6000, 2: 9000}
    driver = Driver(lambda word, place: [1, lefts[place]])
    lease = adopting(driver)
    assert (lease.token, lease.fence, driver.words(), lease.unsure) == (b"own|1", 7, ["ADOPT"], {2})
    assert lease.valid_until == 100 + 4 - drift(4)


@pytest.mark.parametrize("gone", [[0], [-1]], ids=["ended", "another's"])
def test_nothing_to_adopt(gone) -> None:
    """Where a majority has another token, or none, nothing is held, and changes are undone."""
    driver = Driver(lambda word, place: gone if place else [1, 5000])
    with pytest.raises(LockLost, match="has ended, or somebody else has adopted it"):
        adopting(driver)
    assert driver.words() == ["ADOPT", "ADOPT", "sleep"] * 5
    assert (driver.steps[1]) == ("ADOPT", (0, 1, 2))


def test_adopted_by_another() -> None:
    """Who finds another's token everywhere is told at once."""
    driver = Driver(lambda word, place: [-1])
    with pytest.raises(LockLost):
        adopting(driver)
    assert driver.words() == ["ADOPT", "ADOPT"]


def test_adopters_who_took_voters_from_each_other() -> None:
    """Who has some voters, and another the rest, puts back and tries again."""
    first = {0: [1, 5000], 1: [-1], 2: LATE}
    asked = []

    def answer(word, place):
        asked.append(place)
        return first[place] if len(asked) <= 3 else [1, 5000]

    driver = Driver(answer)
    assert adopting(driver).token == b"own|2"
    assert driver.words() == ["ADOPT", "ADOPT", "sleep", "ADOPT"]


def test_adoption_without_a_majority() -> None:
    """Where too few answer it is not known whether it is lost: the text may be adopted later."""
    driver = Driver(lambda word, place: OUT if place else [1, 5000])
    with pytest.raises(QuorumUnavailable, match="too few of the 3 voters answer"):
        adopting(driver)
    assert driver.words() == ["ADOPT", "ADOPT"]


def test_adoption_broken_off() -> None:
    """Whatever is thrown in, the given token is put back on all voters."""
    flow = adopt(
        PLAN, b"given", b"own", 7, registry=VoterRegistry(), clock=lambda: 100.0, random=lambda: 0.5
    )
    assert next(flow).batches[0].commands[0][-2:] == (b"given", b"own|1")
    step = flow.throw(KeyboardInterrupt())
    assert ({batch.commands[0][-2:] for batch in step.batches}, step.on_reply) == (
        {(b"own|1", b"given")},
        None,
    )
    with pytest.raises(KeyboardInterrupt):
        flow.send(None)


def lived(life: str, place: int) -> ServerRun:
    return ServerRun(b"run-%b-%d" % (life.encode(), place), 3600.0)


def test_adopter_counts_no_voter_that_came_back() -> None:
    """A voter in a new life that has the given token again does not count for an adoption."""
    register = known()
    for place in range(3):
        register.status(PLAN.voters).set_server_run(
            place, b"run-a-%d:5" % place, forgetful=False, sure=True
        )
    lives = {0: "a", 1: "b", 2: "a"}

    def answer(word, place):
        if word == "REGISTER":
            return [10_000, 5, 0, 1]
        return [-1] if place == 2 else [1, 5000, 5, 100]

    driver = Driver(answer, run=lambda place: lived(lives[place], place))
    with pytest.raises(LockLost):
        driver.run(
            adopt(
                PLAN, b"given", b"own", 7, registry=register, clock=driver.clock, random=lambda: 0.5
            )
        )
    assert driver.words()[:4] == ["ADOPT", "REGISTER", "ADOPT", "ADOPT"]
    driver = Driver(lambda word, place: [1, 5000, 5, 100], run=lambda place: lived("a", place))
    lease = driver.run(
        adopt(PLAN, b"given", b"own", 7, registry=register, clock=driver.clock, random=lambda: 0.5)
    )
    assert (driver.words(), lease.verified) == (["ADOPT"], {0, 2})  # the second is forgetful


def test_extension_counts_only_voters_that_were_met() -> None:
    """A voter not heard at the grant is made known to the others first, and asked again."""
    register = known()
    lease = held()
    lease.verified = {0}

    def answer(word, place):
        if word == "REGISTER":
            return [10_000, 5, 0, 2]
        return {0: [1, 5, 100], 1: OUT, 2: [1, 5, 100]}[place]

    driver = Driver(answer, run=lambda place: lived("a", place))
    assert driver.run(extend(PLAN, lease, clock=driver.clock, registry=register)) == "extended"
    assert driver.words() == ["EXTEND", "REGISTER", "EXTEND"]
    assert lease.verified == {0, 2}


def test_extend_after_the_end() -> None:
    """Nothing is sent for a lease that has ended."""
    driver = Driver(lambda word, place: 1)
    assert (driver.run(extend(PLAN, held(-1), clock=driver.clock)), driver.steps) == ("lost", [])


def test_extend_to_a_longer_ttl() -> None:
    """A longer ttl is registered first; without a majority for that nothing is extended."""
    for answer, words, outcome in (
        ([10_000, 5, 0], ["REGISTER", "EXTEND"], "extended"),
        (DEAD, ["REGISTER"], "unknown"),
    ):
        driver = Driver(lambda word, place, answer=answer: answer if word == "REGISTER" else 1)
        assert (
            driver.run(extend(PLAN, held(), clock=driver.clock, registry=VoterRegistry()))
            == outcome
        )
        assert driver.words() == words


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ({0: 1, 1: 1, 2: 1}, "freed"),
        ({0: 1, 1: OUT, 2: 1}, "freed"),
        ({0: 1, 1: 0, 2: -1}, "lost"),
        ({0: 1, 1: LATE, 2: OUT}, "unknown"),
        ({0: 1, 1: 0, 2: LATE}, "unknown"),
    ],
)
def test_release(answers, outcome) -> None:
    """A majority decides; the lease is over in any case."""
    driver, lease = Driver(lambda word, place: answers[place]), held()
    assert (driver.run(release(PLAN, lease)), lease.ended, lease.valid_until) == (
        outcome,
        True,
        0.0,
    )


def test_release_over_connections_that_broke() -> None:
    """A voter whose connection broke is asked once more; no key then means released."""
    rounds = []

    def answer(word, place):
        rounds.append(place)
        return DEAD if len(rounds) <= 3 else 0

    driver = Driver(answer)
    assert driver.run(release(PLAN, held())) == "freed"
    assert driver.steps == [("RELEASE", (0, 1, 2)), ("RELEASE", (0, 1, 2))]
