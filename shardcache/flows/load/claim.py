"""Claiming a load: the load lock and another look at the value, in one exchange.

The look comes behind the claim on the key's own shard. So whatever a former loader stored is seen: it stored it while
it held this lock there, and we were granted it after that.
"""

from dataclasses import dataclass

from shardcache.errors import ShardError
from shardcache.flows.load.desk import LoadDesk
from shardcache.flows.load.job import Job
from shardcache.flows.lock.ballot import Ballot
from shardcache.flows.lock.lease import Lease
from shardcache.flows.steps import Batch, Canvass, Flow, Outcome, Run

__all__ = ("Claim", "claim", "let_go")

_GUARDED_FROM = 3  # voters: with fewer, a restarted one would leave no majority


@dataclass(slots=True)
class Claim:
    """What came of one attempt.

    ``lease``: held by a majority, so nobody else in the fleet loads; None otherwise. ``home``: whether our token is in the lock on the
    key's own shard, without which nothing can be stored. ``quorum``: whether a majority could vote at all. ``left``: seconds
    until the holder's lock ends, if nobody renews it. ``raw`` and ``pttl``: what is stored; ``error``: why that is not known.
    """

    token: bytes
    lease: Lease | None
    home: bool
    quorum: bool
    left: float
    raw: bytes | None
    pttl: int
    error: ShardError | None


class Poll:
    """The votes on one job, and the answer of its home."""

    __slots__ = ("_guard", "ballot", "home", "job")

    def __init__(self, job: Job, desk: LoadDesk) -> None:
        voters = job.plan.voters
        roll = desk.register.roll(voters)
        self._guard = len(voters.shards) >= _GUARDED_FROM
        self.ballot = Ballot(voters, roll, hear_all=self._guard and roll.longest < job.plan.ttl_ms)
        self.home: Outcome | None = None
        self.job = job

    def take(self, place: int, outcome: Outcome, run: Run | None) -> bool:
        """Count a vote; the outcome is certain only when the home has answered too."""
        if place == 0:
            self.home = outcome
        return self.ballot.take(place, outcome, run if self._guard else None) and self.home is not None

    @property
    def unvetted(self) -> bool:
        return self._guard and bool(self.ballot.runs)

    def claim(self, token: bytes, sent: float, now: float) -> Claim:
        """Sum up."""
        ballot, plan = self.ballot, self.job.plan
        answer = self.home
        error: ShardError | None = None
        raw, pttl, home = None, -2, False
        if answer is None or isinstance(answer, ShardError):
            error = answer
        else:
            vote, found, left = answer
            error = next((one for one in answer if isinstance(one, ShardError)), None)
            home = not isinstance(vote, ShardError) and vote[0] == 1
            if error is None:
                raw, pttl = found, left
        lease = None
        if ballot.granted:
            lease = Lease(token, plan.quorum, [0.0] * len(plan.voters.shards))
            lease.held(list(ballot.fences), sent, plan.ttl)
            if lease.valid_until <= now:
                lease = None
        out = sum(
            one is None or isinstance(one, ShardError) or isinstance(one[0], ShardError) for one in ballot.answers
        )
        can_vote = len(ballot.answers) - out - len(ballot.guarded) >= plan.quorum
        lefts = sorted(ballot.lefts)
        left_s = lefts[min(plan.quorum, len(lefts)) - 1] if lefts else 0.0
        return Claim(token, lease, home, can_vote, left_s, raw, pttl, error)


def claim(job: Job, desk: LoadDesk, token: bytes, announce: float) -> Flow[Claim]:
    """Try once. What was granted is to be given back by `let_go`, or by the fill."""
    plan = job.plan
    poll = Poll(job, desk)
    sent = desk.clock()
    refused_ms = round(announce * 1000)
    others = [job.claim(token, plan.ttl_ms, 0)]
    batches = [Batch(shard, others, True) for shard in plan.voters.shards]
    batches[0] = Batch(job.home, [job.claim(token, plan.ttl_ms, refused_ms), *job.read()], True)
    try:
        yield Canvass(batches, poll.take, plan.patience)
        if poll.unvetted:
            yield from vet(poll, desk)
    except GeneratorExit:
        raise
    except BaseException:
        yield from let_go(job, token)
        raise
    return poll.claim(token, sent, desk.clock())


def vet(poll: Poll, desk: LoadDesk) -> Flow[None]:
    """Have voters that were never met in this life looked up, and let those votes count that may."""
    plan, ballot = poll.job.plan, poll.ballot
    yield from desk.register.vet(plan, ballot.runs)
    ballot.recount(desk.register.roll(plan.voters))


def let_go(job: Job, token: bytes) -> Flow[None]:
    """Take our token from every voter, waking those who wait, and wait for no answer."""
    commands = [job.give_up(token)]
    plan = job.plan
    yield Canvass([Batch(shard, commands, True) for shard in plan.voters.shards], None, plan.patience)
