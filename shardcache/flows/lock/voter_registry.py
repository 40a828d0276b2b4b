"""The restart guard: a voter that lost its data may have forgotten a holder, so its vote must wait.

Theory
------
Each life of a voter has a name: the run id of its server (INFO), and the time at which its register
was made, which the voter tells with each grant. A restart changes the first; a loss of the data, by
FLUSHALL too, changes the second. When a process meets a set of voters for the first time, and
whenever one of them shows another life, the process writes names and lives into the register that
each voter keeps, and reads there what the others remember:

    what the voters answer             then it is      and its votes count
    ------------------------------     -----------     --------------------------------------------
    all of them, and none remembers    fresh           at once: it has never voted, so it has
                                                       forgotten nothing
    one says that it is fresh, as all  fresh           at once
    had answered another client
    some of them, and none remembers   unknown         when this life is older than the longest ttl
                                                       in use, and than `VoterRegistry.unsure`
    one remembers another life, or     forgetful       when this life is older than the longest ttl
    that it has forgotten                              in use (and than `VoterRegistry.unsure` if
                                                       not all answered)

A majority has to answer, with the voter itself, and the process waits for all that answer in time.
A client that held the lock had told a majority of the voter's former life. If a minority forgets,
one voter of that majority remembers. But a client that reaches some of the voters may reach none of
those: then only time helps, and since the voters that it reaches may not know the longest ttl
either, `unsure` is used for it. A voter's grant counts only if our key is there after the register
was told. So a fleet that has just been started can lock at once. What a process has seen itself
counts as a memory too. The longest ttl is kept in the same register. The clients thus do what
Redis' own documentation advises: "keep a crashed node out for the longest ttl"
(distributed-locks.md). The guard fails if so many servers lose their data at once that no majority
remembers; then only the fencing token protects.

Registering a life also sets the floor of that voter's counters (see `scripts`), since they are old
after a restart from a snapshot.

Where a replica may take the place of a voter (``promotes``: Redis Cluster, Sentinel), its server
has been up for long, and so have its data, though they may lack what its master granted last. So
neither tells how old its life as a voter is. There a life is as old as its floor, the TIME at which
it was first registered: whoever was forgotten had been granted the lock before that.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple, Self

from shardcache.errors import CommandRefused, QuorumUnavailable, ShardError
from shardcache.flows.lock.lock_plan import LockPlan, Voters, drift
from shardcache.flows.lock.scripts import REGISTER
from shardcache.flows.steps import Batch, Broadcast, Flow, Outcome, ServerRun
from shardcache.resp import Command

__all__ = ("UNSURE", "Life", "VoterRegistry", "VoterStatus", "wait_of")

# Seconds: the longest ttl of a client that has told it to none of the voters that answer.
UNSURE = 60.0
_MOST_ROLLS = 4096
_FORGOT, _FRESH = 1, 2  # as `scripts.REGISTER` has them


class Life(NamedTuple):
    """One life of a voter.

    ``id``: its name, made of ``run`` and ``born``.
    ``age``: the seconds that it has lasted at least.
    ``run``: the run id of the server.
    ``born``: when the register was made; 0 if that is not known (load locks).
    ``told``: the TIME of the voter at which it said so, in microseconds; 0 if that is not known.
    """

    id: bytes
    age: float
    run: bytes = b""
    born: int = 0
    told: int = 0

    @classmethod
    def of(cls, run: ServerRun | None, born: int = 0, age_ms: int = 0) -> Self | None:
        """Return the life in which a voter answered.

        It is None if the server hides its run id (by an ACL) and has no register.
        """
        told = born + age_ms * 1000
        if run is None:
            return cls(b":%d" % born, age_ms / 1000, b"", born, told) if born else None
        if not born:
            return cls(run.id, run.age, run.id)
        return cls(b"%b:%d" % (run.id, born), min(run.age, age_ms / 1000), run.id, born, told)


class _Known(NamedTuple):
    """What the register said about one life. ``sure``: no other voter can know more."""

    life: bytes
    forgetful: bool
    sure: bool


class VoterStatus:
    """What one process knows of one set of voters, by shard.

    It is the same in whatever order the name of a lock puts the voters.
    """

    __slots__ = ("floors", "known", "longest", "out_since", "promotes", "unsure")

    def __init__(
        self, shards: Iterable[int], unsure: float = UNSURE, *, promotes: bool = False
    ) -> None:
        self.promotes = promotes
        # A life is in here when a majority of the registers has been told of it.
        self.known: dict[int, _Known | None] = dict.fromkeys(shards)
        self.floors: dict[int, int] = dict.fromkeys(self.known, 0)
        self.longest = 0  # ms
        self.out_since: float | None = None  # when too few of them began to answer
        self.unsure = unsure

    def set_server_run(self, shard: int, life: bytes, *, forgetful: bool, sure: bool) -> None:
        """Note what is known of a voter's life."""
        self.known[shard] = _Known(life, forgetful, sure)

    def registered(self, shard: int, life: Life) -> bool:
        """Whether a majority of the registers was told of this life."""
        known = self.known[shard]
        return known is not None and known.life == life.id

    def wait(self, shard: int, life: Life | None, *, vetted: bool = False) -> float | None:
        """Return the seconds until a vote of this life counts; None if it must be verified first.

        ``vetted``: it has just been verified, so what is not known now stays unknown.
        """
        if life is None:
            return 0.0
        known = self.known[shard]
        if known is None or known.life != life.id:
            return None
        if known.sure and not known.forgetful:
            return 0.0
        ttl = self.longest / 1000
        if not known.sure:
            ttl = max(ttl, self.unsure)
        left = max(ttl + drift(ttl) - self.age(shard, life), 0.0)
        return left if known.sure or vetted or not left else None

    def age(self, shard: int, life: Life) -> float:
        """Return the seconds for which a verified life has lasted at least."""
        if self.promotes:
            return min(life.age, max(life.told - self.floors[shard], 0) / 1e6)
        return life.age


