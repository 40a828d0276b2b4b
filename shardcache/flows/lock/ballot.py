"""Counting votes: what each voter answered, and when the outcome of an attempt is certain."""

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
    """The votes of one attempt; `on_reply` gets each of them as it comes in.

    The outcome is certain when a majority has granted, or when so many have refused that no
    majority can grant. The attempt does not wait for the other voters then, except

    - while there is a voter to verify;
    - while a voter that lost its counter has granted, and one that did not lose it as well: the
      fencing token must be above the counters that the other voters remember;
    - while voters that refused name several holders, and it is not known which of them has the
      lock: the others may be dead, and would not wake this client.

    ``hear_all``: wait for all voters in any case.
    ``voting``: how many of the electors grant; those behind them only have to be free.
    """

    __slots__ = (
        "_electors",
        "_hear_all",
        "_no",
        "_shards",
        "_status",
        "answers",
        "fences",
        "guarded",
        "heard",
        "holders",
        "lives",
        "memberships",
        "refusals",
        "remembered",
        "reseeded",
        "runs",
        "voting",
    )

    def __init__(
        self, electors: Voters, status: VoterStatus, *, hear_all: bool, voting: int | None = None
    ) -> None:
        # What is fixed: the electors, and how many of them, from the first, are voters. On the
        # others, the former voters, the lock only has to be free.
        self.voting = len(electors.shards) if voting is None else voting
        self._status = status
        self._shards = electors.shards
        self._hear_all = hear_all
        self._electors = electors
        # What changes: the votes, most of them by place.
        self._no: set[int] = set()
        self.refusals: list[ShardError] = []  # the answers that waiting does not change
        # The memberships of voters that know another one than that by which they were chosen.
        self.memberships: dict[int, bytes] = {}
        self.answers: list[Outcome | None] = [None] * len(electors.shards)
        self.heard = 0
        # How many of the voters that refused have each token.
        self.holders: Counter[bytes] = Counter()
        self.fences: dict[int, int] = {}  # the counters of voters whose grant counts
        # Seconds until the grant of a voter counts; None: the voter is to be verified first.
        self.guarded: dict[int, float | None] = {}
        self.lives: dict[int, Life] = {}  # of the voters that are to be verified
        # The run ids of servers that granted, as far as they are known.
        self.runs: dict[int, bytes] = {}
        self.remembered = 0  # the highest counter of a voter that refused
        self.reseeded = 0  # grants by voters whose counter was lost, old or new

    def on_reply(self, place: int, outcome: Outcome, run: ServerRun | None) -> bool:
        """Count one voter's answer; return whether the outcome is certain."""
        self.answers[place] = outcome
        self.heard += 1
        reply = None if isinstance(outcome, ShardError) else outcome[0]
        if reply.__class__ is not list:
            self._no.add(place)
            self.refusals += lasting((outcome, reply))
        # A grant counts at once only if the voter cannot have forgotten another holder.
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
        # The voter knows another membership, so it has no vote by this one.
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
            or (self._electors.hopeless(self._no) and self._known_holder())
        )

    def _known_holder(self) -> bool:
        """Whether it is certain which of the holders that voters named has most of them."""
        if len(self.holders) < 2:
            return True
        (_, most), (_, next_most) = self.holders.most_common(2)
        return most > next_most + len(self.answers) - self.heard

    @property
    def nobody(self) -> bool:
        """Whether no client can hold the lock: no token that voters named can have a majority."""
        unknown = sum(
            1 for answer in self.answers if answer is None or isinstance(answer, ShardError)
        )
        unknown += len(self._electors.absent)
        return max(self.holders.values(), default=0) + unknown < self._electors.quorum

    def listens(self, attempt: int) -> int:
        """Return the place of the first voter that the holder has.

        The holder's release wakes a client that has left a sign there. A voter that granted has no
        holder that will release, and a voter with another key may have it from a client that died
        in an attempt. If several clients may hold the lock, each of them is taken in turn.
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
        """Verify voters that this process has not met in this life; count the votes that may.

        The registers are told of a ttl that is longer than all before, too.
        """
        if self.lives or self._status.longest < plan.ttl_ms:
            yield from registry.verify(plan, self.lives)
            self.recount(registry.status(plan.electors))

    def recount(self, status: VoterStatus) -> None:
        """Count the votes of the voters that have been verified meanwhile and may vote."""
        for place in [place for place, wait in self.guarded.items() if wait is None]:
            wait = self.guarded[place] = status.wait(
                self._shards[place], self.lives.get(place), vetted=True
            )
            if wait == 0.0:
                del self.guarded[place]
                self.count(place)

    @property
    def granted(self) -> bool:
        return self._electors.majority(self.fences)

    @property
    def passing(self) -> bool:
        """Whether only the guard of restarted voters prevents a majority; it ends by itself."""
        soon = sum(wait is not None for wait in self.guarded.values())
        return soon > 0 and sum(1 for _ in self.replies()) >= self._electors.quorum

    @property
    def refusal(self) -> ShardError | None:
        """Why no majority can grant this until the servers are changed; None if one can."""
        too_many = len(self.refusals) > len(self.answers) - self._electors.quorum
        return self.refusals[0] if too_many else None

    @property
    def unsure(self) -> frozenset[int]:
        """The voters that were asked and have not answered: they may grant yet."""
        return frozenset(
            place
            for place, answer in enumerate(self.answers[: self.voting])
            if answer is None or isinstance(answer, ShardTimeout)
        )

    def at(self, fence: int) -> list[int]:
        """Return the places at which nothing has to be written.

        Their counters are at ``fence`` already, or they only have to be free.
        """
        return [
            place
            for place, counter in self.fences.items()
            if counter == fence or place >= self.voting
        ]

    @property
    def fence(self) -> int:
        """The fencing token that these votes give."""
        # A vote that was granted before its life was registered may have a counter below the
        # floor that the registration has set.
        counters = (fence + (place >= self.voting) for place, fence in self.fences.items())
        highest = max(
            *counters, *(self._status.floors[self._shards[place]] + 1 for place in self.fences)
        )
        # If a counter was lost, voters that refused may remember more than those that granted.
        return max(highest, self.remembered + 1) if self.reseeded else highest

    def replies(self) -> Iterator[tuple[int, list[Any]]]:
        """Yield the votes that came, with their places.

        A grant is {1, counter, …}, a refusal is {0, time left, counter, …}.
        """
        for place, answer in enumerate(self.answers):
            reply = None if answer is None or isinstance(answer, ShardError) else answer[0]
            if reply.__class__ is list and reply[0] != 2:
                yield place, reply

    @property
    def free_in(self) -> float:
        """Seconds until a majority could grant, if no holder renews.

        It is the quorum-th smallest of the times left that voters answered.
        """
        lefts = [
            (self.guarded.get(place) or 0.0) if reply[0] == 1 else max(reply[1], 0) / 1000
            for place, reply in self.replies()
        ]
        return sorted(lefts)[min(self._electors.quorum, len(lefts)) - 1] if lefts else 0.0

    def votes(self, names: tuple[str, ...]) -> list[Vote]:
        """Return what each voter answered, in words."""
        absent = (
            Vote(name, "unreachable", reason="it is not among this client's nodes")
            for name in self._electors.absent
        )
        return [*(self._vote(place, name) for place, name in enumerate(names)), *absent]

    def _vote(self, place: int, name: str) -> Vote:
        answer = self.answers[place]
        # First the voters without an answer, then errors, then votes.
        if answer is None:
            return Vote(name, "late", reason="it had not answered when the outcome was certain")
        if isinstance(answer, ShardTimeout):
            return Vote(name, "timeout", reason=answer.reason)
        if isinstance(answer, ShardError):
            return Vote(name, "unreachable", reason=answer.reason)
        # An error reply, and a reply that is no vote, count as refusals.
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
    """Return the errors among ``replies`` that waiting does not change.

    Such as an ACL, a login, a role, or a command that is switched off.
    """
    return [
        one
        for one in replies
        if isinstance(one, ShardError) and not isinstance(one, (ShardUnavailable, OutOfMemory))
    ]


def _holder(reply: list[Any]) -> bytes:
    """Return the token that a voter has that refused; empty if it does not say."""
    return reply[3] if len(reply) > 3 else b""
