"""The first step of the command, which imports next to nothing: Ctrl-C is answered from here on."""

import sys
from collections.abc import Sequence

from shardcache.cli.codes import Exit

__all__ = ("main",)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see `Exit`).

    ``argv``: the arguments without the program's name, by default the process' own. Values
    go to standard output, errors in one line to standard error. Usage errors and ``--help`` raise
    `SystemExit`, as argparse does.
    """
    try:
        from shardcache.cli.entry import run

        return run(argv)
    except KeyboardInterrupt:
        print("shardcache: interrupted", file=sys.stderr)
        return Exit.INTERRUPTED
