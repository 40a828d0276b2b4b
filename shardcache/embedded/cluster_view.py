"""A cluster as one of its nodes sees it: the reply to CLUSTER NODES, parsed, and compared.

A line is ``id address flags master ping-sent pong-received epoch link-state slot…``. An address is
``host:port@bus-port``, with more behind commas on newer servers. A slot is a number, or a range
``0-5460``, or ``[93->-id]`` and ``[93-<-id]`` while it migrates.
(https://redis.io/docs/latest/commands/cluster-nodes/)
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ("SLOTS", "ClusterNode", "ClusterView", "disagreement", "ranges")

SLOTS = 16384
# A flag of a node that is not (or no longer) a full member, for whatever reason.
_UNSETTLED = frozenset({"handshake", "noaddr"})
_FAILING = frozenset({"fail", "fail?"})


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """One node in the view of another, or of itself.

    ``slots``: the first and the last number of each range of slots.
    ``master``: the id of the node that it is a replica of; None of a master.
    """

    id: str
    port: int
    flags: frozenset[str]
    master: str | None
    epoch: int
    connected: bool
    slots: tuple[tuple[int, int], ...]

    @property
    def failed(self) -> bool:
        """Whether a majority of the masters says that it is down."""
        return "fail" in self.flags

    def slot_numbers(self) -> list[int]:
        """Return the slots that it serves, in order."""
        return [slot for first, last in self.slots for slot in range(first, last + 1)]


class ClusterView:
    """All nodes by their id, as one of them sees them.

    ``reply``: the text that CLUSTER NODES replied.
    """

    def __init__(self, reply: str) -> None:
        self.nodes: dict[str, ClusterNode] = {}
        self.observer = ""
        for line in filter(None, reply.splitlines()):
            node = _node(line.split())
            self.nodes[node.id] = node
            if "myself" in node.flags:
                self.observer = node.id

    @property
    def myself(self) -> ClusterNode:
        """The node whose view it is."""
        return self.nodes[self.observer]

    def owner(self, slot: int) -> ClusterNode | None:
        """Return the node that serves the slot, or None."""
        for node in self.nodes.values():
            if any(first <= slot <= last for first, last in node.slots):
                return node
        return None

    def replicas(self, master: str) -> list[ClusterNode]:
        """Return the replicas of the master of this id."""
        return [node for node in self.nodes.values() if node.master == master]


def _node(words: list[str]) -> ClusterNode:
    identity, address, flags, master, _, _, epoch, link, *slots = words
    return ClusterNode(
        identity,
        int(address.partition(",")[0].partition("@")[0].rpartition(":")[2] or 0),
        frozenset(flags.split(",")),
        None if master == "-" else master,
        int(epoch),
        link == "connected",
        tuple(_range(slot) for slot in slots if not slot.startswith("[")),
    )


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def ranges(slots: Iterable[int]) -> list[tuple[int, int]]:
    """Return the first and the last number of each run of slots, in order."""
    found: list[tuple[int, int]] = []
    for slot in sorted(slots):
        if found and found[-1][1] == slot - 1:
            found[-1] = (found[-1][0], slot)
        else:
            found.append((slot, slot))
    return found


def disagreement(views: Mapping[str, ClusterView]) -> str | None:
    """Say why the cluster has not come to rest; None if it has.

    ``views``: what each node that should answer sees, by its name.

    It has if all see the same roles and slots, each sees all the others as alive, and each slot is
    served by one of these. Other nodes (killed, paused) may be seen in any way.
    """
    names = {view.observer: name for name, view in views.items()}
    roles = {}
    for name, view in views.items():
        # What it sees of those that answer.
        for identity, other in names.items():
            node = view.nodes.get(identity)
            if node is None or node.flags & _UNSETTLED:
                return f"{name} does not know {other} yet"
            if node.flags & _FAILING or not (node.connected or identity == view.observer):
                return f"{name} does not reach {other}"
        if any("handshake" in node.flags for node in view.nodes.values()):
            return f"{name} is still shaking hands"
        # What it sees of slots and roles.
        served = {slot for identity in names for slot in view.nodes[identity].slot_numbers()}
        if missing := ranges(set(range(SLOTS)) - served):
            return f"{name} sees nobody alive that serves the slots {_shown(missing)}"
        roles[name] = {
            identity: (view.nodes[identity].master, view.nodes[identity].slots)
            for identity in names
        }
    first = next(iter(roles), "")
    for name, seen in roles.items():
        if seen != roles[first]:
            return f"{first} and {name} see different roles or slots"
    return None


def _shown(found: list[tuple[int, int]]) -> str:
    shown = [f"{first}-{last}" if first != last else str(first) for first, last in found[:5]]
    return ", ".join(shown) + (", …" if len(found) > 5 else "")
