"""Whatever a source answers, as members that can be compared."""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from shardcache.topology.nodes import Member, Nodes, members
from shardcache.urls import Address

__all__ = ("MemberSource", "NodeSource")

NodeSource = Callable[[], Nodes]


@runtime_checkable
class Announcing(Protocol):
    """A source that hears of changes.

    ``follow``: told once what to call when the nodes may have changed: a method, to be held weakly.
    ``close``: nobody asks any more.
    """

    def follow(self, refresh: Callable[[], object]) -> None: ...
    def close(self) -> None: ...


@runtime_checkable
class Replicated(Protocol):
    """A source that knows replicas.

    ``replicas``: by the name of a node of the last answer, where its replicas are.
    """

    @property
    def replicas(self) -> Mapping[str, tuple[Address, ...]]: ...


class MemberSource:
    """A source of members: the answers of another source, checked.

    The members come in the order of their names, so that the same nodes in another order are the
    same answer. Raises what the source raises, and `InvalidArgument` for an answer that is no
    nodes.

    ``source``: a function without arguments that returns nodes, in any form that a client takes. If
        it is an `Announcing`, it has itself asked sooner; if it is `Replicated`, the members have
        replicas.
    """

    __slots__ = ("_source", "name")

    def __init__(self, source: NodeSource) -> None:
        self._source = source
        # For events and messages. Not the repr: in that of a foreign object may be credentials.
        self.name: str = getattr(
            source, "shown", getattr(source, "__qualname__", type(source).__qualname__)
        )

    def __call__(self) -> tuple[Member, ...]:
        found = sorted(members(self._source()), key=lambda member: member.node.name)
        if isinstance(self._source, Replicated):
            replicas = self._source.replicas
            found = [
                member._replace(replicas=replicas.get(member.node.name, ())) for member in found
            ]
        return tuple(found)

    def follow(self, refresh: Callable[[], object]) -> None:
        """Have ``refresh`` called when the nodes may have changed, if the source can tell."""
        if isinstance(self._source, Announcing):
            self._source.follow(refresh)

    def close(self) -> None:
        """Tell the source, if it wants to know, that nobody asks it any more."""
        if isinstance(self._source, Announcing):
            self._source.close()
