"""What single members of a Redis Cluster see, and which of their views counts.

Theory
------
Members tell each other by gossip who serves which slot. A decision (a failover, a slot that has
moved) gets a new, higher epoch, and spreads. So of two views of one cluster the one with the higher
epoch is the newer. A member may have an old view for ever: it was cut off, or removed while it was
down.

Of the views of those that answer

- one that shares no member with the last map is of another cluster, which has got the addresses of
  this one (in Kubernetes, for example). Only a seed is believed that, and only if nobody answers
  who is of the last map: whoever configured the seed means what is there;
- one with a lower epoch than the last map is old. It counts only if all say so and they are at
  least two, or the cluster has no more than one member that could know better;
- of the others, one whose member sees the cluster in order counts more than one that does not, then
  the epoch, then how many members see the same, then how many slots are served.
"""

import re
from collections import Counter
from collections.abc import Generator, Iterable
from typing import NamedTuple

from shardcache.address_map import AddressMap
from shardcache.errors import ShardUnavailable
from shardcache.resp import Command, ErrorReply, Reply, as_error
from shardcache.topology.cluster_map import ClusterMap, SlotRange
from shardcache.topology.cluster_replies import Asked, parse_epoch, parse_shards, parse_slots

__all__ = ("View", "newest", "view_flow")

_MYID: Command = (b"CLUSTER", b"MYID")
_INFO: Command = (b"CLUSTER", b"INFO")
_SHARDS: Command = (b"CLUSTER", b"SHARDS")
_SLOTS: Command = (b"CLUSTER", b"SLOTS")
_OK = re.compile(rb"^cluster_state:ok\r?$", re.MULTILINE)


class View(NamedTuple):
    """What one member sees.

    ``map``: who serves what.
    ``ok``: whether the cluster is in order, as far as this member knows.
    ``seed``: whether it was asked because it is a seed.
    """

    map: ClusterMap
    ok: bool = True
    seed: bool = False


def view_flow(
    shard: str, asked: Asked, address_map: AddressMap | None, *, seed: bool
) -> Generator[list[Command], list[Reply], View]:
    """Yield commands to send in one write to a member, and take their replies; return its view.

    Raises `ShardError` if the member refuses, or if its replies cannot be used.

    ``shard``: what errors call the member.
    ``asked``: where it was reached.
    ``address_map``: that of the `Options`.
    ``seed``: as in `View`.
    """
    me, info, shards = yield [_MYID, _INFO, _SHARDS]
    asked = asked._replace(id=me.decode("ascii", "replace") if isinstance(me, bytes) else "")
    epoch = parse_epoch(info)
    found, trouble = _read(_SHARDS, shards, asked, address_map, epoch)
    # Servers before Redis 7 do not know SHARDS, and some that do leave slots out.
    if found is None or found.unserved:
        [slots] = yield [_SLOTS]
        other, other_trouble = _read(_SLOTS, slots, asked, address_map, epoch)
        if other is not None and (
            found is None or _number(other.unserved) < _number(found.unserved)
        ):
            found = other
        # Of a server that knows SHARDS its reply tells more of what is wrong.
        if isinstance(trouble, ErrorReply):
            trouble = other_trouble
    if found is None:
        if isinstance(trouble, ErrorReply):
            raise as_error(shard, trouble)
        raise ShardUnavailable(shard, f"its view of the cluster cannot be used: {trouble}")
    return View(found, isinstance(info, bytes) and _OK.search(info) is not None, seed)


def _read(
    command: Command, reply: Reply, asked: Asked, address_map: AddressMap | None, epoch: int
) -> tuple[ClusterMap | None, Exception | None]:
    """Return the map in a reply, or why there is none."""
    if isinstance(reply, ErrorReply):
        return None, reply
    parse = parse_shards if command is _SHARDS else parse_slots
    try:
        return parse(reply, asked, address_map, epoch), None
    except ValueError as error:
        return None, error


def newest(views: Iterable[View], last: ClusterMap | None) -> ClusterMap | None:
    """Return the map that counts, by the theory above; None if none does.

    ``views``: of all that have answered.
    ``last``: the map that counted until now; None if there was none.
    """
    known = frozenset(node.id for node in last.nodes) if last is not None else frozenset()
    there = [view for view in views if view.seed or not known or known & _ids(view.map)]
    if last is not None:
        fresh = [view for view in there if not _is_behind(view.map, last, known)]
        if fresh or (len(there) < 2 and len(known) > 1):
            there = fresh
    votes = Counter(_who_serves(view.map) for view in there)
    best = max(
        there,
        key=lambda view: (
            bool(known & _ids(view.map)),
            view.ok,
            view.map.epoch,
            votes[_who_serves(view.map)],
            -_number(view.map.unserved),
        ),
        default=None,
    )
    return None if best is None else best.map


def _is_behind(found: ClusterMap, last: ClusterMap, known: frozenset[str]) -> bool:
    """Whether a view is older than the last map. An epoch of 0 says nothing."""
    return 0 < found.epoch < last.epoch and bool(known & _ids(found))


def _ids(found: ClusterMap) -> frozenset[str]:
    return frozenset(node.id for node in found.nodes)


def _who_serves(found: ClusterMap) -> tuple[tuple[str, tuple[SlotRange, ...]], ...]:
    """Return what has to be the same for two members to see the same."""
    return tuple(
        (node.id, ranges) for node, ranges in zip(found.primaries, found.ranges, strict=True)
    )


def _number(ranges: Iterable[SlotRange]) -> int:
    return sum(last + 1 - first for first, last in ranges)
