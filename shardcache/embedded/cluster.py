"""A Redis Cluster of local servers."""

import os
import time
from collections.abc import Mapping
from contextlib import ExitStack

from shardcache.embedded.cluster_operations import ClusterOperations
from shardcache.embedded.cluster_view import SLOTS
from shardcache.embedded.login import config_of
from shardcache.embedded.ports import MAX_CLUSTER_PORT
from shardcache.embedded.server import LocalServer
from shardcache.embedded.server_group import check_count

__all__ = ("LocalCluster",)

MAX_MASTERS = 16
MAX_REPLICAS = 3
# What ``options`` may override. A replica waits for the first snapshot of its master, which would
# wait for more replicas.
DEFAULTS = {"cluster-node-timeout": "2000", "repl-diskless-sync-delay": "0"}


class LocalCluster(ClusterOperations):
    """A Redis Cluster of local servers (Valkey or Redis), as a context manager; no set-up.

    ``masters``: how many masters, 1 to 16; default 3. They share the slots evenly.
    ``replicas``: how many replicas each master has, 0 to 3; default 0.
    ``password``: the password of all servers; None (default) for none.
    ``port``: the port of the first server, from 1; the others have the next ones, and the cluster
        buses the same ones plus 10000. None (default) for free ports.
    ``directory``: where to make a directory for the files of the servers; nothing is written
        elsewhere. None (default) for the system's temporary directory.
    ``options``: further lines of valkey.conf, such as ``{"cluster-node-timeout": "500"}``
        (milliseconds; 2000 if it is not given); None (default) for none.
    ``binary``: the path of the server program; None (default) for that of `find_server`.
    ``timeout``: seconds that the start may take; default 30. It takes two: so long masters wait
        before they serve a new cluster.

    The servers are named ``node-1``, ``node-2``, and so on; at the start the masters come first. A
    server that is killed and started again is the same node with the slots it had, but empty.

    Servers and directory end as those of `LocalShards` do, also with this process. A forked child
    can use the servers, and never ends them.

    Raises `InvalidOption` for a wrong argument. `start` raises `ServerNotStarted`.
    """

    def __init__(
        self,
        masters: int = 3,
        *,
        replicas: int = 0,
        password: str | None = None,
        port: int | None = None,
        directory: str | os.PathLike[str] | None = None,
        options: Mapping[str, str] | None = None,
        binary: str | None = None,
        timeout: float = 30.0,
    ) -> None:
        self._master_count = check_count("masters", masters, 1, MAX_MASTERS)
        self._count = masters * (1 + check_count("replicas", replicas, 0, MAX_REPLICAS))
        if port is not None:
            check_count("port", port, 1, MAX_CLUSTER_PORT + 1 - self._count)
        super().__init__(
            password=password,
            directory=directory,
            options=options,
            binary=binary,
            timeout=timeout,
        )
        self._port = port
        self._made = 0  # nodes so far

    def _start(self, deadline: float) -> None:
        self._made = 0
        self._launch(tuple(self._new_node() for _ in range(self._count)), deadline)
        self._form(deadline)

    def _new_node(self) -> LocalServer:
        self._made += 1
        # Nodes that join later have free ports.
        port = None
        if self._port is not None and self._made <= self._count:
            port = self._port + self._made - 1
        return self._server(
            f"node-{self._made}",
            {**DEFAULTS, **config_of(self._password), **self._options},
            tcp=True,
            port=port,
            cluster=True,
        )

    def _form(self, deadline: float) -> None:
        """Make a cluster of the servers."""
        with ExitStack() as stack:
            connections = [stack.enter_context(self._connect(server)) for server in self._servers]
            count = self._master_count
            masters, replicas = connections[:count], connections[count:]
            # Slots and epochs are set before anybody meets, so that there is nothing to agree on.
            for at, master in enumerate(masters):
                master.ask("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
                slots = range(at * SLOTS // count, (at + 1) * SLOTS // count)
                master.ask("CLUSTER", "ADDSLOTS", *slots)
            # Each meets each: that gossip brings it about would take seconds.
            for at, connection in enumerate(connections):
                for other in connections[:at]:
                    connection.ask("CLUSTER", "MEET", "127.0.0.1", other.server.port)
            for at, replica in enumerate(replicas):
                self._replicate(replica.server, masters[at % count].server, deadline)
        self.wait_until_ok(timeout=max(0.0, deadline - time.monotonic()))
