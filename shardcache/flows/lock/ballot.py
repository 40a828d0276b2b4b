"""Counting votes: what each voter said, and when the outcome of an attempt is certain."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from shardcache.errors import OutOfMemory, ShardError, ShardTimeout, ShardUnavailable
from shardcache.flows.lock.lock_plan import LockPlan, Voters
from shardcache.flows.lock.voter_registry import Life, VoterRegistry, VoterStatus
from shardcache.flows.steps import Flow, Outcome, ServerRun
from shardcache.votes import Vote

__all__ = ("Ballot", "lasting")


class Ballot:
    """The votes of one attempt; `take` is given them as they come in.

    The outcome is certain when a majority has granted, or when so many have not that none can. Nobody waits
    for the rest: but everybody is heard while there is somebody to vet, or while a voter that lost its counter
    grants beside one that has not (its peers' memory is then what the fencing token must be above), or while those that refused
    name several holders, and it is open which of them has the lock: the others may be dead, and wake nobody.
    """

    __slots__ = (
        "_hear_all",
        "_no",
        "_quorum",
        "_shards",
        "_status",
        "_voters",
        "answers",
        "fences",
        "guarded",
        "heard",
        "holders",
        "lives",
        "memberships",
        "remembered",
        "reseeded",
        "runs",
        "voting",
    )

    def __init__(
        self, voters: Voters, status: VoterStatus, *, hear_all: bool, voting: int | None = None
    ) -> None:
        self.voting = (
            len(voters.shards) if voting is None else voting
        )  # how many grant; those behind them are only to be free
        self._status = status
        self._shards = voters.shards
        self._quorum = voters.quorum
        self._hear_all = hear_all
        self._voters = voters
        self._no: set[int] = set()
        self.memberships: dict[
            int, bytes
        ] = {}  # of those that were chosen by another than they know
        self.answers: list[Outcome | None] = [None] * len(voters.shards)
        self.heard = 0
        self.holders: Counter[bytes] = (
            Counter()
        )  # by their tokens: how many of those that refused have them
        self.fences: dict[int, int] = {}  # counters of those whose grant counts, by place
        self.guarded: dict[
            int, float | None
        ] = {}  # seconds until the grant of a voter counts; None: to be vetted
        self.lives: dict[int, Life] = {}  # of those that are to be vetted
        self.runs: dict[int, bytes] = {}  # run ids of the servers that granted, as far as known
        self.remembered = 0  # the highest counter of a voter that refused
        self.reseeded = 0  # grants by voters whose counter was lost, old or new

    def on_reply(self, place: int, outcome: Outcome, run: ServerRun | None) -> bool:
        """Count one voter's answer; return whether the outcome is certain."""
        self.answers[place] = outcome
        self.heard += 1
        reply = None if isinstance(outcome, ShardError) else outcome[0]
        if reply.__class__ is not list:
            self._no.add(place)
        elif reply[0] == 1:
            life = Life.of(run, *reply[3:])
            if run is not None:
                self.runs[place] = run.id
            wait = self._status.wait(self._shards[place], life)
            if wait is None and life is not None:
                self.lives[place] = life
            if wait == 0.0:
                self.count(place)
            else:
                self.guarded[place] = wait
                self._hear_all |= wait is None
                if wait is not None:
                    self._no.add(place)
        elif reply[0] == 2:
            self._no.add(place)
            self.memberships[place] = reply[1]
        else:
            self._no.add(place)
            self.remembered = max(self.remembered, reply[2])
            self.holders[_holder(reply)] += 1
        if self.heard == len(self.answers):
            return True
        return not self._hear_all and (
            (self.granted and self.reseeded in (0, len(self.fences)))
            or (self._voters.hopeless(self._no) and self._known_holder())
        )

    def _known_holder(self) -> bool:
        """Whether it is clear who of those that voters named has most of them."""
        if len(self.holders) < 2:
            return True
        (_, most), (_, next_most) = self.holders.most_common(2)
        return most > next_most + len(self.answers) - self.heard

    @property
    def nobody(self) -> bool:
        """Whether nobody can hold the lock: all who refused did so for contenders without a majority."""
        unknown = sum(
            1 for answer in self.answers if answer is None or isinstance(answer, ShardError)
        )
        unknown += len(self._voters.absent)
        return max(self.holders.values(), default=0) + unknown < self._quorum

    def listens(self, attempt: int) -> int:
        """Return the place of the first voter that the holder has: where his release wakes who has left a sign there.

        Not one that granted, where nobody will release, nor one that keeps the key of somebody else, who has died in an attempt. If it is not
        clear who holds it, each of them in turn.
        """
        first: dict[bytes, int] = {}
        for place, reply in self.replies():
            if reply[0] == 0:
                first.setdefault(_holder(reply), place)
        most = max(self.holders.values(), default=0)
        places = [place for token, place in first.items() if self.holders[token] == most] or [0]
        return places[attempt % len(places)]

    def count(self, place: int) -> None:
        """Let the grant of a voter count."""
        _, fence, reseeded, *_ = self.answers[place][0]  # type: ignore[index]
        self.fences[place] = fence
        self.reseeded += reseeded

    def verify(self, plan: LockPlan, registry: VoterRegistry) -> Flow[None]:
        """Have voters looked up that were never met in this life, and let those votes count that may."""
        yield from registry.verify(plan, self.lives)
        self.recount(registry.status(plan.electors))

    def recount(self, status: VoterStatus) -> None:
        """Let the votes count of those voters that have been vetted meanwhile and may vote."""
        for place in [place for place, wait in self.guarded.items() if wait is None]:
            wait = self.guarded[place] = status.wait(
                self._shards[place], self.lives.get(place), vetted=True
            )
            if wait == 0.0:
                del self.guarded[place]
                self.count(place)

    @property
    def granted(self) -> bool:
        return self._voters.majority(self.fences)

    @property
    def passing(self) -> bool:
        """Whether a majority could vote but for the guard of voters that have restarted, which ends by itself."""
        soon = sum(wait is not None for wait in self.guarded.values())
        return soon > 0 and sum(1 for _ in self.replies()) >= self._quorum

    @property
    def refusals(self) -> list[ShardError]:
        """What voters said that waiting does not mend."""
        return lasting(
            one if one is None or isinstance(one, ShardError) else one[0] for one in self.answers
        )

    @property
    def refusal(self) -> ShardError | None:
        """Why no majority can ever grant this, as long as nobody changes the servers; None if one can."""
        found = self.refusals
        return found[0] if len(found) > len(self.answers) - self._quorum else None

    @property
    def unsure(self) -> frozenset[int]:
        """The voters that were asked and have not answered: they may grant yet."""
        return frozenset(
            place
            for place, answer in enumerate(self.answers[: self.voting])
            if answer is None or isinstance(answer, ShardTimeout)
        )

    def at(self, fence: int) -> list[int]:
        """Return the places where nothing is to be written: those whose counters are there, and those that have only to be free."""
        return [
            place
            for place, counter in self.fences.items()
            if counter == fence or place >= self.voting
        ]

    @property
    def fence(self) -> int:
        """The fencing token that these votes give."""
        # What was granted before its life was registered may have been counted below the floor that this has set.
        counters = (fence + (place >= self.voting) for place, fence in self.fences.items())
        highest = max(
            *counters, *(self._status.floors[self._shards[place]] + 1 for place in self.fences)
        )
        # Where a counter was lost, those that refused may remember more than those that granted.
        return max(highest, self.remembered + 1) if self.reseeded else highest

    def replies(self) -> Iterator[tuple[int, list[Any]]]:
        """Return the votes that came, by place: {1, counter, …} of those that granted, {0, time left, counter, …} of the others."""
        for place, answer in enumerate(self.answers):
            reply = None if answer is None or isinstance(answer, ShardError) else answer[0]
            if reply.__class__ is list and reply[0] != 2:
                yield place, reply

    @property
    def free_in(self) -> float:
        """Seconds until a majority could grant, if nobody renews: the quorum-th smallest of the times left where somebody answered."""
        lefts = [
            (self.guarded.get(place) or 0.0) if reply[0] == 1 else max(reply[1], 0) / 1000
            for place, reply in self.replies()
        ]
        return sorted(lefts)[min(self._quorum, len(lefts)) - 1] if lefts else 0.0

    def votes(self, names: tuple[str, ...]) -> list[Vote]:
        """Return what each voter said, in words."""
        absent = (
            Vote(name, "unreachable", reason="it is not among this client's nodes")
            for name in self._voters.absent
        )
        return [*(self._vote(place, name) for place, name in enumerate(names)), *absent]

    def _vote(self, place: int, name: str) -> Vote:
        answer = self.answers[place]
        if answer is None:
            return Vote(name, "late", reason="it had not answered when the outcome was certain")
        if isinstance(answer, ShardTimeout):
            return Vote(name, "timeout", reason=answer.reason)
        if isinstance(answer, ShardError):
            return Vote(name, "unreachable", reason=answer.reason)
        reply = answer[0]
        if isinstance(reply, ShardError):
            return Vote(name, "refused", reason=reply.reason)
        if reply.__class__ is not list:
            return Vote(name, "refused", reason=f"it answered {reply!r:.80}")
        if reply[0] == 2:
            return Vote(
                name,
                "refused",
                reason="it goes by another list of voters"
                if reply[1]
                else "it knows no list of voters yet",
            )
        if reply[0] != 1:
            return Vote(name, "held", left=None if reply[1] < 0 else reply[1] / 1000)
        if place in self.guarded:
            return Vote(
                name,
                "guarded",
                self.guarded[place],
                "it has restarted and may have forgotten a holder",
            )
        return Vote(name, "granted")


def lasting(replies: Iterable[Any]) -> list[ShardError]:
    """Return those of ``replies`` that are errors which waiting does not mend: an ACL, a login, a role, a command that is switched off."""
    return [
        one
        for one in replies
        if isinstance(one, ShardError) and not isinstance(one, (ShardUnavailable, OutOfMemory))
    ]


def _holder(reply: list[Any]) -> bytes:
    """Return whose key a voter has that refused; empty if it does not say."""
    return reply[3] if len(reply) > 3 else b""