def wait_of(status: VoterStatus, shard: int, life: Life | None) -> float | None:
    """Return the seconds until the answer "our key is here" counts, as `VoterStatus.wait`."""
    return status.wait(shard, life)


class VoterRegistry:
    """What a process knows from the registers, and what it has seen itself.

    ``unsure``: see `UNSURE`.
    ``promotes``: whether a replica may take the place of a voter.
    """

    __slots__ = ("_promotes", "_rolls", "_seen", "unsure")

    def __init__(self, unsure: float = UNSURE, *, promotes: bool = False) -> None:
        self.unsure = unsure
        self._promotes = promotes
        self._rolls: dict[tuple[frozenset[int], frozenset[str]], VoterStatus] = {}
        self._seen: dict[str, bytes] = {}

    def status(self, voters: Voters) -> VoterStatus:
        """Return what is known of this set of voters."""
        key = frozenset(voters.shards), frozenset(voters.absent)
        found = self._rolls.get(key)
        if found is None:
            if len(self._rolls) >= _MOST_ROLLS:
                self._rolls.clear()
            found = self._rolls[key] = VoterStatus(
                voters.shards, self.unsure, promotes=self._promotes
            )
        return found

    def verify(self, plan: LockPlan, lives: dict[int, Life]) -> Flow[None]:
        """Ask the registers about the voters at these places, and tell them the lives and the ttl.

        Without a majority nothing is verified; nor is a voter that does not answer itself.

        ``lives``: the lives in which the voters have answered, by place.
        """
        voters = plan.electors
        status = self.status(voters)
        lives = {
            place: life
            for place, life in lives.items()
            if status.wait(voters.shards[place], life) is None
        }
        if not lives and status.longest >= plan.ttl_ms:
            return  # another caller in this process has done it meanwhile
        states = {
            place: int(self._forgot(voters.names[place], life)) for place, life in lives.items()
        }
        answers: dict[int, list[int]] = {}
        itself: set[int] = set()  # voters that answered in the life that is to be verified
        refused: list[CommandRefused] = []
        asked = 0

        def on_reply(at: int, outcome: Outcome, run: ServerRun | None) -> bool:
            nonlocal asked
            asked += 1
            if not isinstance(outcome, ShardError) and isinstance(outcome[0], list):
                answers[at] = outcome[0]
                life = lives.get(at)
                if (
                    life is not None
                    and life.born in (0, outcome[0][1])
                    and life.run == (run.id if run else b"")
                ):
                    itself.add(at)
            elif not isinstance(outcome, ShardError) and isinstance(outcome[0], CommandRefused):
                refused.append(outcome[0])
            return asked == len(voters.shards)

        # Step 1: ask and tell in one round trip.
        yield Broadcast(_batches(plan, plan.ttl_ms, lives, states), on_reply, plan.voter_timeout)
        if not _majority(voters, answers):
            if len(refused) > len(voters.shards) - voters.quorum:  # it would fail again
                raise QuorumUnavailable(
                    plan.name, f"the voters keep no register: {refused[0]}"
                ) from refused[0]
            return
        # Step 2: what all answers together say of each voter is kept.
        longest = {answer[0] for answer in answers.values()}
        status.longest = max(status.longest, *longest)
        for at, place in enumerate(lives, 3):
            said = [answer[at] for answer in answers.values()]
            forgetful = _FORGOT in said
            sure = _everybody(len(answers), voters.total) or (_FRESH in said and not forgetful)
            states[place] = _FORGOT if forgetful else _FRESH if sure else 0
            if place in itself:
                # The floor first: a thread that finds the life verified must find its floor too.
                shard = voters.shards[place]
                status.floors[shard] = answers[place][2]
                status.set_server_run(shard, lives[place].id, forgetful=forgetful, sure=sure)
        # Step 3: where the registers differ, they are told the result; no answer is awaited.
        told = {tuple(answer[3:]) for answer in answers.values()}
        if len(longest) > 1 or told != {tuple(states.values())}:
            yield Broadcast(_batches(plan, status.longest, lives, states), None, plan.voter_timeout)

    def _forgot(self, name: str, life: Life) -> bool:
        """Whether this process has seen the voter in another life; note this one."""
        seen = self._seen.setdefault(name, life.id)
        return seen != life.id


def _majority(voters: Voters, answers: Collection[int]) -> bool:
    return voters.majority(answers)


def _everybody(answers: int, voters: int) -> bool:
    return answers == voters


def _batches(
    plan: LockPlan, longest: int, lives: dict[int, Life], states: dict[int, int]
) -> list[Batch]:
    """Return the batches that ask each voter about these lives, and tell it of them."""
    voters = plan.electors
    entries: Command = ()
    for place, life in lives.items():
        entries += (voters.names[place].encode(), life.id, b"%d" % states[place])
    begin = (b"EVAL", REGISTER, b"1", plan.register, b"%d" % longest)
    return [
        Batch(shard, [(*begin, name.encode(), voters.id, *entries)], True)
        for shard, name in zip(voters.shards, voters.names, strict=True)
    ]
