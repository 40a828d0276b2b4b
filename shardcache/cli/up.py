"""``up``: runs local shards, or a local cluster, on TCP ports until Ctrl-C."""

import argparse
import shlex
import sys
import time

from shardcache.cli.exit_codes import Exit
from shardcache.cli.parser import Commands, whole
from shardcache.cli.signals import Interrupts
from shardcache.cli.text import columns, say
from shardcache.embedded import LocalCluster, LocalShards
from shardcache.errors import InvalidOption

__all__ = ("add",)

MAX_SHARDS = 64
MAX_REPLICAS = 3
LOOK = 0.5  # seconds between two looks at the servers


def add(commands: Commands) -> None:
    """Add the command."""
    up = commands.add_parser(
        "up",
        help="run shards on this machine until Ctrl-C, and print the URL to paste",
        description="Runs Valkey or Redis servers on ports of 127.0.0.1, without persistence, "
        "until Ctrl-C. With --port their addresses are the same every time. With --cluster they "
        "are the masters of one Redis Cluster.",
        examples=(
            "up",
            "up --shards 5 --port 7001",
            "up --cluster",
            "up --cluster --replicas 1 --port 7001",
        ),
    )
    # How many shards, and where.
    up.add_argument(
        "--shards", type=whole(1, MAX_SHARDS), default=3, metavar="N", help="how many (default: 3)"
    )
    up.add_argument(
        "--port",
        type=whole(1, 65535),
        metavar="P",
        help="the first shard's port; the others have the next ones (default: free ports, others "
        "each time)",
    )
    # As a cluster, whose ports end at 55535: `LocalCluster` checks that.
    up.add_argument(
        "--cluster", action="store_true", help="one Redis Cluster, of which the shards are masters"
    )
    up.add_argument(
        "--replicas",
        type=whole(0, MAX_REPLICAS),
        default=0,
        metavar="N",
        help="with --cluster: how many replicas each master has (default: 0)",
    )
    up.set_defaults(run=_up)


def _up(args: argparse.Namespace) -> int:
    servers = _servers(args)
    with Interrupts() as interrupts:
        try:
            with interrupts.shield():
                servers.start()
            _tell(servers)
            _watch(servers)
        except (KeyboardInterrupt, SystemExit):
            return Exit.FINE  # the way in which this command is meant to end
        finally:
            with interrupts.shield():
                servers.close()
        return Exit.UNAVAILABLE


def _servers(args: argparse.Namespace) -> LocalShards | LocalCluster:
    if args.cluster:
        return LocalCluster(args.shards, replicas=args.replicas, port=args.port)
    if args.replicas:
        raise InvalidOption("--replicas needs --cluster: independent shards have none")
    return LocalShards(args.shards, tcp=True, port=args.port)


def _tell(servers: LocalShards | LocalCluster) -> None:
    if isinstance(servers, LocalCluster):
        _tell_of_cluster(servers)
    else:
        say(f"{len(servers.servers)} shards are up on 127.0.0.1, without persistence:")
        for line in columns((f"  {name}", url) for name, url in servers.urls.items()):
            say(line)
    say()
    say("In another terminal:")
    say(f"  export SHARDCACHE_URL={shlex.quote(servers.url)}")
    say("  shardcache ping")
    say()
    print("Ctrl-C ends them and removes everything.", flush=True)


def _tell_of_cluster(cluster: LocalCluster) -> None:
    masters = cluster.masters
    replicas = {one: master for master in masters for one in cluster.replicas_of(master)}
    parts = [f"{len(masters)} masters"] + ([f"{len(replicas)} replicas"] if replicas else [])
    say(f"A cluster of {' and '.join(parts)} is up on 127.0.0.1, without persistence:")
    rows = []
    for server in cluster.servers:
        slots = ", ".join(f"{first}-{last}" for first, last in cluster.slots(server))
        role = f"replica of {replicas[server].name}" if server in replicas else f"slots {slots}"
        rows.append((f"  {server.name}", server.url, role))
    for line in columns(rows):
        say(line)


def _watch(servers: LocalShards | LocalCluster) -> None:
    """Say so when a server ends; return when none is left."""
    alive = {server.name: server for server in servers.servers}
    while alive:
        time.sleep(LOOK)
        for server in list(alive.values()):
            if not server.running:
                del alive[server.name]
                print(
                    f"shardcache: {server.name} has ended; {len(alive)} left",
                    file=sys.stderr,
                    flush=True,
                )
