"""Commands and replies in words, for histories that people read."""

from typing import Any

from shardcache.flows.lock import scripts

__all__ = ("worded",)

_NAMES = {getattr(scripts, name): name for name in scripts.__all__}


def worded(command: tuple[Any, ...], reply: Any) -> str:
    """Return a command, without its keys, and its reply as text."""
    if command[0] == b"BLPOP":
        return f"BLPOP for {_plain(command[2])} s -> {'waits' if reply is None else 'woken'}"
    arguments = " ".join(_plain(one) for one in command[3 + int(command[2]) :])
    said = " ".join(map(_plain, reply)) if isinstance(reply, list) else _plain(reply)
    return f"{_NAMES[command[1]]} {arguments} -> {said}"


def _plain(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
