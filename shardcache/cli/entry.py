"""The entry point: from the arguments to an exit code, and every error to one line."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import metadata

from shardcache.cli import demo, keys, lock, ping, ring, up, where
from shardcache.cli.codes import Exit
from shardcache.cli.parser import URL_HELP, Parser, Run
from shardcache.errors import (
    InvalidArgument,
    QuorumUnavailable,
    SerializationError,
    ServerNotStarted,
    ShardCacheError,
    ShardError,
)
from shardcache.urls import redact

__all__ = ("main",)

TRACEBACK = "SHARDCACHE_TRACEBACK"
EPILOG = (
    "exit codes: 0 fine; 1 not found, not stored, or the demo saw an error; 2 wrong usage or input; "
    "3 a shard is unavailable; 130 Ctrl-C; those of locks: shardcache lock run --help"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see `Exit`).

    ``argv``: the arguments without the program's name, by default the process' own. Values
    go to standard output, errors in one line to standard error. Usage errors and ``--help`` raise
    `SystemExit`, as argparse does.
    """
    args = _parser().parse_args(argv)
    run: Run = args.run
    try:
        code = run(args)
        sys.stdout.flush()  # here, where a reader that went away can still be answered for
        return code
    except KeyboardInterrupt:
        return _failed("interrupted", Exit.INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output went away; without this, the interpreter would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.NO
    except (InvalidArgument, SerializationError) as error:
        return _failed(str(error), Exit.USAGE)
    except (ShardError, ServerNotStarted) as error:
        return _failed(str(error), Exit.UNAVAILABLE)
    except QuorumUnavailable as error:
        return _failed(str(error), Exit.NO_QUORUM)
    except ShardCacheError as error:
        return _failed(str(error), Exit.NO)
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        return _failed(f"internal error, {type(error).__name__}: {error} ({TRACEBACK}=1 shows where)", Exit.BUG)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="shardcache",
        description="A cache over several independent Redis or Valkey servers. Try: shardcache demo",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"shardcache {_version()}")
    parser.add_argument("--url", help=URL_HELP)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in (demo, up, ring, where, keys, ping, lock):
        module.add(commands)
    return parser


def _version() -> str:
    try:
        return metadata.version("shardcache")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _failed(message: str, code: Exit) -> Exit:
    print(f"shardcache: {' '.join(redact(message).split())}", file=sys.stderr)
    return code
