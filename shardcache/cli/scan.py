"""``keys``: lists the keys of a namespace, shard by shard."""

import argparse
import json
from itertools import islice

from shardcache.cli.connect import open_client
from shardcache.cli.exit_codes import Exit
from shardcache.cli.parser import Commands, key, takes_url, whole
from shardcache.cli.text import key_text, printable, say

__all__ = ("add",)

MOST = 999_999_999


def add(commands: Commands) -> None:
    """Add the command."""
    keys = commands.add_parser(
        "keys",
        help="list the keys of the namespace that fit a glob",
        description="Lists the keys of the URL's namespace, shard by shard, by SCAN: the servers "
        "go on serving meanwhile. A key that is there all the while comes at least once. Exit code "
        "3 if a shard does not answer.",
        examples=("keys", "keys 'user:*' --limit 20", "keys --json | jq -r '.[]'"),
    )
    # Which keys, and how many of them.
    keys.add_argument(
        "match",
        metavar="GLOB",
        type=key,
        nargs="?",
        default="*",
        help="as in Redis, such as 'user:*' (default: *)",
    )
    keys.add_argument(
        "--limit", type=whole(1, MOST), metavar="N", help="stop after so many (default: list all)"
    )
    # How they are printed.
    keys.add_argument(
        "--json",
        action="store_true",
        help="print a JSON array; bytes that are no UTF-8 are escaped",
    )
    keys.set_defaults(run=_keys)
    takes_url(keys)


def _keys(args: argparse.Namespace) -> int:
    with open_client(args) as cache:
        found = islice(map(key_text, cache.scan(args.match)), args.limit)
        if args.json:
            say(json.dumps(list(found), ensure_ascii=False))
        else:
            for one in found:
                say(printable(one))
    return Exit.FINE
