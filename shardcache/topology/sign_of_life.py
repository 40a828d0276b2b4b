"""The question by which a server shows that it still is the one that has the keys of a shard.

| nodes | question | what shows that it is not |
|---|---|---|
| independent, or masters of Sentinels | ROLE | it is a replica by now |
| a Redis Cluster | EXISTS of a key in one of its slots | MOVED, CLUSTERDOWN, MASTERDOWN, LOADING |

Any other answer is a sign of life: an ACL or a proxy may hide ROLE.
"""

from shardcache.refusals import words
from shardcache.resp import Command, ErrorReply, Reply
from shardcache.topology.slot_tags import tag_of
from shardcache.topology.snapshot import Topology

__all__ = ("question_of", "trouble")

_ROLE: Command = (b"ROLE",)
_ELSEWHERE = frozenset({"MOVED", "CLUSTERDOWN", "MASTERDOWN", "LOADING"})


def question_of(topology: Topology, shard: int, prefix: bytes) -> Command:
    """Return the question to the server of a shard.

    ``shard``: the number of the shard, which is in service.
    ``prefix``: what all keys begin with.
    """
    if topology.map is None:
        return _ROLE
    [(first, _), *_] = topology.map.ranges[topology.numbers.index(shard)]
    return (b"EXISTS", b"%b{%b}" % (prefix, tag_of(first)))


def trouble(reply: Reply) -> str:
    """Return why the server has the keys no longer; empty if it has."""
    if isinstance(reply, ErrorReply):
        text = words(str(reply))
        return f"it {text}" if text.partition(" ")[0] in _ELSEWHERE else ""
    is_replica = isinstance(reply, list) and reply[:1] in ([b"slave"], [b"replica"])
    return "it is a replica by now" if is_replica else ""
