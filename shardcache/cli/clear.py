"""``clear``: deletes every key of a namespace."""

import argparse

from shardcache.cli.confirm import ask_to_confirm
from shardcache.cli.connect import open_client
from shardcache.cli.exit_codes import Exit
from shardcache.cli.parser import Commands, takes_url
from shardcache.cli.text import say

__all__ = ("add",)


def add(commands: Commands) -> None:
    """Add the command."""
    clear = commands.add_parser(
        "clear",
        help="delete every key of the namespace; prints how many were there",
        description="Deletes every key of the URL's namespace on all shards, after a question. "
        "Other namespaces and locks stay. A URL without a namespace means every key of these "
        "databases. Exit code 3 if a shard does not answer.",
        examples=(
            "--url 'redis://h1:6379?name=a,redis://h2:6379?name=b&namespace=shop' clear",
            "clear --yes",
        ),
    )
    clear.add_argument("--yes", action="store_true", help="do not ask")
    clear.set_defaults(run=_clear)
    takes_url(clear)


def _clear(args: argparse.Namespace) -> int:
    with open_client(args) as cache:
        # Without a namespace the prefix is empty, and all keys of the databases are meant.
        if not args.yes:
            prefix = cache._context.keys.prefix.decode("utf-8", "backslashreplace")
            what = (
                f"every key that begins with {prefix!r}"
                if prefix
                else "every key, since the URL names no namespace,"
            )
            ask_to_confirm(
                f"Delete {what} on {', '.join(cache.stats().shards)}?", "nothing deleted"
            )
        say(str(cache.clear()))
    return Exit.FINE
