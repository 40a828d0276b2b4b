"""What a redirect needs to know of its client: who owns a key now, and who is at an address."""

from shardcache.address_map import AddressMap, mapped
from shardcache.flows.links import Links
from shardcache.topology.cluster_seeds import ClusterSeeds
from shardcache.topology.current import CurrentTopology
from shardcache.topology.slots import slot_of
from shardcache.topology.snapshot import Topology

__all__ = ("ClusterLinks",)


class ClusterLinks(Links):
    """The newest map of a cluster, for commands under way.

    ``current``: the topology in service.
    ``seeds``: how all nodes are reached.
    ``address_map``: as in `Options`.
    """

    __slots__ = ("_address_map", "_seeds")

    def __init__(
        self,
        current: CurrentTopology,
        seeds: ClusterSeeds,
        address_map: AddressMap | None,
    ) -> None:
        super().__init__(current)
        self._address_map = address_map
        self._seeds = seeds

    def moved(self, wire: bytes, shard: int) -> None:
        """Ask for a new map, if the newest one by then does not say that a key is at this shard."""
        current = self._current

        def settled() -> bool:
            return current.now.owner_index(wire) == shard

        if not settled():
            self.refresh_unless(slot_of(wire), settled)

    def shard_at(self, host: str, port: int, answered: int) -> int:
        """Return the number of the shard at an address, which a redirect names.

        ``host``, ``port``: the address; an empty host is that of ``answered``.
        ``answered``: the number of the shard that has sent the redirect.

        A node that no map has had so far gets a number.
        """
        topology = self._current.now
        if not host:
            host = topology.known[answered].address.host
        elif topology.map is not None and (node := topology.map.node_at(host, port)) is not None:
            host, port = node.host, node.port
        else:
            host, port = mapped(self._address_map, host, port)
        member = self._seeds.member(host, port)
        name = member.node.name

        def knowing(former: Topology) -> Topology:
            return former if name in former.names else former.knowing(member)

        return self._current.swap(knowing)[1].names.index(name)
