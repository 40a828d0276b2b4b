"""The restart guard: a voter that came back empty may have forgotten a holder, so its vote must wait.

Theory
------
Each life of a server has a run id (INFO). The first time that a process meets a set of voters, and whenever one of them shows another run
id, it writes name and run id of each voter into a register that every voter keeps, and reads there what the others remember:

    what a voter's peers remember      then it is      and its votes count
    ------------------------------     -----------     ------------------------------------------------
    nothing                            fresh           at once: it has never voted, so it forgot nothing
    this very run, as fresh            fresh           at once
    another run, or this one, come     a forgetful     when this run is older than the longest ttl in
    back                               one             use: by then what it forgot has expired

One peer that remembers is enough. A majority has to answer, and to be told, and all are heard that answer in time: the one voter that two
majorities share may be the very one that has forgotten. A voter's grant counts only if our key is there after the register was told. So a fleet that has just been
started locks at once, and a single server that restarts is known by the others. What a process has seen itself counts
as a memory too. The longest ttl is kept in the same register. Redis' own advice, "keep a crashed node out for the longest ttl"
(distributed-locks.md), is thus done by the clients. Where it fails: servers that lose their memory at once, down to where no majority
remembers; the fencing token is then what is left.
"""

from collections.abc import Iterable

from shardcache.commands import Command, decimal
from shardcache.errors import CommandRefused, QuorumUnavailable, ShardError
from shardcache.flows.lock.plan import LockPlan, Voters, drift
from shardcache.flows.lock.scripts import REGISTER
from shardcache.flows.steps import Batch, Canvass, Flow, Outcome, Run

__all__ = ("Register", "Roll")

_MOST_ROLLS = 4096


class Roll:
    """What one process knows of one set of voters, by shard: whatever order a lock's name puts them in."""

    __slots__ = ("forgetful", "longest", "out_since", "runs")

    def __init__(self, shards: Iterable[int]) -> None:
        self.runs: dict[int, bytes | None] = dict.fromkeys(shards)  # vetted: known to a majority of the register
        self.forgetful: dict[int, bool] = dict.fromkeys(self.runs, False)
        self.longest = 0  # ms
        self.out_since: float | None = None  # when too few of them began to answer

    def wait(self, shard: int, run: Run | None) -> float | None:
        """Return the seconds until a vote of this run counts: 0.0 if it does now, None if it must be vetted first."""
        if run is None:
            return 0.0  # the server hides its run id (by an ACL): nothing can be told
        if self.runs[shard] != run.id:
            return None
        if not self.forgetful[shard]:
            return 0.0
        ttl = self.longest / 1000
        return max(ttl + drift(ttl) - run.age, 0.0)


class Register:
    """A process' side of the register: what it has vetted, and what it has seen."""

    __slots__ = ("_rolls", "_seen")

    def __init__(self) -> None:
        self._rolls: dict[frozenset[int], Roll] = {}
        self._seen: dict[str, bytes] = {}

    def roll(self, voters: Voters) -> Roll:
        """Return what is known of this set of voters."""
        shards = frozenset(voters.shards)
        found = self._rolls.get(shards)
        if found is None:
            if len(self._rolls) >= _MOST_ROLLS:
                self._rolls.clear()
            found = self._rolls[shards] = Roll(shards)
        return found

    def vet(self, plan: LockPlan, runs: dict[int, Run]) -> Flow[None]:
        """Ask the register about the voters at these places, and tell it of them and of the ttl, as far as it does not know.

        Without a majority nothing is vetted.
        """
        voters = plan.voters
        roll = self.roll(voters)
        runs = {place: run for place, run in runs.items() if roll.runs[voters.shards[place]] != run.id}
        if not runs and roll.longest >= plan.ttl_ms:
            return  # somebody else in this process has seen to it
        places = list(runs)
        forgot = [self._forgot(voters.names[place], runs[place]) for place in places]
        command: Command = (b"EVAL", REGISTER, b"1", plan.register, decimal(plan.ttl_ms))
        for place, known in zip(places, forgot, strict=True):
            command += (voters.names[place].encode(), runs[place].id, decimal(known))
        answers: list[list[int]] = []
        refused: list[CommandRefused] = []
        asked = 0

        def take(_: int, outcome: Outcome, __: Run | None) -> bool:
            nonlocal asked
            asked += 1
            if not isinstance(outcome, ShardError) and isinstance(outcome[0], list):
                answers.append(outcome[0])
            elif not isinstance(outcome, ShardError) and isinstance(outcome[0], CommandRefused):
                refused.append(outcome[0])
            return asked == len(voters.shards)

        commands = [command]
        yield Canvass([Batch(shard, commands, True) for shard in voters.shards], take, plan.patience)
        if len(answers) < plan.quorum:
            if len(refused) > len(voters.shards) - plan.quorum:  # asking again would not mend it
                raise QuorumUnavailable(plan.name, f"the voters keep no register: {refused[0]}") from refused[0]
            return
        roll.longest = max(roll.longest, *(answer[0] for answer in answers))
        for at, place in enumerate(places, 1):
            # In this order: another thread that finds the run vetted must not find the old judgement beside it.
            shard = voters.shards[place]
            roll.forgetful[shard] = any(answer[at] for answer in answers)
            roll.runs[shard] = runs[place].id

    def _forgot(self, name: str, run: Run) -> bool:
        """Whether this process has seen the voter in another life; note this one."""
        seen = self._seen.setdefault(name, run.id)
        return seen != run.id
