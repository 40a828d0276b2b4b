"""Acquire, extend, release and the register, driven by hand: the test gives each answer."""

from contextlib import suppress
from math import inf

import pytest

from shardcache.errors import (
    LockConflict,
    LockLost,
    QuorumUnavailable,
    ShardOut,
    ShardTimeout,
    ShardUnavailable,
)
from shardcache.flows.lock import (
    Lease,
    LockKeys,
    LockPlan,
    VoterRegistry,
    Voters,
    acquire,
    extend,
    release,
    scripts,
)
from shardcache.flows.lock.adoption import adopt
from shardcache.flows.lock.lock_plan import drift
from shardcache.flows.lock.voter_registry import Life
from shardcache.flows.steps import Broadcast, Listen, ServerRun, Sleep
from shardcache.keys import KeySpace

PLAN = LockPlan(
    "l",
    LockKeys.of(b"n:l", KeySpace("n")),
    Voters((0, 1, 2), ("a", "b", "c")),
    10.0,
    0.5,
    b"n:register",
)
OUT = ShardOut("a", "is out of service")
LATE = ShardTimeout("a", "no reply")
DEAD = ShardUnavailable("a", "connection lost")
WORDS = {getattr(scripts, name): name for name in scripts.__all__}


class Driver:
    """Answers broadcasts by what ``answer(word, place)`` returns (None: no answer at all).

    It notes all steps.
    """

    def __init__(self, answer, run=lambda place: None, step=0.0):
        self.answer = answer
        self.runs = run
        self.steps = []
        self.now = 100.0
        self.step = step

    def clock(self):
        self.now += self.step
        return self.now

    def run(self, flow):
        try:
            step = next(flow)
            while True:
                step = flow.send(self.carry_out(step))
        except StopIteration as end:
            return end.value

    def carry_out(self, step):
        if isinstance(step, Sleep):
            self.steps.append("sleep")
            self.now += step.seconds
            return None
        if isinstance(step, Listen):
            self.steps.append("listen")
            self.now += step.timeout
            return self.answer("listen", step.shard)
        assert isinstance(step, Broadcast)
        word = WORDS[step.batches[0].commands[0][1]]
        self.steps.append((word, tuple(batch.shard for batch in step.batches)))
        for at, batch in enumerate(step.batches):
            outcome = self.answer(word, batch.shard)
            if outcome is not None and not isinstance(outcome, Exception):
                # Extensions answer in lists, of which the rest says who answers.
                outcome = (
                    [[outcome]] if word == "EXTEND" and isinstance(outcome, int) else [outcome]
                )
            if (
                step.on_reply is not None
                and outcome is not None
                and step.on_reply(at, outcome, self.runs(batch.shard))
            ):
                break
        return None

    def words(self):
        return [step if isinstance(step, str) else step[0] for step in self.steps]


def known() -> VoterRegistry:
    """Return a register that knows the longest ttl."""
    register = VoterRegistry()
    register.status(PLAN.voters).longest = 10_000
    return register


def attempt(driver, register=None, wait=0):
    return driver.run(
        acquire(
            PLAN, register or known(), token=b"t", wait=wait, clock=driver.clock, random=lambda: 0.5
        )
    )


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
    roll = register.status(PLAN.voters)
    assert (roll.longest, [roll.known[place] for place in range(3)]) == (0, [None] * 3)


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
    roll = register.status(PLAN.voters)
    assert ([roll.known[place] is not None for place in range(3)], roll.floors[1]) == (
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
    """As long as no majority keeps the register nothing is vetted, and nobody gets the lock."""
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


def held(left: float = 5.0) -> Lease:
    return Lease(b"t|1", 2, [100 + left] * 3, 7)


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
