"""A driver for the lock's flows that notes each step and lets the test give each answer."""

from shardcache.errors import (
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
    scripts,
)
from shardcache.flows.steps import Broadcast, Listen, Sleep
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


def held(left: float = 5.0) -> Lease:
    return Lease(b"t|1", 2, [100 + left] * 3, 7)
