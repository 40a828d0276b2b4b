"""Acquiring a lock, driven by hand: each step is seen, the test gives each answer."""

from contextlib import suppress
from math import inf

import pytest

from shardcache.errors import (
    LockConflict,
    QuorumUnavailable,
)
from shardcache.flows.lock import (
    VoterRegistry,
    acquire,
)
from shardcache.flows.lock.lock_plan import drift
from shardcache.flows.steps import Listen, ServerRun
from tests.flows.lock_driver import DEAD, LATE, OUT, PLAN, WORDS, Driver, attempt, known


def test_agreed() -> None:
    """Counters that agree need one round trip; validity is from the sending, less the drift."""
    driver = Driver(lambda word, place: [1, 7, 0])
    lease = attempt(driver)
    assert (driver.words(), lease.fence, lease.token) == (["ACQUIRE"], 7, b"t|1")
    assert lease.valid_until == 100 + 10 - drift(10)


def test_counters_that_lag_are_confirmed() -> None:
    """A counter behind the token is brought up to it, while the key is ours."""
    counters = {0: 9, 1: 5, 2: 4}
    driver = Driver(lambda word, place: [1, counters[place], 0] if word == "ACQUIRE" else 1)
    assert attempt(driver).fence == 9
    assert driver.steps == [("ACQUIRE", (0, 1, 2)), ("CONFIRM", (1,))]


def test_confirmation_that_fails() -> None:
    """Without a majority that has the token there is no lock, and what was taken is given back."""
    counters = {0: 9, 1: 5, 2: 4}
    driver = Driver(lambda word, place: [1, counters[place], 0] if word == "ACQUIRE" else 0)
    with pytest.raises(QuorumUnavailable):
        attempt(driver)
    assert driver.words() == ["ACQUIRE", "CONFIRM", "RELEASE"]
    assert driver.steps[-1] == ("RELEASE", (0, 1, 2))


def test_too_late() -> None:
    """A grant that took longer than the ttl is no lock."""
    with pytest.raises(QuorumUnavailable, match="a majority granted it, but"):
        attempt(Driver(lambda word, place: [1, 7, 0], step=11.0))


def test_conflict() -> None:
    """A foreign majority is a conflict; it may be over at the quorum-th of the times left."""
    lefts = {0: 9000, 1: 2000, 2: 5000}
    driver = Driver(lambda word, place: [0, lefts[place], 3])
    with pytest.raises(LockConflict) as caught:
        attempt(driver)
    assert (caught.value.retry_after, driver.words()) == (9.0, ["ACQUIRE", "RELEASE"])


def test_outage() -> None:
    """A majority that cannot vote is an outage, told apart from a conflict."""
    driver = Driver(lambda word, place: OUT if place else [1, 7, 0])
    with pytest.raises(QuorumUnavailable, match="too many of the 3 voters cannot vote"):
        attempt(driver)
    assert driver.words() == ["ACQUIRE", "RELEASE"]


def test_retries_until_the_time_is_over() -> None:
    """Attempts go on until the deadline, with pauses, under tokens of their own."""
    driver = Driver(lambda word, place: OUT)
    with pytest.raises(QuorumUnavailable):
        attempt(driver, wait=1.0)
    assert driver.words()[:4] == ["ACQUIRE", "RELEASE", "sleep", "ACQUIRE"]
    assert (driver.now, driver.words()[-1]) == (pytest.approx(101.0), "RELEASE")


def test_waits_to_be_woken() -> None:
    """While somebody holds the lock a waiter listens for the release, and does not poll."""
    held = [True]

    def answer(word, place):
        if word == "listen":
            held[0] = False
            return [b"k", b"1"]
        return [0, 5000, 3] if held[0] else [1, 7, 0]

    driver = Driver(answer)
    assert attempt(driver, wait=30).fence == 7
    assert driver.words() == ["ACQUIRE", "RELEASE", "listen", "ACQUIRE"]


@pytest.mark.parametrize(("granted", "listens"), [(0, 1), (1, 0), (2, 0)])
def test_who_was_granted_a_minority_listens_where_the_lock_is_held(granted, listens) -> None:
    """The waiter's sign stands where the lock is held: a voter that granted wakes no waiter."""
    driver = Driver(lambda word, place: [1, 7, 0] if place == granted else [0, 5000, 3])
    flow = acquire(PLAN, known(), token=b"t", wait=30, clock=driver.clock, random=lambda: 0.5)
    step = next(flow)
    while not isinstance(step, Listen):
        driver.carry_out(step)
        step = flow.send(None)
    assert step.shard == listens


def listening(answers, tries=1):
    """Return the steps of a waiter who listens so often in vain."""
    driver = Driver(lambda word, place: answers[place] if word == "ACQUIRE" else None)
    flow = acquire(PLAN, known(), token=b"t", wait=30, clock=driver.clock, random=lambda: 0.5)
    step, found = next(flow), []
    while len(found) < tries:
        driver.carry_out(step)
        step = flow.send(None)
        if isinstance(step, Listen):
            found.append(step)
    return found


HELD, DEAD_KEY, TAKEN = [0, 5000, 3, b"holder"], [0, 60_000, 3, b"dead"], [0, 5000, 3, b"rival"]


@pytest.mark.parametrize(
    ("answers", "places"),
    [
        ({0: HELD, 1: HELD, 2: HELD}, [0, 0, 0]),
        ({0: DEAD_KEY, 1: HELD, 2: HELD}, [1, 1, 1]),
        ({0: HELD, 1: DEAD_KEY, 2: HELD}, [0, 0, 0]),
        ({0: DEAD_KEY, 1: HELD, 2: OUT}, [1, 0, 1]),
    ],
    ids=["all", "dead first", "dead second", "not clear"],
)
def test_listens_where_the_holder_is(answers, places) -> None:
    """A voter with a dead holder's key would wake no waiter; in doubt the waiter tries each."""
    assert [step.shard for step in listening(answers, 3)] == places


