"""The command ``shardcache``: a demo, local shards, and a look at a ring from a terminal."""

from shardcache.cli.exit_codes import Exit
from shardcache.cli.start import main, program

__all__ = ("Exit", "main", "program")
