"""What shows that a server still has the keys of its shard."""

import pytest

from shardcache.resp import ErrorReply
from shardcache.topology.cluster_map import ClusterMap, ClusterNode, ClusterShard
from shardcache.topology.cluster_seeds import ClusterSeeds
from shardcache.topology.nodes import members
from shardcache.topology.sign_of_life import question_of, trouble
from shardcache.topology.slots import slot_of
from shardcache.topology.snapshot import Topology
from shardcache.urls import Address


def test_questions() -> None:
    """Of a cluster each master is asked for a key of its own."""
    assert question_of(Topology.of(members(["redis://h"]), "ring"), 0, b"") == (b"ROLE",)
    a, b = (ClusterNode(name, name, 1) for name in "ab")
    found = ClusterMap.of(
        [ClusterShard(a, ranges=[(0, 99)]), ClusterShard(b, ranges=[(100, 16383)])]
    )
    topology = Topology.of_cluster(found, ClusterSeeds((Address("a", 1),), None))
    for shard in topology.numbers:
        verb, key = question_of(topology, shard, b"shop:")
        assert (verb, key[:5], topology.owner_index(key)) == (b"EXISTS", b"shop:", shard)
    assert slot_of(question_of(topology, 1, b"")[1]) == 100


@pytest.mark.parametrize(
    ("reply", "fits"),
    [
        ([b"master", 0, []], True),
        ([b"slave", b"h", 1, b"connected", 0], False),
        (0, True),
        (ErrorReply("NOPERM no permission to run the 'role' command"), True),
        (ErrorReply("ERR unknown command 'ROLE'"), True),
        (ErrorReply("ASK 1 h:1"), True),
        (ErrorReply("MOVED 1 h:1"), False),
        (ErrorReply("CLUSTERDOWN The cluster is down"), False),
    ],
)
def test_answers(reply: object, fits: bool) -> None:
    """Only what says that the keys are elsewhere, or not served, is no sign of life."""
    assert (trouble(reply) == "") is fits
