"""The first step of the command, which imports next to nothing: Ctrl-C is answered from here on."""

import sys
from collections.abc import Sequence

from shardcache.cli.exit_codes import Exit

__all__ = ("main", "program")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see `Exit`).

    ``argv``: the arguments without the program's name; by default those of the process.

    Values go to standard output, errors in one line to standard error. Usage errors and ``--help``
    raise `SystemExit`, as argparse does.
    """
    try:
        from shardcache.cli.entry import run

        return run(argv)
    except KeyboardInterrupt:
        return _interrupted()


def program() -> int:
    """Run `main` as a whole process, and return its exit code.

    After the first Ctrl-C, no further one disturbs the cleaning up or the interpreter's end.
    """
    try:
        from shardcache.cli.ctrl_c import CtrlC

        ctrl_c = CtrlC()
        try:
            ctrl_c.begin()
            return main()
        finally:
            ctrl_c.end()
    except KeyboardInterrupt:
        return _interrupted()


def _interrupted() -> Exit:
    print("shardcache: interrupted", file=sys.stderr)
    return Exit.INTERRUPTED
