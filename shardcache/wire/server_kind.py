"""Which kind of server a connection is for, and the error if another kind answers.

The handshake learns the mode and the role of the server. A mistake in the topology shows on the
first connection by that, before any command can do harm.
"""

from typing import Literal

from shardcache.errors import WrongTopology
from shardcache.refusals import MEMBER
from shardcache.resp import Reply

__all__ = ("ServerKind", "check_kind")

ServerKind = Literal["standalone", "replica", "cluster", "cluster-reads", "sentinel"]
"""What a server is expected to be.

- "standalone": an independent server that takes writes, as the nodes of a ring are.
- "replica": an independent server, of whatever role, to read from.
- "cluster": a member of a Redis Cluster, of whatever role.
- "cluster-reads": the same, to read from even if it is a replica.
- "sentinel": a Sentinel.
"""
_ON_A_RING = {
    b"cluster": MEMBER,
    b"sentinel": "is a Sentinel; a ring takes the data servers",
}
_IN_A_CLUSTER = {
    b"standalone": (
        "is an independent server and no member of a Redis Cluster (cluster-enabled is off); "
        "for independent servers write redis://"
    ),
    b"sentinel": "is a Sentinel and no member of a Redis Cluster",
}
_AMONG_SENTINELS = {
    b"standalone": "is a data server and no Sentinel; Sentinels listen on port 26379 by default",
    b"cluster": "is a member of a Redis Cluster and no Sentinel",
}
_WRONG_MODES = {
    "standalone": _ON_A_RING,
    "replica": _ON_A_RING,
    "cluster": _IN_A_CLUSTER,
    "cluster-reads": _IN_A_CLUSTER,
    "sentinel": _AMONG_SENTINELS,
}


def check_kind(shard: str, kind: ServerKind, mode: Reply, role: Reply) -> None:
    """Raise `WrongTopology` if a server is of another kind.

    ``shard``: the name of the shard.
    ``kind``: what is expected.
    ``mode``: what the server calls itself: standalone, cluster or sentinel. A mode that is empty or
        unknown is let by.
    ``role``: "master" or "replica" ("slave" of old servers). A role that is empty or unknown is let
        by.
    """
    wrong = _WRONG_MODES[kind].get(mode) if isinstance(mode, bytes) else None
    if wrong is None and kind == "standalone" and role in (b"replica", b"slave"):
        wrong = "is a replica and takes no writes; a ring takes primaries"
    if wrong is not None:
        raise WrongTopology(shard, wrong)
