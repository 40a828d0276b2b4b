"""The number of a shard that only reads: the same server as a node's, over connections for reads.

A connection to a replica of a Redis Cluster is told once that it is for reads (READONLY). It must
not be used for anything else: if the server was the primary a moment ago, it would answer what has
to be asked of the primary. So such connections have a shard of their own, with its own breaker.
"""

__all__ = ("is_replica", "node_of", "replica_number")

_FIRST = 1 << 32  # above all numbers of nodes


def replica_number(node: int) -> int:
    """Return the number of the shard that reads from a node.

    ``node``: the number of the node (`Topology`).
    """
    return _FIRST + node


def is_replica(number: int) -> bool:
    """Whether a number is that of a shard that only reads."""
    return number >= _FIRST


def node_of(number: int) -> int:
    """Return the number of the node that a shard is about."""
    return number - _FIRST if number >= _FIRST else number
