"""The first words on a new connection, and whether the server may stand on a ring at all.

Everything that the server must hear goes out in one write: HELLO (with AUTH and SETNAME) and
SELECT; and INFO, for the run id that tells one life of a server from the next. The answer to HELLO tells
the server's mode and role. A server that does not know HELLO or RESP3 is asked again in RESP2, by AUTH, INFO and ROLE.
"""

import re
from collections.abc import Generator

from shardcache.commands import Command, ErrorReply, Reply, as_error, decimal
from shardcache.errors import CommandRefused, OutOfStep, ShardError, WrongTopology
from shardcache.flows.steps import Run
from shardcache.options import Options
from shardcache.urls import Address

__all__ = ("handshake",)

Handshake = Generator[list[Command], list[Reply], Run | None]
_INFO: Command = (b"INFO", b"server")
_RUN = re.compile(rb"^run_id:(\w+)\r?$.*^uptime_in_seconds:(\d+)\r?$", re.MULTILINE | re.DOTALL)


def handshake(shard: str, address: Address, options: Options, login: tuple[bytes, ...]) -> Handshake:
    """Yield commands to send at once, take their replies; end when logged in. Raises `ShardError` for a no.

    ``login`` is what AUTH takes: a password, a user and a password, or nothing.

    Returns which life of the server this is, or None where it does not say so.
    """
    select: list[Command] = [(b"SELECT", decimal(address.db))] if address.db else []
    if options.protocol == 3:
        hello: Command = (b"HELLO", b"3")
        if login:
            hello += (b"AUTH", *(login if len(login) == 2 else (b"default", *login)))
        if options.client_name:
            hello += (b"SETNAME", options.client_name.encode())
        *replies, info = yield [hello, *select, _INFO]
        greeting = replies[0]
        if isinstance(greeting, dict):
            _place(shard, greeting.get(b"mode", b"standalone"), greeting.get(b"role", b"master"))
            _check(shard, address, replies[1:])
            return _run(info)
        if not _too_old(greeting):
            _check(shard, address, replies)
            raise OutOfStep(shard, f"HELLO was answered with {type(greeting).__name__}")
    commands: list[Command] = [(b"AUTH", *login)] if login else []
    if options.client_name:
        commands.append((b"CLIENT", b"SETNAME", options.client_name.encode()))
    replies = yield [*commands, *select, _INFO, (b"ROLE",)]
    info, role = replies[-2:]
    if isinstance(info, bytes) and isinstance(role, list) and role:  # else the ACL hides it, and it stays unknown
        mode = b"cluster" if b"_mode:cluster" in info else b"sentinel" if role[0] == b"sentinel" else b""
        _place(shard, mode, b"replica" if role[0] == b"slave" else b"master")
    _check(shard, address, replies[:-2])
    for reply in (info, role):
        if isinstance(reply, ErrorReply) and not str(reply).startswith(("NOPERM", "ERR unknown command")):
            _check(shard, address, [reply])
    return _run(info)


def _run(info: Reply) -> Run | None:
    found = _RUN.search(info) if isinstance(info, bytes) else None  # RESP3 has texts of its own kind; some proxies none
    # The server counts in whole seconds of its wall clock, and may be up for almost one less than it says.
    return Run(found[1], max(float(found[2]) - 1.0, 0.0)) if found else None


def _too_old(reply: Reply) -> bool:
    """Whether the server is too old for HELLO or RESP3 (or a proxy that hides them)."""
    return isinstance(reply, ErrorReply) and str(reply).lower().startswith(("err unknown command", "noproto"))


def _check(shard: str, address: Address, replies: list[Reply]) -> None:
    for reply in replies:
        if isinstance(reply, ErrorReply):
            error: ShardError = as_error(shard, reply)
            if isinstance(error, CommandRefused) and "DB index" in error.reason:
                error = CommandRefused(shard, f"has no database {address.db} ({error.reason})", error.code)
            raise error


def _place(shard: str, mode: bytes, role: bytes) -> None:
    if mode == b"cluster":
        raise WrongTopology(
            shard, "is a member of a Redis Cluster, which places keys itself; a ring takes independent servers"
        )
    if mode == b"sentinel":
        raise WrongTopology(shard, "is a Sentinel; a ring takes the data servers")
    if role in (b"replica", b"slave"):
        raise WrongTopology(shard, "is a replica and takes no writes; a ring takes primaries")
