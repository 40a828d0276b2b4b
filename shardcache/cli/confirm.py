"""The question before something is taken away."""

import sys

from shardcache.errors import InvalidArgument

__all__ = ("confirm",)


def confirm(question: str, refused: str) -> None:
    """Ask ``question``; raise `InvalidArgument`, beginning with ``refused``, unless the answer is yes.

    Where standard input is no terminal nobody can answer: the error names ``--yes``.
    """
    if not sys.stdin.isatty():
        raise InvalidArgument(f"{refused}: standard input is no terminal to confirm on; give --yes")
    sys.stdout.flush()
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise InvalidArgument(refused)
