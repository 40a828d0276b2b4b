"""What all locks of one client share: its nodes, the voters, and what is known of their lives."""

from collections.abc import Collection, Sequence
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
from shardcache.flows.lock.slot_voters import (
    load_voter_slots,
    name_of,
    name_of_number,
    slots_as_voters,
    voter_slots,
)
from shardcache.flows.lock.voter_registry import VoterRegistry
from shardcache.keys import Key, KeySpace
from shardcache.topology.slots import slot_of
from shardcache.topology.snapshot import Topology
from shardcache.topology.unknown import UNKNOWN

__all__ = ("LONGEST_TTL", "SHORTEST_TTL", "LockPlanner", "check_ttl")

SHORTEST_TTL, LONGEST_TTL = 0.02, 7 * 24 * 3600.0  # seconds
# Seconds that a voter is given at least: a voter that takes so long may only be busy, and a timeout
# takes it out of service.
_SHORTEST = 0.05
_SHARE = 10  # a voter that takes longer than a tenth of the ttl uses too much of it


class LockPlanner:
    """Makes the plans of a client's locks.

    ``context``: the settings of the client.
    """

    __slots__ = (
        "_context",
        "_load_register_key",
        "_register_key",
        "electorate",
        "load_register",
        "registry",
    )

    def __init__(self, context: ClientContext) -> None:
        self._context = context
        self._register_key = register_key(context.keys)
        self.registry = VoterRegistry(promotes=context.promotes)
        self.electorate = Electorate(lambda: self.shards)
        self._load_register_key = load_register_key(context.keys)
        self.load_register = VoterRegistry(unsure=0.0)

    def plan(
        self,
        name: Key,
        ttl: float,
        voters: Sequence[str] | None = None,
        voter_timeout: float | None = None,
    ) -> LockPlan:
        """Return the plan of a lock.

        ``name``: the name of the lock.
        ``ttl``: seconds that a lease lasts.
        ``voters``: names of the nodes that vote; None: those of the membership.
        ``voter_timeout``: seconds to wait for one voter; None: the default.

        Raises `InvalidArgument` for values that cannot be, and `DiscoveryFailed` for voters by name
        as long as the nodes are not known.
        """
        # Check the arguments; the voters are those that this client would begin with.
        context = self._context
        wire = context.keys.wire(name)
        check_ttl(ttl)
        if voters is not None and not self.on_slots and context.topology.version == UNKNOWN:
            raise context.refusal()  # nobody can say yet whether there are such nodes
        timeout = self._voter_timeout(ttl, voter_timeout)
        if self.on_slots:
            if voters is not None:
                raise InvalidOption(
                    "voters names independent nodes; in a Redis Cluster the voters of a lock are "
                    f"slots, which follow from its name, got {voters!r:.80}"
                )
            chosen, asked = slots_as_voters(voter_slots(wire)), b""
        else:
            shards = self.shards
            names = _voters(wire, voters, shards)
            chosen = Voters(tuple(shards[one] for one in names), names)
            asked = wire if voters is None else b""
        shown = name if isinstance(name, str) else name.decode("utf-8", "backslashreplace")
        keys = LockKeys.of(wire, context.keys)
        plan = LockPlan(
            shown,
            keys,
            chosen,
            float(ttl),
            timeout,
            self._register_key,
            asked,
        )
        # If too few voters can be reached, only `acquire` says so, and by then it may have changed.
        try:
            return self.electorate.plan(plan)
        except QuorumUnavailable:
            return plan

    def lasting(self, plan: LockPlan, ttl: float, voter_timeout: float | None) -> LockPlan:
        """Return a plan with another ttl, and the timeout that follows from it."""
        check_ttl(ttl)
        return replace(plan, ttl=float(ttl), voter_timeout=self._voter_timeout(ttl, voter_timeout))

    def _voter_timeout(self, ttl: float, voter_timeout: float | None) -> float:
        """Return the longest wait for one voter, in seconds."""
        if voter_timeout is None:
            return min(self._context.timeout, max(ttl / _SHARE, min(_SHORTEST, ttl / 2)))
        if (
            isinstance(voter_timeout, bool)
            or not isinstance(voter_timeout, (int, float))
            or not 0 < voter_timeout < ttl
        ):
            raise InvalidOption(
                f"voter_timeout must be a number of seconds below the ttl of {ttl:g} s, got "
                f"{voter_timeout!r:.80}"
            )
        return float(voter_timeout)

    @property
    def shards(self) -> dict[str, int]:
        """The shards of the client's nodes, by name."""
        return self._context.topology.number_of

    @property
    def on_slots(self) -> bool:
        """Whether the voters are slots of a Redis Cluster (`slot_voters`)."""
        return self._context.seeds is not None

    def voter_name(self, number: int) -> str:
        """Return the name of the voter that plans have under this number."""
        return self._context.topology.names[number] if number >= 0 else name_of_number(number)

    @property
    def timeout(self) -> float:
        """The deadline of a call, in seconds."""
        return self._context.timeout

    @property
    def topology(self) -> Topology:
        """The topology that is in service now."""
        return self._context.topology

    @property
    def space(self) -> KeySpace:
        """The namespace of the keys."""
        return self._context.keys

    def load_plan(self, key: Key, wire: bytes, ttl: float, times: float = 1) -> LockPlan:
        """Return the plan of the lock under which a key is loaded.

        ``key``: the key.
        ``wire``: its wire key.
        ``ttl``: seconds that the lock lasts.
        ``times``: how many of the client's timeouts a voter may take.

        The first voter is the key's own shard; in a Redis Cluster that is its own slot, wherever it
        is by now.
        """
        context, topology = self._context, self._context.topology
        register = self._load_register_key
        if self.on_slots:
            others = slots_as_voters(load_voter_slots(wire))
            own, slot = topology.owner_index(wire), slot_of(wire)
            chosen = Voters((own, *others.shards), (name_of(slot), *others.names))
            register = b""
        else:
            shards, names = topology.number_of, topology.placement.owners(wire, MOST_VOTERS)
            chosen = Voters(tuple(shards[one] for one in names), names)
        shown = key if isinstance(key, str) else key.decode("utf-8", "backslashreplace")
        keys = LockKeys.of_load(wire, context.keys)
        return LockPlan(shown, keys, chosen, ttl, min(context.timeout * times, ttl / 2), register)


def _voters(wire: bytes, chosen: Sequence[str] | None, nodes: Collection[str]) -> tuple[str, ...]:
    if chosen is None:
        return voters_of(tuple(nodes), wire)
    if isinstance(chosen, str) or not chosen or not all(isinstance(one, str) for one in chosen):
        raise InvalidOption(f"voters must be names of nodes, got {chosen!r:.200}")
    unknown = [one for one in chosen if one not in nodes]
    if unknown or len(set(chosen)) < len(chosen):
        raise InvalidOption(
            f"voters must be distinct names among {', '.join(map(repr, nodes))}, got "
            f"{list(chosen)!r:.200}"
        )
    return tuple(chosen)


def check_ttl(ttl: object) -> None:
    """Raise `InvalidOption` unless a lock can have this ttl."""
    if (
        isinstance(ttl, bool)
        or not isinstance(ttl, (int, float))
        or not SHORTEST_TTL <= ttl <= LONGEST_TTL
    ):
        raise InvalidOption(
            f"a lock's ttl must be from {SHORTEST_TTL:g} to {LONGEST_TTL:g} seconds, got "
            f"{ttl!r:.80}"
        )
