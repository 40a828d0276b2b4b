"""``get``, ``set`` and ``del``: single keys from a terminal."""

import argparse
import json
import sys
from typing import Any

from shardcache.cli.connect import open_client
from shardcache.cli.exit_codes import Exit
from shardcache.cli.parser import Commands, key, number, takes_url
from shardcache.cli.text import say
from shardcache.errors import SerializationError
from shardcache.results import MISS
from shardcache.ttl import DEFAULT

__all__ = ("add",)

YEAR = 365 * 24 * 3600


def add(commands: Commands) -> None:
    """Add the three commands."""
    # get
    get = commands.add_parser(
        "get",
        help="print the value of a key; exit code 1 if it is not there",
        description="Prints the value of a key: text and bytes as they are, other values as Python "
        "writes them, or as JSON. Exit code 1 if the key is not there.",
        examples=("get user:1", "get user:1 --json | jq .name"),
    )
    get.add_argument("key", metavar="KEY", type=key)
    get.add_argument(
        "--json", action="store_true", help="print as JSON; otherwise text and bytes as they are"
    )
    get.set_defaults(run=_get)
    takes_url(get)

    # set
    put = commands.add_parser(
        "set",
        help="store a value",
        description="Stores a value. Exit code 1 if it was not stored.",
        examples=("set greeting hello --ttl 60", """set user:1 --json '{"name": "Ada"}'"""),
    )
    put.add_argument("key", metavar="KEY", type=key)
    put.add_argument("value", metavar="VALUE", type=key, help="text, or any JSON value with --json")
    put.add_argument(
        "--json", action="store_true", help="VALUE is JSON: 5 is a number then, and null is None"
    )
    put.add_argument(
        "--ttl",
        type=_ttl,
        default=DEFAULT,
        metavar="SECONDS",
        help="how long to keep it, or 'none' for no expiry (default: what the URL says, else 300)",
    )
    put.set_defaults(run=_set)
    takes_url(put)

    # del
    delete = commands.add_parser(
        "del",
        help="delete keys; prints how many were there",
        description="Deletes keys, and prints how many were there.",
        examples=("del user:1 user:2",),
    )
    delete.add_argument("keys", metavar="KEY", nargs="+", type=key)
    delete.set_defaults(run=_delete)
    takes_url(delete)


def _ttl(text: str) -> float | None:
    return None if text.lower() == "none" else number(0.001, 100 * YEAR)(text)


def _get(args: argparse.Namespace) -> int:
    with open_client(args) as cache:
        value = cache.get(args.key, MISS)
    if value is MISS:
        print(f"shardcache: no value under {args.key!r}", file=sys.stderr)
        return Exit.NO
    if args.json:
        say(_json(value))
    elif isinstance(value, bytes):
        # Bytes go out as they are, behind the text that is still in the buffer.
        sys.stdout.flush()
        sys.stdout.buffer.write(value)
    else:
        say(value if isinstance(value, str) else repr(value))
    return Exit.FINE


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SerializationError(
            f"the value cannot be shown as JSON ({error}); leave out --json"
        ) from None


def _set(args: argparse.Namespace) -> int:
    value = args.value
    if args.json:
        try:
            value = json.loads(value)
        except ValueError as error:
            raise SerializationError(f"VALUE is not JSON ({error}), got {value!r:.80}") from None
    with open_client(args) as cache:
        stored = cache.set(args.key, value, args.ttl)
    say("stored" if stored else "not stored")
    return Exit.FINE if stored else Exit.NO


def _delete(args: argparse.Namespace) -> int:
    with open_client(args) as cache:
        say(str(cache.delete_many(args.keys)))
    return Exit.FINE
