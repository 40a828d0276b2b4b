"""The question before something is deleted or taken away."""

import sys

from shardcache.errors import InvalidArgument

__all__ = ("ask_to_confirm",)


def ask_to_confirm(question: str, refused: str) -> None:
    """Ask ``question`` on standard error; return if the answer on standard input is yes.

    ``refused``: how the error begins if the answer is anything else.

    Raises `InvalidArgument` unless the answer is yes. Where standard input is no terminal nobody
    can answer: then the error names ``--yes``.
    """
    if not sys.stdin.isatty():
        raise InvalidArgument(f"{refused}: standard input is no terminal to confirm on; give --yes")
    sys.stdout.flush()
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise InvalidArgument(refused)
