"""``up``: local shards on TCP ports, until Ctrl-C."""

import argparse
import shlex
import sys
import time

from shardcache.cli.exit_codes import Exit
from shardcache.cli.parser import Commands, whole
from shardcache.cli.signals import Interrupts
from shardcache.cli.text import columns, say
from shardcache.embedded import LocalShards

__all__ = ("add",)

MAX_SHARDS = 64
LOOK = 0.5  # seconds between two looks at the servers


def add(commands: Commands) -> None:
    """Add the command."""
    up = commands.add_parser(
        "up",
        help="run shards on this machine until Ctrl-C, and print the URL to paste",
        description="Runs Valkey servers on ports of 127.0.0.1, without persistence, until Ctrl-C. With --port their addresses "
        "are the same every time.",
        examples=("up", "up --shards 5 --port 7001"),
    )
    up.add_argument(
        "--shards", type=whole(1, MAX_SHARDS), default=3, metavar="N", help="how many (default: 3)"
    )
    up.add_argument(
        "--port",
        type=whole(1, 65535),
        metavar="P",
        help="the first shard's port; the others have the next ones (default: free ports, others each time)",
    )
    up.set_defaults(run=_up)


def _up(args: argparse.Namespace) -> int:
    with Interrupts() as interrupts:
        servers = LocalShards(args.shards, tcp=True, port=args.port)
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


def _tell(servers: LocalShards) -> None:
    say(f"{len(servers.servers)} shards are up on 127.0.0.1, without persistence:")
    for line in columns((f"  {name}", url) for name, url in servers.urls.items()):
        say(line)
    say()
    say("In another terminal:")
    say(f"  export SHARDCACHE_URL={shlex.quote(servers.url)}")
    say("  shardcache ping")
    say()
    print("Ctrl-C ends them and removes everything.", flush=True)


def _watch(servers: LocalShards) -> None:
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