def test_a_lock_that_nobody_holds_is_not_listened_for_long() -> None:
    """Contenders that share the voters give back at once; those that died do not."""
    [step] = listening({0: DEAD_KEY, 1: [1, 7, 0], 2: TAKEN})
    assert step.timeout < 0.1


def test_without_a_majority_a_wait_ends_after_the_ttl() -> None:
    """A caller without a timeout waits the ttl for voters; a caller with one, or none, does not."""
    driver = Driver(lambda word, place: OUT)
    with pytest.raises(
        QuorumUnavailable,
        match="without a timeout a majority is waited for as long as the ttl, 10 s",
    ):
        attempt(driver, wait=None)
    assert 110 <= driver.now < 110.2
    for wait, ends in ((inf, 200), (50, 150)):
        driver = Driver(lambda word, place: [1, 7, 0] if driver.now >= 200 else OUT)  # noqa: B023
        with suppress(QuorumUnavailable):
            attempt(driver, wait=wait)
        assert driver.now == pytest.approx(ends, abs=0.2)


def test_only_an_outage_ends_the_wait() -> None:
    """While another holds the lock it is waited for; an outage counts from its own beginning."""
    driver = Driver(
        lambda word, place: OUT if 125 < driver.now < 130 or driver.now > 140 else [0, 5000, 3]
    )
    with pytest.raises(QuorumUnavailable, match="without a timeout"):
        attempt(driver, wait=None)
    assert 150 <= driver.now < 152


def test_who_comes_to_an_outage_waits_for_its_own_ttl() -> None:
    """Waiters that came together end together; a waiter that comes later waits anew."""
    register = known()
    driver = Driver(lambda word, place: OUT)

    def ends(began: float) -> float:
        with pytest.raises(QuorumUnavailable):
            driver.run(
                acquire(
                    PLAN,
                    register,
                    token=b"t",
                    wait=None,
                    began=began,
                    clock=driver.clock,
                    random=lambda: 0.5,
                )
            )
        return driver.now

    assert ends(100) == pytest.approx(110, abs=0.2)
    end = driver.now
    assert ends(100) == end
    driver.now = 200.0
    assert ends(200) == pytest.approx(210, abs=0.2)


def test_restarted_voters_are_waited_for() -> None:
    """What keeps restarted voters from voting ends by itself, later than the ttl: no outage."""
    driver = Driver(
        lambda word, place: (
            [1, 7, 0] if word == "ACQUIRE" else 1 if word == "CONFIRM" else [60_000, 5, 0, 1, 1, 1]
        ),
        run=lambda place: ServerRun(b"%d" % place, driver.now - 100),
    )
    assert attempt(driver, VoterRegistry(), wait=None).fence == 7
    assert 160 < driver.now < 162


@pytest.mark.parametrize(
    ("answer", "kind"), [(OUT, QuorumUnavailable), ([0, 5000, 3], LockConflict)]
)
def test_waiting_is_told_after_a_second(answer, kind) -> None:
    """Why somebody waits is said once, about a second after he came."""
    told = []
    driver = Driver(lambda word, place: answer)
    flow = acquire(
        PLAN,
        known(),
        token=b"t",
        wait=5,
        note=lambda error: told.append((type(error), driver.now)),
        clock=driver.clock,
        random=lambda: 0.5,
    )
    with pytest.raises(kind):
        driver.run(flow)
    assert [kind for kind, _ in told] == [kind]
    assert 101 <= told[0][1] < 101.2


def test_who_cannot_listen_waits() -> None:
    """Where listening fails at once the waiter pauses instead of asking in a loop."""
    driver = Driver(lambda word, place: DEAD if word == "listen" else [0, 5000, 3])
    with pytest.raises(LockConflict):
        attempt(driver, wait=1.0)
    assert driver.words()[:4] == ["ACQUIRE", "RELEASE", "listen", "sleep"]


@pytest.mark.parametrize("at", ["ACQUIRE", "CONFIRM"])
def test_broken_off(at) -> None:
    """Whatever is thrown into a step, all voters are told to release before the flow ends."""
    counters = {0: 9, 1: 5, 2: 4}
    driver = Driver(lambda word, place: [1, counters[place], 0])
    flow = acquire(PLAN, known(), token=b"t", wait=None, clock=driver.clock, random=lambda: 0.5)
    step = next(flow)
    if at == "CONFIRM":
        driver.carry_out(step)
        step = flow.send(None)
    assert WORDS[step.batches[0].commands[0][1]] == at
    step = flow.throw(KeyboardInterrupt())
    assert [batch.shard for batch in step.batches] == [0, 1, 2]
    assert (WORDS[step.batches[0].commands[0][1]], step.on_reply) == ("RELEASE", None)
    with pytest.raises(KeyboardInterrupt):
        flow.send(None)


def test_who_may_grant_late_is_undone() -> None:
    """The release goes out to each voter that was asked, also one that hangs, and to no other."""
    answers = {0: OUT, 1: LATE, 2: None}
    driver = Driver(lambda word, place: answers[place])
    flow = acquire(PLAN, known(), token=b"t", wait=0, clock=driver.clock, random=lambda: 0.5)
    driver.carry_out(next(flow))
    assert [batch.compensates for batch in flow.send(None).batches] == [False, True, True]
