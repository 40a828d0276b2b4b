"""The argument parser: errors in one line, and the option ``--url`` on either side of the command's name."""

import argparse
from collections.abc import Callable
from typing import NoReturn, TypeAlias

from shardcache.cli.codes import Exit
from shardcache.urls import redact

__all__ = ("Commands", "Parser", "Run", "number", "takes_url", "whole")

Run: TypeAlias = Callable[[argparse.Namespace], int]
Commands: TypeAlias = "argparse._SubParsersAction[Parser]"

URL_HELP = (
    "the shards, as in 'redis://h1:6379,h2:6379/0?namespace=shop'; without it, what the environment variable "
    "SHARDCACHE_URL says"
)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without credentials, and ends with code 2."""

    def error(self, message: str) -> NoReturn:
        line = " ".join(redact(message).split())
        self.exit(Exit.USAGE, f"shardcache: {line} (see {self.prog} --help)\n")


def takes_url(parser: argparse.ArgumentParser, help: str = URL_HELP) -> None:
    """Add ``--url`` to a command; one that was given before the command's name stays unless it is given again."""
    parser.add_argument("--url", default=argparse.SUPPRESS, help=help)


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return a converter to whole numbers from ``low`` to ``high``."""

    def convert(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"must be a whole number from {low} to {high}, got {text!r:.80}")
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
            raise argparse.ArgumentTypeError(f"must be a number from {low:g} to {high:g}, got {text!r:.80}")
        return value

    return convert
