"""The shards of a client by number, each made when it is first asked for."""

from abc import abstractmethod
from collections.abc import Callable
from itertools import chain
from typing import Protocol, TypeVar

from shardcache.errors import ShardError
from shardcache.flows.context import ClientContext
from shardcache.policy.breaker import Breaker, BreakerPolicy, State
from shardcache.topology.nodes import Member
from shardcache.topology.replica_numbers import is_replica, node_of
from shardcache.topology.snapshot import NOBODY, Topology

__all__ = ("ShardTable",)


class _Shard(Protocol):
    breaker: Breaker
    only_reads: bool
    suspect: Callable[[], object]

    @abstractmethod
    def close_soon(self) -> None:
        """Close all, and wait for nothing."""

    @abstractmethod
    def follow(self, member: Member, *, in_service: bool) -> None:
        """Go on at the address of ``member``; keep no idle connection unless ``in_service``."""

    @abstractmethod
    def refuse(self, why: Callable[[], ShardError]) -> None:
        """Refuse all calls."""


S = TypeVar("S", bound=_Shard)


class ShardTable(dict[int, S]):
    """The shards that calls have asked for; see `Topology` for the numbers.

    A shard stays in here when its node leaves the topology, for a call, a lock or a load may still
    be under way on it. It then keeps no connection that nobody uses.

    ``context``: the client's.
    ``make``: makes a shard of a member and a breaker. Opens no connection.
    """

    __slots__ = ("_closed", "_context", "_make", "_policy")

    def __init__(self, context: ClientContext, make: Callable[[Member, Breaker], S]) -> None:
        super().__init__()
        options = context.options
        self._closed = False
        self._context = context
        self._make = make
        self._policy = BreakerPolicy(options.failures, options.first_probe, options.max_probe)

    def __missing__(self, number: int) -> S:
        if number < 0:
            return self._refusing(number)
        reads = is_replica(number)
        member = self._context.current.now.known[node_of(number)]
        if reads:
            in_cluster = member.kind == "cluster"
            member = member._replace(kind="cluster-reads" if in_cluster else "replica")
        # Of two threads that make one at once, one has its way; neither has opened a connection.
        made = self._make(
            member, Breaker(self._policy, self._may_shun if reads else self._may_open)
        )
        made.only_reads = reads
        made.suspect = self._context.suspect
        shard = self.setdefault(number, made)
        self._follow(number, shard)
        if self._closed:
            shard.close_soon()
        return shard

    def _refusing(self, number: int) -> S:
        """Return the shard of keys without a node.

        They are those that no node of a cluster serves, or all while it is not known which nodes
        there are.
        """
        context = self._context
        assert context.unknown is not None  # noqa: S101  only then is there such a number
        shard = self._make(context.unknown, Breaker(self._policy))
        shard.refuse(context.unserved if number == NOBODY else context.refusal)
        if self._closed:
            shard.close_soon()
        return self.setdefault(number, shard)

    @property
    def in_service(self) -> tuple[S, ...]:
        """The shards of the present topology, in the order of its placement."""
        return tuple(self[number] for number in self._context.current.now.numbers)

    @property
    def replicas(self) -> tuple[S, ...]:
        """Those shards of replicas in service that have been asked for."""
        numbers = chain.from_iterable(self._context.current.now.replicas.values())
        return tuple(self[number] for number in numbers if number in self)

    def is_out(self, number: int) -> bool:
        """Whether the breaker of a shard keeps all calls away."""
        shard = self.get(number)
        return shard is not None and shard.breaker.state is State.OPEN

    def close(self) -> list[S]:
        """Have those that are asked for from now on be closed; return the others, to be closed."""
        self._closed = True
        return list(self.values())

    def follow(self) -> None:
        """Have each shard do what the present topology says of it."""
        for number, shard in list(self.items()):
            if number >= 0:
                self._follow(number, shard)

    def _follow(self, number: int, shard: S) -> None:
        topology = None
        # A swap may come in between, and be done with this shard before this one is.
        while topology is not self._context.current.now:
            topology = self._context.current.now
            shard.follow(topology.known[node_of(number)], in_service=_serves(topology, number))

    def _may_open(self) -> bool:
        """Whether one more shard may go out of service."""
        numbers = self._context.current.now.numbers
        share = self._context.options.max_out
        out = sum(
            shard is not None and shard.breaker.state is not State.CLOSED
            for shard in map(self.get, numbers)
        )
        return out < max(share > 0, int(share * len(numbers)))

    def _may_shun(self) -> bool:
        """Whether a replica may go out of service: its primary is asked instead."""
        return self._context.options.max_out > 0


def _serves(topology: Topology, number: int) -> bool:
    """Whether a topology has this shard in service."""
    if is_replica(number):
        return any(number in replicas for replicas in topology.replicas.values())
    return number in topology.numbers
