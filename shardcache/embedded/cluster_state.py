"""The state of a local cluster: which servers answer, what they see, and whether it is at rest."""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from shardcache.embedded.cluster_view import ClusterNode, ClusterView, disagreement
from shardcache.embedded.login import check_password, url_login
from shardcache.embedded.server import LocalServer
from shardcache.embedded.server_connection import ServerConnection
from shardcache.embedded.server_group import ServerGroup
from shardcache.errors import ShardError, ShardUnavailable

__all__ = ("ClusterState",)

LOOK = 2.0  # seconds that a server has for its answers when the cluster may not be at rest


class ClusterState(ServerGroup):
    """Servers that are nodes of one cluster, whose state can be asked for.

    ``password``: the password of the servers, or None.

    All else is as for `ServerGroup`.
    """

    def __init__(
        self,
        *,
        password: str | None,
        directory: str | os.PathLike[str] | None,
        options: Mapping[str, str] | None,
        binary: str | None,
        timeout: float,
    ) -> None:
        super().__init__(directory=directory, options=options, binary=binary, timeout=timeout)
        self._password = check_password(password)

    @property
    def urls(self) -> dict[str, str]:
        """The URL of each server by its name, with the password, for a client of one server."""
        login = url_login(self._password)
        return {
            server.name: f"redis://{login}127.0.0.1:{server.port}/0" for server in self._servers
        }

    @property
    def url(self) -> str:
        """All servers as the seeds of one cluster, with the password."""
        seeds = ",".join(f"127.0.0.1:{server.port}" for server in self._servers)
        return f"redis+cluster://{url_login(self._password)}{seeds}" if seeds else ""

    @property
    def masters(self) -> tuple[LocalServer, ...]:
        """The masters, with or without slots, but for those that are known to have failed.

        As the first server that answers sees it now. Raises `ShardUnavailable` if none answers.
        """
        return self._with(lambda node: node.master is None)

    @property
    def replicas(self) -> tuple[LocalServer, ...]:
        """The replicas, as `masters`."""
        return self._with(lambda node: node.master is not None)

    def replicas_of(self, master: LocalServer) -> tuple[LocalServer, ...]:
        """Return the replicas of a master, as `replicas`.

        ``master``: the master.
        """
        identity = self._node(master).id
        return self._with(lambda node: node.master == identity)

    def owner(self, slot: int) -> LocalServer | None:
        """Return the master that serves a slot, as `masters` sees it; None if there is none.

        ``slot``: its number, 0 to 16383.
        """
        return next(iter(self._with(lambda node: any(a <= slot <= b for a, b in node.slots))), None)

    def slots(self, server: LocalServer) -> tuple[tuple[int, int], ...]:
        """Return the first and the last number of each range of slots of a server, in order.

        ``server``: the server.
        """
        return self._node(server).slots

    def wait_until_ok(self, *, timeout: float = 60.0) -> None:
        """Wait until the cluster is at rest.

        That is: all servers that run and are not paused see the same roles and slots and each other
        alive, serve all slots among themselves, and say ``cluster_state:ok``; their replicas have
        what their masters had when this began.

        ``timeout``: seconds to wait; default 60.

        Raises `ServerNotStarted`, which says what was missing last, if it takes longer.
        """
        offsets: dict[str, int] = {}
        self._until(lambda: self._unrest(offsets), time.monotonic() + timeout)

    def _connect(self, server: LocalServer, timeout: float = 5.0) -> ServerConnection:
        return ServerConnection(server, self._password, timeout=timeout)

    def _unrest(self, offsets: dict[str, int]) -> str | None:
        """Say what is missing for the cluster to be at rest.

        ``offsets``: how far each master was in its stream when it was first asked.
        """
        views: dict[str, ClusterView] = {}
        replicated: dict[str, dict[str, str]] = {}
        # Ask everybody; one that does not answer raises.
        with ExitStack() as stack:
            for server in self._answering():
                connection = stack.enter_context(self._connect(server, LOOK))
                views[server.name] = ClusterView(connection.text("CLUSTER", "NODES"))
                replicated[server.name] = connection.fields("INFO", "replication")
                state = connection.fields("CLUSTER", "INFO")["cluster_state"]
                if state != "ok":
                    return disagreement(views) or f"{server.name} says cluster_state:{state}"
        if not views:
            return "no server runs"
        for name, view in views.items():
            if view.myself.master is None:
                offsets.setdefault(view.observer, int(replicated[name]["master_repl_offset"]))
        return disagreement(views) or _lag(views, replicated, offsets)

    def _view(self) -> ClusterView:
        """Return what the first server that answers sees."""
        missing: ShardError | None = None
        for server in self._answering():
            try:
                with self._connect(server, LOOK) as connection:
                    return ClusterView(connection.text("CLUSTER", "NODES"))
            except ShardUnavailable as error:
                missing = error
        raise missing or ShardUnavailable("cluster", "no server runs")

    def _node(self, server: LocalServer) -> ClusterNode:
        for node in self._view().nodes.values():
            if node.port == server.port:
                return node
        raise ShardUnavailable(server.name, "it is not a member of the cluster")

    def _with(self, condition: Callable[[ClusterNode], bool]) -> tuple[LocalServer, ...]:
        if not self._servers:
            return ()
        ports = {
            node.port for node in self._view().nodes.values() if condition(node) and not node.failed
        }
        return tuple(server for server in self._servers if server.port in ports)


def _lag(
    views: Mapping[str, ClusterView],
    replicated: Mapping[str, Mapping[str, str]],
    offsets: Mapping[str, int],
) -> str | None:
    """Say which replica does not yet have what its master had."""
    for name, view in views.items():
        master = view.myself.master
        if master is not None and master in offsets:
            said = replicated[name]
            if said.get("master_link_status") != "up":
                return f"{name} has no link to its master"
            if int(said.get("slave_repl_offset", -1)) < offsets[master]:
                return f"{name} lags behind its master"
    return None
