"""Runs one command: from its arguments to an exit code, with every error as one line."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import metadata

from shardcache.cli import (
    bench,
    clear,
    completion,
    hot,
    keys,
    lock,
    ping,
    ring,
    scan,
    stats,
    up,
    where,
)
from shardcache.cli.demo import command as demo
from shardcache.cli.exit_codes import Exit
from shardcache.cli.parser import URL_HELP, Parser, Run
from shardcache.cli.streams import OUTPUT_ERRORS, discard_output, finish_output, open_closed_streams
from shardcache.client import ShardCache
from shardcache.errors import (
    InvalidArgument,
    QuorumUnavailable,
    SerializationError,
    ServerNotStarted,
    ShardCacheError,
    ShardError,
)
from shardcache.per_key import COMPILED
from shardcache.urls import redact

__all__ = ("build_parser", "run")

# In the order of the help.
MODULES = (demo, up, ring, where, keys, scan, clear, ping, stats, hot, lock, bench, completion)
TRACEBACK = "SHARDCACHE_TRACEBACK"
EPILOG = (
    "Exit codes: 0 fine; 1 not found, not stored, or the demo saw an error; 2 wrong usage or "
    "input; 3 a shard is unavailable; 74 the output cannot be written; 130 Ctrl-C; those of locks: "
    "shardcache lock run --help"
)


def run(argv: Sequence[str] | None = None, client: ShardCache | None = None) -> int:
    """Do what ``main`` in `shardcache.cli.start` promises; `KeyboardInterrupt` goes up to there.

    ``client``: that of an application; commands then use it instead of a URL. Default: None.
    """
    # Before anything is opened: a closed stream's number must not go to a socket or a file.
    open_closed_streams()
    try:
        parser = build_parser()
        args = parser.parse_args(argv, argparse.Namespace(client=client))
        if "run" not in args:
            parser.print_help()
            parser.exit()
        command: Run = args.run
        code = command(args)
        finish_output()
        return code
    except BrokenPipeError:
        discard_output()  # the reader of the pipe went away
        return Exit.NO
    # Every error of the library has an exit code by its kind.
    except (InvalidArgument, SerializationError) as error:
        return _failed(str(error), Exit.USAGE)
    except (ShardError, ServerNotStarted) as error:
        return _failed(str(error), Exit.UNAVAILABLE)
    except QuorumUnavailable as error:
        return _failed(str(error), Exit.NO_QUORUM)
    except ShardCacheError as error:
        return _failed(str(error), Exit.NO)
    except Exception as error:
        # What is left is a full or closed standard output, or a fault of this program.
        if isinstance(error, OSError) and error.errno in OUTPUT_ERRORS:
            discard_output()
            return _failed(f"cannot write the output: {error.strerror}", Exit.NO_OUTPUT)
        if os.environ.get(TRACEBACK):
            raise
        return _failed(
            f"internal error, {type(error).__name__}: {error} ({TRACEBACK}=1 shows where)", Exit.BUG
        )


def build_parser() -> Parser:
    """Return the parser of the whole command."""
    parser = Parser(
        prog="shardcache",
        description="A cache over several independent Redis or Valkey servers.",
        examples=("demo", "up", "--url 'redis://h1?name=a,redis://h2?name=b' ping"),
        notes=EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"shardcache {_version()}")
    parser.add_argument("--url", help=URL_HELP)
    commands = parser.add_subparsers(metavar="COMMAND")
    for module in MODULES:
        module.add(commands)
    return parser


def _version() -> str:
    try:
        number = metadata.version("shardcache")
    except metadata.PackageNotFoundError:
        number = "(not installed)"
    return f"{number} ({'compiled' if COMPILED else 'pure Python'})"


def _failed(message: str, code: Exit) -> Exit:
    print(f"shardcache: {' '.join(redact(message).split())}", file=sys.stderr)
    return code
