"""What a client consists of, apart from its colour (sync or asyncio) and its connections."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Self

from shardcache.codecs import Codec, RawCodec
from shardcache.errors import (
    DiscoveryFailed,
    InvalidArgument,
    InvalidNode,
    InvalidOption,
    ShardError,
    ShardOut,
)
from shardcache.events import Event, emit
from shardcache.flows import batch
from shardcache.flows import scan as sweep
from shardcache.flows.cluster_links import ClusterLinks
from shardcache.flows.links import NodeLinks
from shardcache.flows.operations import Requests
from shardcache.flows.reply_policy import ReplyPolicy
from shardcache.flows.steps import Flow
from shardcache.keys import Key, KeySpace, hash_tag, is_own
from shardcache.options import OnUnavailable, Options, check_on_unavailable, check_timeout
from shardcache.placement.circle import Moves
from shardcache.policy.hot_keys import HotKeyCounter
from shardcache.policy.near_store import NearStore
from shardcache.results import Explanation
from shardcache.topology.cluster_map import ClusterMap
from shardcache.topology.cluster_seeds import ClusterSeeds
from shardcache.topology.current import CurrentTopology
from shardcache.topology.nodes import Member
from shardcache.topology.replica_numbers import node_of
from shardcache.topology.slots import slot_of
from shardcache.topology.snapshot import NOBODY, Topology
from shardcache.topology.unknown import unknown_topology
from shardcache.ttl import TTL, Default

__all__ = ("CLUSTER", "REPLICA_SHARE", "ClientContext")

CLUSTER = "the Redis Cluster"  # what events and errors call the source of its nodes
REPLICA_SHARE = 0.5  # of the timeout of a call
_SHOWN = 8  # ranges of slots in a message


class ClientContext:
    """One client's parameters, checked, and what is made from them; the same in both colours.

    ``members``: the nodes; or a text, the name of the source that will name them.
    ``seeds``: those of the cluster, if the nodes are one.
    ``replicated``: whether a source names the replicas of independent nodes.
    """

    __slots__ = (
        "codec",
        "current",
        "hot_keys",
        "keys",
        "links",
        "near",
        "options",
        "promotes",
        "refusal",
        "reply_policy",
        "requests",
        "seeds",
        "suspect",
        "timeout",
        "unknown",
    )

    def __init__(
        self,
        members: Sequence[Member] | str,
        *,
        namespace: str,
        default_ttl: TTL,
        serializer: Any,
        compression: Any,
        timeout: float,
        on_unavailable: OnUnavailable,
        options: Options | None,
        seeds: ClusterSeeds | None = None,
        replicated: bool = False,
    ) -> None:
        if options is not None and not isinstance(options, Options):
            raise InvalidOption(
                f"options must be a shardcache.options.Options, got {type(options).__name__}"
            )
        # Each part checks its own parameters, so a wrong one is an error here, before any exchange.
        self.options = options or Options()
        self.timeout = check_timeout(timeout)
        self.keys = KeySpace(namespace)
        make = (
            RawCodec
            if isinstance(serializer, str) and serializer == "raw"
            else partial(Codec, serializer)
        )
        self.codec: Codec = make(
            compression=compression,
            compress_min=self.options.compress_min,
            signing_key=self.options.signing_key,
            sign_plain=self.options.sign_plain,
            max_value=self.options.max_value,
            types=self.options.types,
            read_foreign=self.options.read_foreign,
        )
        self.requests = Requests(
            self.keys, self.codec, default_ttl, void_loads=self.options.void_loads
        )
        # The values in memory, if there is a near cache.
        self.near: NearStore | None = None
        # What counts the reads of keys, if something does.
        self.hot_keys: HotKeyCounter | None = None
        # Whether a replica may take the place of a node's server.
        self.promotes = False
        # What a shard calls when its server may have moved.
        self.suspect: Callable[[], object] = lambda: None
        # From here on a shard is a number of the topology. Without nodes all keys have one shard,
        # which refuses all calls, and `refusal` says why.
        if isinstance(members, str):
            self.current = unknown_topology(members, cluster=seeds is not None)
            self.unknown: Member | None = self.current.now.known[0]
        else:
            self.current = CurrentTopology(Topology.of(members, self.options.placement))
            self.unknown = None
        self.refusal: Callable[[], ShardError] = lambda: DiscoveryFailed("", "no nodes are known")
        # Where a command goes on that has no answer yet.
        self.seeds = seeds
        self.links: ClusterLinks | NodeLinks | None = None
        if seeds is not None:
            _check_cluster(self.options, seeds)
            self.links = ClusterLinks(self.current, seeds, self.options.address_map)
        elif self.options.read_from != "primary":
            if not replicated:
                raise InvalidOption(
                    f"read_from={self.options.read_from!r} is for a Redis Cluster "
                    "(redis+cluster://) and for Sentinels (redis+sentinel://), which name the "
                    "replicas; of these nodes no replica is known: leave it out"
                )
            self.links = NodeLinks(self.current)
        self.reply_policy = ReplyPolicy(
            self.codec,
            self.current,
            check_on_unavailable(on_unavailable),
            self.options.on_event,
        )

    @classmethod
    def of_lock(cls, members: Sequence[Member], options: Options | None, namespace: str) -> Self:
        """Return the context of a lock without a client: it stores no values."""
        return cls(
            members,
            namespace=namespace,
            default_ttl=None,
            serializer="safe",
            compression=None,
            timeout=0.5,
            on_unavailable="raise",
            options=options,
        )

    def encoded(
        self, mapping: Mapping[Key, Any], ttl: TTL | Default
    ) -> tuple[list[Key], list[bytes], list[bytes], int | None]:
        """Return keys, wire keys, stored forms and milliseconds, all checked before sending."""
        if not isinstance(mapping, Mapping):
            raise InvalidArgument(
                f"set_many takes a mapping of keys to values, got {type(mapping).__name__}"
            )
        asked = list(mapping)
        wires = self.keys.wire_many(asked)
        raws = self.codec.encode_many(list(mapping.values()), wires)
        return asked, wires, raws, self.requests.ttl_ms(ttl)

    def store(
        self, wires: list[bytes], raws: list[bytes], ms: int | None
    ) -> Flow[dict[int, ShardError]]:
        """Return the flow that stores values; see `batch.store`."""
        return batch.store(self.topology, wires, raws, ms, invalidate=self.fill_tokens)

    def delete(self, wires: list[bytes]) -> Flow[tuple[int, list[tuple[int, ShardError]]]]:
        """Return the flow that deletes keys; see `batch.delete`."""
        return batch.delete(self.topology, wires, invalidate=self.fill_tokens)

    def glob(self, match: str | bytes) -> bytes:
        """Return a server-side pattern for ``match`` within the namespace."""
        if not isinstance(match, (str, bytes)):
            raise InvalidArgument(
                f"match must be a glob as str or bytes, got {type(match).__name__}"
            )
        raw = match.encode("utf-8", "surrogateescape") if isinstance(match, str) else match
        return sweep.pattern(self.keys.prefix, raw)

    def sweep(self, match: str | bytes, *, flush: bool) -> Flow[tuple[int, list[ShardError]]]:
        """Return the flow that deletes what fits ``match``, or with ``flush`` whole databases.

        Running loads of these keys are invalidated first.
        """
        shards, glob = self.topology.numbers, self.glob(match)
        if flush:
            if match not in ("*", b"*"):
                raise InvalidArgument(
                    f"flush empties whole databases, so match must be left out, got {match!r:.80}"
                )
            return sweep.flush(shards)
        fill_tokens = (
            sweep.fill_token_pattern(self.keys.prefix, b"" if match in ("*", b"*") else glob)
            if self.options.void_loads
            else None
        )
        return sweep.wipe(shards, glob, fill_tokens, self.topology.slots_of)

    @property
    def topology(self) -> Topology:
        """The topology that is in service now."""
        return self.current.now

    def use(self, members: Sequence[Member]) -> Moves | None:
        """Put other nodes in service; return what moves, None if the placement cannot tell.

        ``members``: the nodes, at least one.
        """
        former, new = self.swap(members, "use")
        return former.moved(new)

    def unserved(self) -> ShardError:
        """Return the error for a key whose slot no node of the cluster serves."""
        found = self.topology.map
        ranges = () if found is None else found.unserved
        slots = ", ".join(
            str(first) if first == last else f"{first}-{last}" for first, last in ranges[:_SHOWN]
        )
        more = ", …" if len(ranges) > _SHOWN else ""
        return ShardOut(CLUSTER, f"no node serves the slots {slots}{more}")

    def put_map(self, found: ClusterMap) -> None:
        """Put the map of a cluster in service, with the members that it has."""
        seeds = self.seeds
        if seeds is None:
            raise InvalidOption("these nodes are no Redis Cluster")
        _, new = self.current.swap(
            lambda former: (
                former if former.map == found else Topology.of_cluster(found, seeds, former)
            )
        )
        if new.version > 0:
            emit(self.options.on_event, Event("topology_changed", "", "discovery"))

    def swap(self, members: Sequence[Member], operation: str) -> tuple[Topology, Topology]:
        """Put other nodes in service; return the former topology and the new one.

        ``members``: the nodes, at least one.
        ``operation``: what the event says it was.

        Raises `InvalidNode` and the like before anything changes.
        """
        choice = self.options.placement
        settings = dict(zip(self.topology.names, self.topology.known, strict=True))
        for member in members:
            before = settings.get(member.node.name)
            if before is not None and before.tls != member.tls:
                raise InvalidNode(
                    f"node {member.node.name!r} is known with other TLS settings in its URL; "
                    "give it another name, or make another client"
                )
        former, new = self.current.swap(
            lambda former: former if former.has(members) else Topology.of(members, choice, former)
        )
        if new is not former and new.version > 0:  # the first nodes are no change
            emit(self.options.on_event, Event("topology_changed", "", operation))
        return former, new

    def scanned(
        self, topology: Topology, shard: int, wires: list[bytes], error: ShardError | None
    ) -> list[Key]:
        """Return the user's forms of the keys that ``shard`` owns; note or raise ``error``."""
        if error is not None:
            self.reply_policy.degraded(error.shard, "scan", 0, error)
        wires = [wire for wire in wires if not is_own(wire)]
        if topology.map is not None:
            # Each node of a cluster has keys of its own slots, and of those that migrate to it.
            return list(map(self.keys.user, wires))
        owners = topology.owner_indexes(wires)
        return [
            self.keys.user(wire)
            for wire, owner in zip(wires, owners, strict=True)
            if owner == shard
        ]

    def timeout_of(self, member: Member) -> float:
        """Return the seconds that a call to the server of ``member`` may take.

        One to a replica has a part of the time, since the primary is asked after it.
        """
        reads = member.kind in ("cluster-reads", "replica")
        return self.timeout * (REPLICA_SHARE if reads else 1)

    @property
    def fill_tokens(self) -> batch.FillTokensOf:
        """What gives the keys of the fill tokens that a write deletes; None if writes do not."""
        return self.keys.fill_tokens if self.options.void_loads else None

    def explain(self, key: Key, states: Mapping[str, str]) -> Explanation:
        """Say which shard has ``key``; ``states``: of the breakers, by name."""
        topology = self.topology
        wire = self.keys.wire(key)
        owner = topology.owner_index(wire)
        slot: int | None = None
        replicas = tuple(
            topology.names[node_of(number)] for number in topology.replicas.get(owner, ())
        )
        # A cluster: the slot decides, and replicas that are not well are named too.
        if topology.map is not None and self.seeds is not None:
            slot = slot_of(wire)
            replicas = tuple(
                self.seeds.member(one.host, one.port).node.name
                for one in topology.map.replicas_of(slot)
            )
        # Where nobody serves the slot there is no node to tell of.
        reads = self.options.read_from
        if owner == NOBODY:
            return Explanation(key, wire, hash_tag(wire), "", "", (), "open", slot, replicas, reads)
        node = topology.known[owner].node
        return Explanation(
            key=key,
            wire_key=wire,
            hashed=hash_tag(wire),
            shard=node.name,
            address=node.url or "",
            successors=topology.placement.owners(wire, 3),
            state=states[node.name],
            slot=slot,
            replicas=replicas,
            read_from=reads,
        )


def _check_cluster(options: Options, seeds: ClusterSeeds) -> None:
    """Raise `InvalidOption` for what a Redis Cluster decides itself."""
    if options.placement != "ring":
        raise InvalidOption(
            "placement is for independent nodes, a Redis Cluster places keys itself: leave it out, "
            f"got {options.placement!r:.80}"
        )
    if any(address.db for address in seeds.addresses):
        raise InvalidOption("a Redis Cluster has database 0 only")
