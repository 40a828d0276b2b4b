"""Who serves which slot of a Redis Cluster, asked of its members: a source for a `NodeWatch`.

Some known members are asked at once, in a thread each, so that one that hangs delays nobody. When
the first has answered, the others have a moment left, since it may be the one that is behind. If
none of them has a view that counts, the seeds are asked, whose names are looked up anew, and
further members. What counts where they disagree is in `topology/cluster_views.py`.

| what a poll finds | what it returns |
|---|---|
| a view that counts | its map |
| none, or one in which nobody serves any slot | `DiscoveryFailed`, which says why |

With the error the watch goes on with its last good answer. Each member is asked over a connection
of its own, which is closed behind the answer: it must not be one that was made to a server that has
left the cluster since.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from math import inf

from shardcache.address_map import AddressMap
from shardcache.drivers.asked_server import AskedServer, has_answered, wait_for_answers
from shardcache.errors import AuthenticationFailed, DiscoveryFailed, WrongTopology
from shardcache.options import Options
from shardcache.topology.cluster_map import ClusterMap
from shardcache.topology.cluster_replies import Asked
from shardcache.topology.cluster_seeds import ClusterSeeds
from shardcache.topology.cluster_views import View, newest, view_flow
from shardcache.urls import Address
from shardcache.wire import Connection, Dialer, pack_all

__all__ = ("ClusterSource",)

GRACE = 0.1
_ASKED = 3  # known members that are asked first
_MOST = 16  # seeds and members that are asked after them
_MAX_VALUE = 16 * 1024 * 1024  # bytes of a map whose slots are scattered
# What is wrong with the configuration, which no waiting mends, is shown first.
_BY_WEIGHT = (WrongTopology, AuthenticationFailed)


class ClusterSource:
    """Asks the members of a Redis Cluster who serves what, and returns the map.

    ``seeds``: whom to ask first, and with which login and TLS.
    ``options``: of the client: its TLS, its hook, its credentials and its ``address_map``.
    ``timeout``: seconds that all members together have, connecting included.
    ``clock``: the time in seconds.
    ``grace``: seconds that the others have when the first has answered. Default: 0.1.
    """

    __slots__ = (
        "_clock",
        "_fit",
        "_grace",
        "_last",
        "_members",
        "_options",
        "_seeds",
        "_timeout",
        "_turn",
    )

    def __init__(
        self,
        seeds: ClusterSeeds,
        options: Options,
        *,
        timeout: float,
        clock: Callable[[], float],
        grace: float = GRACE,
    ) -> None:
        self._seeds = seeds
        self._options = options
        self._fit = replace(
            options, echo_check=False, max_value=_MAX_VALUE, tls=seeds.tls or options.tls
        )
        self._timeout = timeout
        self._clock = clock
        self._grace = grace
        self._last: ClusterMap | None = None
        self._members: dict[Address, AskedServer[View]] = {}
        self._turn = 0

    def __call__(self) -> ClusterMap:
        """Return the map that counts; raise `DiscoveryFailed`."""
        deadline = self._clock() + self._timeout
        views: list[View] = []
        errors: dict[Address, BaseException] = {}
        rounds = self._rounds()
        found: ClusterMap | None = None
        # Each round has its share of the time that is left.
        for left, addresses in zip(range(len(rounds), 0, -1), rounds, strict=True):
            now = self._clock()
            views += self._ask(addresses, now + (deadline - now) / left, errors)
            found = newest(views, self._last)
            if found is not None and found.primaries:
                break
        if found is None or not found.primaries:
            raise self._failed(views, errors)
        self._last = found
        return found

    def _rounds(self) -> list[list[Address]]:
        """Return whom to ask at once, and whom after that if there is no view that counts."""
        seeds = list(self._seeds.addresses)
        if self._last is None:
            self._keep(seeds)
            return [seeds[:_MOST]]
        # Each poll begins with another primary. Those that were silent come last.
        primaries = self._last.primaries
        self._turn = (self._turn + 1) % max(len(primaries), 1)
        others = self._last.nodes[len(primaries) :]
        nodes = (*primaries[self._turn :], *primaries[: self._turn], *others)
        known = list(dict.fromkeys(self._seeds.node(node.host, node.port) for node in nodes))
        members = self._members
        known.sort(key=lambda address: address in members and members[address].silent)
        self._keep((*seeds, *known))
        first, rest = known[:_ASKED], dict.fromkeys((*seeds, *known[_ASKED:]))
        second = [address for address in rest if address not in first][:_MOST]
        return [first, second] if second else [first]

    def _keep(self, addresses: Iterable[Address]) -> None:
        """Have a server to ask for each address: those that there are stay, and no others do."""
        old = self._members
        self._members = {
            address: old.get(address)
            or AskedServer(
                Dialer(
                    address.label.rpartition("/")[0], address, self._fit, self._clock, "cluster"
                ),
                self._options.on_event,
            )
            for address in addresses
        }

    def _ask(
        self, addresses: list[Address], until: float, errors: dict[Address, BaseException]
    ) -> list[View]:
        """Return the views of those that answer; note in ``errors`` why the others do not."""
        # All are asked at once; after the first answer the rest has a moment left.
        seeds, address_map = self._seeds.addresses, self._options.address_map
        asking = {}
        for address in addresses:
            asked = Asked(address.host, address.port, address.tls)
            question = partial(_ask, asked, address_map, until, seed=address in seeds)
            asking[address] = self._members[address].begin(question, until)
        wait_for_answers(
            asking.values(),
            until,
            self._clock,
            lambda: self._grace if any(map(has_answered, asking.values())) else inf,
        )
        # What has come of it, for each.
        views = []
        for address, future in asking.items():
            error = self._members[address].failure(future)
            if error is None:
                errors.pop(address, None)
                views.append(future.result())
            else:
                errors[address] = error
        return views

    def _failed(self, views: list[View], errors: dict[Address, BaseException]) -> DiscoveryFailed:
        """Return the error that says why there is no map."""
        said = [self._members[address].why(error) for address, error in errors.items()]
        if any(view.map.primaries for view in views):
            said.insert(0, "the members that answer are behind, or are those of another cluster")
        elif views:
            said.insert(0, "no slot of the cluster is served")
        failed = DiscoveryFailed("the Redis Cluster", "; ".join(said))
        failed.__cause__ = next(
            (error for kind in _BY_WEIGHT for error in errors.values() if isinstance(error, kind)),
            next(iter(errors.values()), None),
        )
        return failed


def _ask(
    asked: Asked,
    address_map: AddressMap | None,
    deadline: float,
    connection: Connection,
    *,
    seed: bool,
) -> View:
    """Return what a member says, over a connection to it."""
    steps = view_flow(connection.shard, asked, address_map, seed=seed)
    try:
        commands = next(steps)
        while True:
            number = len(commands)
            replies = connection.call_many(pack_all(commands), number, deadline, number)
            commands = steps.send(replies)
    except StopIteration as end:
        view: View = end.value
        return view
