"""The argument parser: errors in one line, help with examples, and converters of arguments."""

import argparse
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from shardcache.cli.exit_codes import Exit
from shardcache.cli.streams import finish_output
from shardcache.keys import Key
from shardcache.urls import redact

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

__all__ = ("Commands", "Parser", "Run", "key", "number", "takes_url", "whole")

Run: TypeAlias = Callable[[argparse.Namespace], int]
Commands: TypeAlias = "argparse._SubParsersAction[Parser]"

URL_HELP = (
    "the shards, as in 'redis://h1:6379?name=a,redis://h2:6379?name=b&namespace=shop'; without it, "
    "what the environment variable SHARDCACHE_URL says"
)


class Parser(argparse.ArgumentParser):
    """A parser that says in one line what is wrong, without credentials, and ends with code 2.

    ``description``: what the command does, in sentences.
    ``examples``: argument lists to copy, without the program's name.
    ``notes``: the text at the end of the help.
    ``settings``: as in `argparse.ArgumentParser`.
    """

    def __init__(
        self,
        *,
        description: str = "",
        examples: Sequence[str] = (),
        notes: str = "",
        **settings: Any,
    ) -> None:
        width = shutil.get_terminal_size().columns - 2
        paragraphs = [_example(examples)] if examples else []
        if notes:
            paragraphs.append(textwrap.fill(notes, width))
        super().__init__(
            description=textwrap.fill(description, width),
            epilog="\n\n".join(paragraphs),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **settings,
        )

    def error(self, message: str) -> NoReturn:
        line = " ".join(redact(message).split())
        self.exit(Exit.USAGE, f"shardcache: {line} (see {self.prog} --help)\n")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        finish_output()
        super().exit(status, message)

    def _print_message(self, message: str, file: "SupportsWrite[str] | None" = None) -> None:
        # argparse ignores errors here, so --help on a full disk would count as success.
        (file or sys.stderr).write(message)


def _example(lines: Sequence[str]) -> str:
    return "\n".join(
        (
            "Example:" if len(lines) == 1 else "Examples:",
            *(f"  shardcache {line}" for line in lines),
        )
    )


def takes_url(parser: argparse.ArgumentParser, help: str = URL_HELP) -> None:
    """Add ``--url`` to a command.

    ``help``: the help text of the option.

    A ``--url`` before the command's name counts too, unless another one stands behind the name.
    """
    parser.add_argument("--url", default=argparse.SUPPRESS, help=help)


def key(text: str) -> Key:
    """Return a key, a value or a glob as it was typed.

    ``text``: the argument as Python decoded it.

    It is bytes if the typed bytes are no text in the terminal's encoding, else text.
    """
    try:
        text.encode()
    except UnicodeEncodeError:  # Python has escaped bytes that it could not decode
        return os.fsencode(text)
    return text


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return a converter to whole numbers from ``low`` to ``high``."""

    def convert(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(
                f"must be a whole number from {low} to {high}, got {text!r:.80}"
            )
        return int(text)

    return convert


def number(low: float, high: float) -> Callable[[str], float]:
    """Return a converter to numbers from ``low`` to ``high``."""

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:  # NaN as well
            raise argparse.ArgumentTypeError(
                f"must be a number from {low:g} to {high:g}, got {text!r:.80}"
            )
        return value

    return convert
