"""``manage.py shardcache``: where a key lives, what each shard has, what its server says; clear."""

import sys
from argparse import ArgumentParser
from typing import Any

from django.core.cache import caches
from django.core.management.base import BaseCommand, CommandError

from shardcache.cli.confirm import ask_to_confirm
from shardcache.cli.entry import run
from shardcache.contrib.django.backend import ShardCacheBackend
from shardcache.contrib.django.checks import our_aliases
from shardcache.errors import InvalidArgument

__all__ = ("Command",)


class Command(BaseCommand):
    """Shows a cache of the site over its shards, with the client that the site itself uses."""

    help = "Shows and clears a cache that is spread over shards."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Tell Django what may follow."""
        parser.add_argument("--cache", metavar="ALIAS", help="which entry of CACHES")
        commands = parser.add_subparsers(dest="what", metavar="COMMAND", required=True)
        where = commands.add_parser("where", help="draw on which shard a key lives, and why")
        where.add_argument("key", metavar="KEY", help="the key as the site writes it")
        where.add_argument("--key-version", type=int, help="its version; without: VERSION")
        commands.add_parser("ring", help="show each shard's share of the keys")
        commands.add_parser("stats", help="show each shard's server: version, memory, keys, hits")
        clear = commands.add_parser("clear", help="delete the keys of this KEY_PREFIX and VERSION")
        clear.add_argument("--yes", action="store_true", help="do not ask")

    def handle(self, *_: Any, what: str, cache: str | None, **options: Any) -> None:
        """Do what was asked for."""
        backend = _backend(cache)
        if what == "clear":
            self.stdout.write(str(_clear(backend, yes=options["yes"])))
            return
        key = (
            ["--", backend.make_key(options["key"], options["key_version"])]
            if what == "where"
            else []
        )
        code = run([what, *key], backend.client)
        if code:
            sys.exit(code)


def _backend(alias: str | None) -> ShardCacheBackend:
    ours = our_aliases()
    if alias is None and len(ours) == 1:
        [alias] = ours
    if alias not in ours:
        raise CommandError(
            f"--cache must be one of {', '.join(ours)}"
            if ours
            else "no entry of CACHES has shardcache.contrib.django.ShardCacheBackend"
        )
    backend: ShardCacheBackend = caches[alias]
    return backend


def _clear(backend: ShardCacheBackend, *, yes: bool) -> int:
    around = backend.around_keys()
    if not yes:
        try:
            ask_to_confirm(
                f"Delete every key that begins with {around.before!r}?", "nothing deleted"
            )
        except InvalidArgument as error:
            raise CommandError(str(error)) from None
    return backend.delete_pattern("*")
