"""Whatever a source answers, as members that can be compared."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from shardcache.topology.nodes import Member, Nodes, members

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


class MemberSource:
    """A source of members: the answers of another source, checked.

    The members come in the order of their names, so that the same nodes in another order are the
    same answer. Raises what the source raises, and `InvalidArgument` for an answer that is no
    nodes.

    ``source``: a function without arguments that returns nodes, in any form that a client takes. If
        it is an `Announcing`, it has itself asked sooner.
    """

    __slots__ = ("_source", "name")

    def __init__(self, source: NodeSource) -> None:
        self._source = source
        # For events and messages. Not the repr: in that of a foreign object may be credentials.
        self.name: str = getattr(
            source, "shown", getattr(source, "__qualname__", type(source).__qualname__)
        )

    def __call__(self) -> tuple[Member, ...]:
        return tuple(sorted(members(self._source()), key=lambda member: member.node.name))

    def follow(self, refresh: Callable[[], object]) -> None:
        """Have ``refresh`` called when the nodes may have changed, if the source can tell."""
        if isinstance(self._source, Announcing):
            self._source.follow(refresh)

    def close(self) -> None:
        """Tell the source, if it wants to know, that nobody asks it any more."""
        if isinstance(self._source, Announcing):
            self._source.close()
