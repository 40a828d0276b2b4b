"""``completion``: a script by which a shell completes the command's words."""

import argparse

from shardcache.cli.exit_codes import Exit
from shardcache.cli.parser import Commands
from shardcache.cli.text import say
from shardcache.errors import InvalidOption

__all__ = ("add",)

SHELLS = ("bash", "zsh", "fish", "tcsh")


def add(commands: Commands) -> None:
    """Add the command."""
    completion = commands.add_parser(
        "completion",
        help="print a script with which a shell completes this command",
        description="Prints a script with which your shell completes commands and options. "
        "It is made by shtab, which pip install 'shardcache[cli]' brings.",
        examples=(
            "completion bash > ~/.local/share/bash-completion/completions/shardcache",
            "completion zsh > ~/.zfunc/_shardcache",
            "completion fish > ~/.config/fish/completions/shardcache.fish",
        ),
    )
    completion.add_argument(
        "shell", metavar="SHELL", choices=SHELLS, help=f"one of {', '.join(SHELLS)}"
    )
    completion.set_defaults(run=_completion)


def _completion(args: argparse.Namespace) -> int:
    from shardcache.cli.entry import build_parser

    try:
        import shtab
    except ImportError:
        raise InvalidOption(
            "completion needs shtab: pip install 'shardcache[cli]' brings it"
        ) from None
    say(shtab.complete(build_parser(), shell=args.shell).rstrip())
    return Exit.FINE
