"""Which nodes may vote on locks: a membership that the nodes keep, whatever nodes a client lists.

Theory
------
Two clients exclude each other only if each majority of the one's voters meets each majority of the
other's. While a new list of nodes is being rolled out, some clients have five nodes and some have
six, and three of five and three of another five need not meet. So no client takes the voters from
its own list. The *membership*, a list of names with a number, is agreed on once, by the first
client that comes, and the nodes themselves keep it in their registers. Each request for a lock says
by which membership its voters were chosen, and a voter that has another one refuses and shows it.
Which five nodes vote on a lock follows from its name and the membership alone.

Agreement: a node agrees to one *next* membership only. A client that wants one asks the nodes of
the present membership (for the first one, the nodes of its own list). If a majority of these has
agreed to it, no other one can get a majority. Then all nodes are told, and a node never goes back
to an older membership. A client that meets a node with an older membership tells it the newer one.

Change: the new membership names the former one. By the new one, a lock is acquired if a majority of
the new voters grants it, as always, **and** a majority of the former voters has the new membership
and no other client's key. These voters have refused requests by the former membership since then,
so a holder by the former membership has gone, and none can come. Their counters are read as well,
so that fencing tokens go on growing. A client that holds a lock by the former membership goes on
holding and extending it on the former voters. No client is locked out, and an acquisition is one
round trip as before. When no lock is held by the former voters any more, a last step forgets them.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha1, sha256
from typing import Self

from shardcache.errors import QuorumUnavailable, ShardError
from shardcache.flows.lock.lock_plan import MOST_VOTERS, LockPlan, Voters
from shardcache.flows.lock.scripts import CONFIGURE
from shardcache.flows.steps import Batch, Broadcast, Flow, Outcome, ServerRun
from shardcache.resp import Command

__all__ = ("Electorate", "Membership", "voters_of")


@lru_cache(1024)  # a handle is made for each use of a lock, mostly of the same few locks
def voters_of(names: tuple[str, ...], wire: bytes) -> tuple[str, ...]:
    """Return the voters of a lock: the five nodes with the lowest hashes of name and lock.

    This is rendezvous hashing (Thaler and Ravishankar, 1998).
    """
    ranked = sorted(names, key=lambda name: sha256(b"%b\0%b" % (name.encode(), wire)).digest())
    return tuple(ranked[:MOST_VOTERS])


@dataclass(frozen=True, slots=True)
class Membership:
    """The nodes that may vote.

    ``number``: grows by one with each change.
    ``names``: the names of the nodes.
    ``former``: the names before the change; empty unless a change is under way.
    """

    number: int
    names: tuple[str, ...]
    former: tuple[str, ...] = ()
    text: bytes = field(init=False, compare=False)
    version: bytes = field(init=False, compare=False)

    def __post_init__(self) -> None:
        text = json.dumps([self.number, sorted(self.names), sorted(self.former)]).encode()
        object.__setattr__(self, "text", text)
        object.__setattr__(
            self,
            "version",
            b"%d-%b" % (self.number, sha1(text, usedforsecurity=False).hexdigest()[:12].encode()),
        )

    @classmethod
    def of(cls, text: bytes) -> Self | None:
        """Return the membership that a node keeps; None if it keeps nothing, or no membership."""
        try:
            number, names, former = json.loads(text)
        except (ValueError, TypeError, RecursionError):
            return None
        known = isinstance(number, int) and isinstance(names, list) and isinstance(former, list)
        if not known or not all(isinstance(name, str) for name in (*names, *former)):
            return None
        return cls(number, tuple(names), tuple(former))


class Electorate:
    """What one client knows of the membership.

    ``shards``: returns the client's own nodes: their shards, by name.
    """

    __slots__ = ("_shards", "known")

    def __init__(self, shards: Callable[[], Mapping[str, int]]) -> None:
        self._shards = shards
        # Until a node says otherwise, this is the first membership of all clients with this list
        # of nodes. So in general no client has to ask for it.
        self.known = Membership(1, tuple(shards()))

    def begin(self, names: Iterable[str]) -> None:
        """Take these nodes for the first membership: they have just become known."""
        if self.known.number == 1:
            self.known = Membership(1, tuple(names))

    def plan(self, plan: LockPlan) -> LockPlan:
        """Return ``plan`` with the voters that follow from the membership.

        A plan whose voters were chosen by name is returned as it is.
        """
        known = self.known
        if not plan.wire or plan.version == known.version:
            return plan
        chosen = voters_of(known.names, plan.wire)
        voters = self._voters(plan, chosen)
        former = voters_of(known.former, plan.wire) if known.former else ()
        electors = (
            voters if set(former) in (set(), set(chosen)) else self._voters(plan, chosen, former)
        )
        return replace(
            plan, voters=voters, electors=electors, version=known.version, number=known.number
        )

    def _voters(self, plan: LockPlan, *groups: tuple[str, ...]) -> Voters:
        """Return the voters of these groups, of each of which a majority is needed.

        Raises `QuorumUnavailable` if this client cannot ask a majority.
        """
        every = tuple(dict.fromkeys(name for names in groups for name in names))
        shards = self._shards()
        names = tuple(name for name in every if name in shards)
        absent = tuple(name for name in every if name not in shards)
        places = {name: place for place, name in enumerate(names + absent)}
        sets = (
            tuple(tuple(places[name] for name in group) for group in groups)
            if len(groups) > 1
            else ()
        )
        voters = Voters(tuple(shards[name] for name in names), names, sets, absent)
        if voters.hopeless(()):
            raise QuorumUnavailable(
                plan.name,
                f"{len(absent)} of its {len(every)} voters are not among this client's nodes, "
                f"so that it can have no majority of them: {', '.join(absent)}. "
                "Give this client all nodes; `shardcache lock voters` says which nodes vote, "
                "and changes that (docs/locks.md)",
            )
        return voters

    def learn(self, texts: Iterable[bytes]) -> bool:
        """Take the newest of these memberships; return whether it was not known.

        It is not taken if it is older than the one that is known.
        """
        found = [one for one in map(Membership.of, texts) if one is not None]
        newest = max(found, key=lambda one: one.number, default=None)
        if (
            newest is None
            or newest.version == self.known.version
            or newest.number < self.known.number
        ):
            return False
        self.known = newest
        return True

    def refresh(self, plan: LockPlan) -> Flow[list[LockPlan]]:
        """Ask the nodes for the membership; return the plans by which a lock may be held.

        That is the present plan, and during a change the former one as well.
        """
        if not plan.wire:
            return [plan]
        answers = yield from self._ask(plan, self._shards(), b"", self.known)
        self.learn(answer[1] for answer in answers.values())
        plan = self.plan(plan)
        plans = [plan]
        if self.known.former:
            before = self._voters(plan, voters_of(self.known.former, plan.wire))
            if before.id != plan.voters.id:
                plans.append(replace(plan.on(before), number=self.known.number - 1))
        return plans

    def note(self, plan: LockPlan, texts: Mapping[str, bytes]) -> Flow[None]:
        """Learn from voters that know another membership although a majority has granted.

        Tell those that have an older one; do not wait for their answers.

        ``texts``: the memberships that they know, by their names.
        """
        mine = self.known
        self.learn(texts.values())
        shards = self._shards()
        behind = [
            shards[name]
            for name, text in texts.items()
            if ((found := Membership.of(text)) is None or found.number < mine.number)
            and name in shards
        ]
        if behind:
            commands = [_configure(plan, b"now", mine)]
            yield Broadcast(
                [Batch(shard, commands, True) for shard in behind], None, plan.voter_timeout
            )

    def settle(self, plan: LockPlan, texts: Mapping[str, bytes]) -> Flow[bool]:
        """Learn from what voters answered; agree on a first membership if there is none; tell it.

        Return whether another attempt makes sense at once.

        ``texts``: the memberships that voters know, by their names; empty if a voter knows none.
        """
        self.learn(texts.values())
        agreed = self.known.version in {
            one.version for one in map(Membership.of, texts.values()) if one is not None
        }
        if not agreed and self.known.number == 1:
            # No voter that answered knows a membership: either there has never been one, or they
            # have forgotten it. So all nodes are asked.
            found = yield from self.propose(plan, self.known, tuple(self._shards()))
            if found is None:
                return False
            self.known = found
        told = yield from self.tell(plan, self._shards())
        return bool(told)

    def propose(
        self, plan: LockPlan, wanted: Membership, names: tuple[str, ...]
    ) -> Flow[Membership | None]:
        """Ask the nodes ``names`` to agree to a next membership.

        Return the one that is agreed on, which may be another; None if there is none yet.
        """
        answers = yield from self._ask(plan, names, b"next", wanted)
        memberships = [
            one
            for one in (Membership.of(answer[1]) for answer in answers.values())
            if one is not None
        ]
        newest = max(memberships, key=lambda one: one.number, default=None)
        if newest is not None and newest.number >= wanted.number:
            return newest
        promised: dict[bytes, list[str]] = {}
        for name, answer in answers.items():
            promised.setdefault(answer[2], []).append(name)
        for text, by in promised.items():
            candidate = Membership.of(text)
            if candidate is None or candidate.number != wanted.number:
                continue
            # Its own nodes agree on the first membership; for each later one, those of the one
            # before do.
            electorate = set(candidate.names if candidate.number == 1 else names)
            if len(electorate.intersection(by)) > len(electorate) // 2:
                return candidate
        return None

    def tell(self, plan: LockPlan, names: Iterable[str]) -> Flow[frozenset[str]]:
        """Tell these nodes the membership; return those that have it now."""
        known = self.known
        answers = yield from self._ask(plan, names, b"now", known)
        return frozenset(name for name, answer in answers.items() if answer[0] == known.version)

    def _ask(
        self, plan: LockPlan, names: Iterable[str], mode: bytes, membership: Membership
    ) -> Flow[dict[str, list[bytes]]]:
        wanted = frozenset(names)
        # In an order that no set decides: so one seed gives one history in the simulator.
        shards = self._shards()
        asked = [name for name in shards if name in wanted]
        answers: dict[str, list[bytes]] = {}
        heard = 0

        def on_reply(at: int, outcome: Outcome, _: ServerRun | None) -> bool:
            nonlocal heard
            heard += 1
            if not isinstance(outcome, ShardError) and isinstance(outcome[0], list):
                answers[asked[at]] = outcome[0]
            return heard == len(asked)

        commands = [_configure(plan, mode, membership)]
        yield Broadcast(
            [Batch(shards[name], commands, True) for name in asked],
            on_reply,
            plan.voter_timeout,
        )
        return answers


def _configure(plan: LockPlan, mode: bytes, membership: Membership) -> Command:
    return b"EVAL", CONFIGURE, b"1", plan.register, mode, membership.version, membership.text
