"""What all locks of one client share: who may vote, and what is known of the voters' lives."""

from collections.abc import Sequence
from dataclasses import replace

from shardcache.errors import InvalidOption, QuorumUnavailable
from shardcache.flows.context import ClientContext
from shardcache.flows.lock.lock_plan import (
    MOST_VOTERS,
    LockKeys,
    LockPlan,
    Voters,
    load_register_key,
    register_key,
)
from shardcache.flows.lock.membership import Electorate, voters_of
from shardcache.flows.lock.voter_registry import VoterRegistry
from shardcache.keys import Key, KeySpace
from shardcache.placement import Placement

__all__ = ("LONGEST_TTL", "SHORTEST_TTL", "LockPlanner", "check_ttl")

SHORTEST_TTL, LONGEST_TTL = 0.02, 7 * 24 * 3600.0  # seconds
_SHORTEST = 0.05  # seconds: a voter that is late by less may only have been busy, and being late takes it out of service
_SHARE = 10  # a voter that takes longer than a tenth of the ttl eats too much of it


class LockPlanner:
    """Makes plans of locks for the client with this core."""

    __slots__ = (
        "_context",
        "_load_register_key",
        "_places",
        "_register_key",
        "electorate",
        "load_register",
        "registry",
    )

    def __init__(self, context: ClientContext) -> None:
        self._context = context
        self._places = {member.node.name: place for place, member in enumerate(context.members)}
        self._register_key = register_key(context.keys)
        self.registry = VoterRegistry()
        self.electorate = Electorate(self._places)
        self._load_register_key = load_register_key(context.keys)
        self.load_register = VoterRegistry(unsure=0.0)

    def plan(
        self,
        name: Key,
        ttl: float,
        voters: Sequence[str] | None = None,
        voter_timeout: float | None = None,
    ) -> LockPlan:
        """Return the plan of a lock; raise `InvalidArgument` for what cannot be."""
        context = self._context
        wire = context.keys.wire(name)
        check_ttl(ttl)
        timeout = self._voter_timeout(ttl, voter_timeout)
        names = self._voters(wire, voters)
        chosen = Voters(tuple(self._places[one] for one in names), names)
        shown = name if isinstance(name, str) else name.decode("utf-8", "backslashreplace")
        keys = LockKeys.of(wire, context.keys)
        plan = LockPlan(
            shown,
            keys,
            chosen,
            float(ttl),
            timeout,
            self._register_key,
            wire if voters is None else b"",
        )
        try:
            return self.electorate.plan(plan)
        except (
            QuorumUnavailable
        ):  # told to whoever wants to acquire it, by then perhaps not true any more
            return plan

    def lasting(self, plan: LockPlan, ttl: float, voter_timeout: float | None) -> LockPlan:
        """Return ``plan`` with another ttl; raise `InvalidOption` for what cannot be."""
        check_ttl(ttl)
        return replace(plan, ttl=float(ttl), voter_timeout=self._voter_timeout(ttl, voter_timeout))

    def _voter_timeout(self, ttl: float, voter_timeout: float | None) -> float:
        """Return the longest wait for one voter, seconds."""
        if voter_timeout is None:
            return min(self._context.timeout, max(ttl / _SHARE, min(_SHORTEST, ttl / 2)))
        if (
            isinstance(voter_timeout, bool)
            or not isinstance(voter_timeout, (int, float))
            or not 0 < voter_timeout < ttl
        ):
            raise InvalidOption(
                f"voter_timeout must be a number of seconds below the ttl of {ttl:g} s, got {voter_timeout!r:.80}"
            )
        return float(voter_timeout)

    @property
    def timeout(self) -> float:
        """The deadline of a call, seconds."""
        return self._context.timeout

    @property
    def placement(self) -> Placement:
        """Where keys lie."""
        return self._context.placement

    @property
    def space(self) -> KeySpace:
        """How keys are called."""
        return self._context.keys

    def load_plan(self, key: Key, wire: bytes, ttl: float, times: float = 1) -> LockPlan:
        """Return the plan of the lock under which ``key`` is loaded; the key's own shard is the first voter.

        ``times``: how many of the client's timeouts a voter may take.
        """
        context = self._context
        names = context.placement.owners(wire, MOST_VOTERS)
        chosen = Voters(tuple(self._places[one] for one in names), names)
        shown = key if isinstance(key, str) else key.decode("utf-8", "backslashreplace")
        keys = LockKeys.of_load(wire, context.keys)
        return LockPlan(
            shown, keys, chosen, ttl, min(context.timeout * times, ttl / 2), self._load_register_key
        )

    def _voters(self, wire: bytes, chosen: Sequence[str] | None) -> tuple[str, ...]:
        if chosen is None:
            return voters_of(self._places, wire)
        if isinstance(chosen, str) or not chosen or not all(isinstance(one, str) for one in chosen):
            raise InvalidOption(f"voters must be names of nodes, got {chosen!r:.200}")
        unknown = [one for one in chosen if one not in self._places]
        if unknown or len(set(chosen)) < len(chosen):
            raise InvalidOption(
                f"voters must be distinct names among {', '.join(map(repr, self._places))}, got {list(chosen)!r:.200}"
            )
        return tuple(chosen)


def check_ttl(ttl: object) -> None:
    """Raise `InvalidOption` unless ``ttl`` is a length of time that a lock can have."""
    if (
        isinstance(ttl, bool)
        or not isinstance(ttl, (int, float))
        or not SHORTEST_TTL <= ttl <= LONGEST_TTL
    ):
        raise InvalidOption(
            f"a lock's ttl must be from {SHORTEST_TTL:g} to {LONGEST_TTL:g} seconds, got {ttl!r:.80}"
        )
