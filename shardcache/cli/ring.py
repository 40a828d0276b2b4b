"""``ring``: shows each node's share of the keys, and what a change would move."""

import argparse
from collections.abc import Iterable

from shardcache.cli.cluster import draw_slots
from shardcache.cli.connect import given_client, open_client, url_of
from shardcache.cli.exit_codes import Exit
from shardcache.cli.parser import Commands, takes_url
from shardcache.cli.text import bars, say
from shardcache.client import ShardCache
from shardcache.errors import InvalidArgument, InvalidNode
from shardcache.placement import HashRing, KetamaRing, Node
from shardcache.placement.circle import Circle
from shardcache.topology.cluster_seeds import ClusterSeeds
from shardcache.topology.deployment import deployment_of
from shardcache.topology.nodes import members
from shardcache.topology.sentinel_set import SentinelSet
from shardcache.url_options import read_url

__all__ = ("add",)


def add(commands: Commands) -> None:
    """Add the command."""
    ring = commands.add_parser(
        "ring",
        help="show each shard's share of the keys, and what a change would move",
        description="Shows each shard's share of the keys, and asks no server. With changes: who "
        "would own what then, and what would move. Of a Redis Cluster, which is asked: the slots "
        "and the number of replicas of each master; its own tools plan and make changes.",
        examples=(
            "ring",
            "ring --add cache-4 --remove cache-1",
            "ring --node a --node b=2 --weight a=3",
        ),
    )
    # The ring as it is.
    ring.add_argument(
        "--node",
        action="append",
        default=[],
        metavar="NAME[=WEIGHT]",
        help="a ring of these nodes, instead of those of the URL; may be repeated, as may the "
        "changes",
    )
    # The changes.
    ring.add_argument(
        "--add", action="append", default=[], metavar="NAME[=WEIGHT]", help="what if this node came"
    )
    ring.add_argument(
        "--remove", action="append", default=[], metavar="NAME", help="what if this node went"
    )
    ring.add_argument(
        "--weight",
        action="append",
        default=[],
        metavar="NAME=WEIGHT",
        help="what if it had this weight",
    )
    ring.set_defaults(run=_ring)
    takes_url(ring)


def _ring(args: argparse.Namespace) -> int:
    if not args.node and _is_cluster(args):
        return _cluster(args)
    now = _now(args)
    then = _changed(now, args)
    _show(now)
    if then is not now:
        _show_change(now, then)
    return Exit.FINE


def _is_cluster(args: argparse.Namespace) -> bool:
    client = given_client(args)
    if client is not None:
        return not isinstance(_placement(client), Circle)
    return isinstance(deployment_of(read_url(url_of(args)).urls), ClusterSeeds)


def _placement(client: ShardCache) -> object:
    client._look_for_nodes()
    return client._context.topology.placement


def _cluster(args: argparse.Namespace) -> int:
    if args.add or args.remove or args.weight:
        raise InvalidArgument(
            "--add, --remove and --weight are for independent nodes. The slots of a Redis Cluster "
            "are moved by its own tools: redis-cli --cluster add-node, reshard, rebalance (which "
            "with --cluster-simulate only plans) and del-node"
        )
    with open_client(args) as cache:
        draw_slots(cache)
    return Exit.FINE


def _now(args: argparse.Namespace) -> Circle:
    if args.node:
        return HashRing([_node(text) for text in args.node])
    client = given_client(args)
    placement = None if client is None else _placement(client)
    if isinstance(placement, Circle):
        return placement
    said = read_url(url_of(args))
    deployment = deployment_of(said.urls)
    nodes = (
        list(deployment.masters)
        if isinstance(deployment, SentinelSet)
        else [member.node for member in members(said.urls)]
    )
    return KetamaRing(nodes) if said.options.get("placement") == "ketama" else HashRing(nodes)


def _changed(ring: Circle, args: argparse.Namespace) -> Circle:
    for text in args.weight:
        node = _node(text, weighty=True)
        ring = ring.with_node(_known(ring, node.name), weight=node.weight)
    for text in args.add:
        node = _node(text)
        if node.name in _names(ring):
            raise InvalidNode(f"node {node.name!r} is on the ring already; change it with --weight")
        ring = ring.with_node(node)
    for text in args.remove:  # last, so that the only node of a ring can be replaced too
        ring = ring.without_node(_known(ring, text))
    return ring


def _known(ring: Circle, name: str) -> str:
    if name not in _names(ring):
        raise InvalidNode(
            f"there is no node {name!r} on the ring; there are {', '.join(map(repr, _names(ring)))}"
        )
    return name


def _names(ring: Circle) -> list[str]:
    return [node.name for node in ring.nodes]


def _node(text: str, *, weighty: bool = False) -> Node:
    """Read ``NAME=WEIGHT``; a name may contain "=" itself if a weight follows."""
    name, equals, weight = text.rpartition("=")
    if not equals and not weighty:
        return Node(text)
    try:
        heavy = float(weight)
    except ValueError:
        wanted = "NAME=WEIGHT" if weighty else "NAME or NAME=WEIGHT"
        raise InvalidNode(
            f"expected {wanted} with a weight above 0, as in 'cache-1=2', got {text!r:.80}"
        ) from None
    return Node(name, heavy)


def _show(ring: Circle) -> None:
    shares = ring.shares()
    _rows(
        ((node.name, f"x{node.weight:g}", f"{shares[node.name]:7.2%}"), shares[node.name])
        for node in ring.nodes
    )


def _show_change(now: Circle, then: Circle) -> None:
    say()
    say("After the change:")
    _show(then)
    moved = now.moved(then)
    say()
    say(f"{moved.total:.2%} of the keys would change hands:")
    flows = sorted(moved.items(), key=lambda flow: -flow[1])
    _rows(((source, "->", target, f"{share:7.2%}"), share) for (source, target), share in flows)


def _rows(rows: Iterable[tuple[tuple[str, ...], float]]) -> None:
    for line in bars(rows):
        say(line)
