"""What an operator does to a cluster: failovers, nodes that join and leave, slots that move."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, suppress

from shardcache.embedded.cluster_state import ClusterState
from shardcache.embedded.cluster_view import SLOTS, ClusterView
from shardcache.embedded.server import LocalServer
from shardcache.embedded.server_connection import ServerConnection
from shardcache.embedded.server_group import check_count
from shardcache.embedded.slot_migration import MigrationStep, migration_steps
from shardcache.embedded.slot_plan import plan_moves
from shardcache.errors import CommandRefused, InvalidOption, ShardUnavailable

__all__ = ("ClusterOperations",)

OnStep = Callable[[MigrationStep], object]
BATCH = 100  # keys of one MIGRATE
SLOW = 20.0  # seconds that a master has for many slots at once
# Seconds after which a failover that has not come about is asked for once more. The server itself
# gives it up after five.
FAILOVER = 6.0


class ClusterOperations(ClusterState):
    """A cluster that can be changed. Each method returns when the cluster is at rest again.

    ``timeout``: of each method: seconds to wait for that; default 60.

    They raise `ServerNotStarted` if it takes longer, `ShardUnavailable` if a node does not answer,
    and `CommandRefused` if it answers with an error.
    """

    def fail_over(
        self,
        replica: LocalServer,
        *,
        force: bool = False,
        takeover: bool = False,
        timeout: float = 60.0,
    ) -> None:
        """Make a replica the master in place of its master (CLUSTER FAILOVER).

        Without ``force`` or ``takeover`` the master takes part, so that no write is lost.

        ``replica``: the replica.
        ``force``: do without the master, which may be down, but with the votes of the others;
            default False.
        ``takeover``: do without votes too; default False.
        """
        deadline = time.monotonic() + timeout
        how = ("TAKEOVER",) if takeover else ("FORCE",) if force else ()
        asked = -FAILOVER

        def not_yet() -> str | None:
            nonlocal asked
            with self._connect(replica) as connection:
                if ClusterView(connection.text("CLUSTER", "NODES")).myself.master is None:
                    return None
                if time.monotonic() - asked >= FAILOVER:
                    connection.ask("CLUSTER", "FAILOVER", *how)
                    asked = time.monotonic()
            return f"{replica.name} is not a master yet"

        if not_yet() is None:
            raise InvalidOption(f"only a replica can fail over, and {replica.name} is a master")
        self._until(not_yet, deadline)
        self.wait_until_ok(timeout=deadline - time.monotonic())

    def add_master(self, *, timeout: float = 60.0) -> LocalServer:
        """Start one more node, a master without slots, and return it."""
        return self._add(None, timeout)

    def add_replica(self, master: LocalServer, *, timeout: float = 60.0) -> LocalServer:
        """Start one more node, a replica, and return it.

        ``master``: its master.
        """
        return self._add(master, timeout)

    def remove_node(
        self, server: LocalServer, *, keep_running: bool = False, timeout: float = 120.0
    ) -> None:
        """Take a node out of the cluster, and end it.

        If it has slots, they go to the other masters first, and its replicas too. If it does not
        answer any more, it must have neither. It is in `servers` no longer.

        ``server``: the node.
        ``keep_running``: True to let it run, as a cluster of its own without slots; default False.
            It ends by `close`.
        ``timeout``: as for all methods, but 120 by default.

        Raises `InvalidOption` if it is the last master, or does not answer and has slots or is to
        run on.
        """
        deadline = time.monotonic() + timeout
        node = self._node(server)
        answers = server in self._answering()
        if keep_running and not answers:
            raise InvalidOption(f"{server.name} does not answer, so it cannot run on by itself")
        if node.slots:
            if not answers:
                raise InvalidOption(f"{server.name} does not answer, so its slots cannot move")
            if len(self.masters) == 1:
                raise InvalidOption(f"{server.name} is the last master, and has all slots")
            # Without its last slot it would become a replica at once. Masters that hear of that
            # first take its slots for unserved, and say CLUSTERDOWN. Redis 6.2 has no such option.
            with self._connect(server) as connection, suppress(CommandRefused):
                connection.ask("CONFIG", "SET", "cluster-allow-replica-migration", "no")
            self._spread({node.id}, None)
            self.wait_until_ok(timeout=deadline - time.monotonic())
        # Of old servers, it may have become a replica when its last slot went.
        for replica in self.replicas_of(server):
            others = [master for master in self.masters if master is not server]
            least = min(others, key=lambda master: len(self.replicas_of(master)))
            self._replicate(replica, least, deadline)
        if not keep_running:
            server.kill()
        # All must forget it within a minute, or gossip brings it back.
        self._servers = tuple(other for other in self._servers if other is not server)
        for other in self._answering():
            with self._connect(other) as connection:
                connection.ask("CLUSTER", "FORGET", node.id)
        if keep_running:
            with self._connect(server) as connection:
                connection.ask("CLUSTER", "RESET", "SOFT")
        self.wait_until_ok(timeout=deadline - time.monotonic())

    def slot_migration(
        self, slot: int, to: LocalServer, *, batch: int = BATCH
    ) -> Iterator[MigrationStep]:
        """Move a slot to another master step by step; what is not iterated is not done.

        So a slot can be left in the middle, with keys on both nodes; moving it again completes it.

        ``slot``: its number, 0 to 16383.
        ``to``: the master that gets it.
        ``batch``: how many keys move at once, 1 to 10000; default 100.

        Raises `InvalidOption` for a wrong slot or batch, or if ``to`` is not a master that answers.
        """
        check_count("slot", slot, 0, SLOTS - 1)
        check_count("batch", batch, 1, 10_000)
        with ExitStack() as stack:
            connections = self._master_connections(stack)
            source, target = self.owner(slot), connections.get(to)
            if target is None:
                raise InvalidOption(f"a slot moves to a master that answers, not to {to.name}")
            if source is None or source not in connections:
                raise ShardUnavailable(to.name, f"the owner of slot {slot} does not answer")
            if source is not to:
                others = [one for server, one in connections.items() if server not in (source, to)]
                yield from migration_steps(
                    (slot,), connections[source], target, others, batch=batch
                )

    def migrate_slot(
        self,
        slot: int,
        to: LocalServer,
        on_step: OnStep | None = None,
        *,
        batch: int = BATCH,
        timeout: float = 60.0,
    ) -> None:
        """Move a slot with its keys to another master, which serves them meanwhile.

        ``slot``, ``to``, ``batch``: as for `slot_migration`.
        ``on_step``: called with each `MigrationStep` after it was taken; None (default) for
            nothing. If it raises, the slot stays as it is then.
        """
        deadline = time.monotonic() + timeout
        for step in self.slot_migration(slot, to, batch=batch):
            if on_step is not None:
                on_step(step)
        self.wait_until_ok(timeout=deadline - time.monotonic())

    def rebalance(self, on_step: OnStep | None = None, *, timeout: float = 120.0) -> int:
        """Move slots until all masters have equally many; return how many slots moved.

        ``on_step``: as for `migrate_slot`.
        ``timeout``: as for all methods, but 120 by default.
        """
        deadline = time.monotonic() + timeout
        moved = self._spread((), on_step)
        self.wait_until_ok(timeout=deadline - time.monotonic())
        return moved

    def _new_node(self) -> LocalServer:
        """Return one more server, which does not run yet."""
        raise NotImplementedError

    def _spread(self, leaving: Collection[str], on_step: OnStep | None) -> int:
        """Share the slots out among the masters that stay."""
        view = self._view()
        with ExitStack() as stack:
            connections = {
                self._node(server).id: connection
                for server, connection in self._master_connections(stack).items()
            }
            moves = plan_moves(
                {identity: view.nodes[identity].slot_numbers() for identity in connections},
                leaving,
            )
            for source, target, slots in moves:
                others = [one for name, one in connections.items() if name not in (source, target)]
                for step in migration_steps(
                    slots, connections[source], connections[target], others, batch=BATCH
                ):
                    if on_step is not None:
                        on_step(step)
        return sum(len(move.slots) for move in moves)

    def _master_connections(self, stack: ExitStack) -> dict[LocalServer, ServerConnection]:
        answering = self._answering()
        return {
            server: stack.enter_context(self._connect(server, SLOW))
            for server in self.masters
            if server in answering
        }

    def _add(self, master: LocalServer | None, timeout: float) -> LocalServer:
        """Start a node, have all others meet it, and make it a replica if it is to be one."""
        deadline = time.monotonic() + timeout
        others = self._answering()
        epochs = [node.epoch for node in self._view().nodes.values()]
        server = self._new_node()
        self._launch((server,), deadline)
        if master is None:
            # An epoch of its own spares the others a conflict that they would have to solve.
            with self._connect(server) as connection:
                connection.ask("CLUSTER", "SET-CONFIG-EPOCH", max(epochs) + 1)
        for other in others:
            with self._connect(other) as connection:
                connection.ask("CLUSTER", "MEET", "127.0.0.1", server.port)
        if master is not None:
            self._replicate(server, master, deadline)
        self.wait_until_ok(timeout=deadline - time.monotonic())
        return server

    def _replicate(self, replica: LocalServer, master: LocalServer, deadline: float) -> None:
        """Make a node a replica, as soon as it knows its master."""
        with self._connect(master) as connection:
            identity = connection.text("CLUSTER", "MYID")

        def unknown() -> str | None:
            with self._connect(replica) as connection:
                node = ClusterView(connection.text("CLUSTER", "NODES")).nodes.get(identity)
                if node is None or "handshake" in node.flags:
                    return f"{replica.name} does not know {master.name} yet"
                connection.ask("CLUSTER", "REPLICATE", identity)
            return None

        self._until(unknown, deadline)
