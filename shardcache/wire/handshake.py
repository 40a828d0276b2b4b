"""The first words on a new connection, and whether the server may stand on a ring at all.

Everything that the server must hear goes out in one write: HELLO (with AUTH and SETNAME) and
SELECT; and INFO, for the run id that tells one life of a server from the next. The answer to HELLO tells
the server's mode and role. A server that does not know HELLO or RESP3 is asked again in RESP2, by AUTH, INFO and ROLE.
What a proxy does not know of these is left out: a name and a run id are no reason to go without a cache.
"""

import re
from collections.abc import Generator

from shardcache.errors import CommandRefused, OutOfStep, ShardError, WrongTopology
from shardcache.flows.steps import ServerRun
from shardcache.options import Options
from shardcache.refusals import explained, words
from shardcache.resp import Command, ErrorReply, Reply, as_error, decimal
from shardcache.urls import Address

__all__ = ("handshake", "hung_up")

Handshake = Generator[list[Command], list[Reply], ServerRun | None]
_INFO: Command = (b"INFO", b"server")
_UNKNOWN = ("unknown command", "unsupported")
_QUOTED = 120  # characters of what a server says before it hangs up: protected mode explains itself at length
_RUN = re.compile(rb"^run_id:(\w+)\r?$.*^uptime_in_seconds:(\d+)\r?$", re.MULTILINE | re.DOTALL)


def handshake(
    shard: str, address: Address, options: Options, login: tuple[bytes, ...]
) -> Handshake:
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
        if not _knows_no_hello(greeting, login):
            _check(shard, address, replies)
            raise OutOfStep(shard, f"HELLO was answered with {type(greeting).__name__}")
    auth: list[Command] = [(b"AUTH", *login)] if login else []
    name: list[Command] = []
    if options.client_name:
        name.append((b"CLIENT", b"SETNAME", options.client_name.encode()))
    replies = yield [*auth, *name, *select, _INFO, (b"ROLE",)]
    if name:  # it is for operators only: where it is refused, the connection goes without
        replies = [*replies[: len(auth)], *replies[len(auth) + 1 :]]
    info, role = replies[-2:]
    if (
        isinstance(info, bytes) and isinstance(role, list) and role
    ):  # else the ACL hides it, and it stays unknown
        mode = (
            b"cluster"
            if b"_mode:cluster" in info
            else b"sentinel"
            if role[0] == b"sentinel"
            else b""
        )
        _place(shard, mode, b"replica" if role[0] == b"slave" else b"master")
    _check(shard, address, replies[:-2])
    for reply in (info, role):
        if isinstance(reply, ErrorReply) and not (
            str(reply).startswith("NOPERM") or _unknown(reply)
        ):
            _check(shard, address, [reply])
    return _run(info)


def hung_up(error: Exception, replies: list[Reply]) -> ConnectionError | None:
    """Return an error that quotes the server, if it said why it would end the connection that it has just taken.

    So do a server that has all the clients it lets in, and one in protected mode. ``error`` is what came of it here.
    """
    said = next((reply for reply in replies if isinstance(reply, ErrorReply)), None)
    if said is None or not isinstance(error, (ConnectionError, OutOfStep)):
        return None
    return ConnectionError(
        f"the server hung up, and said why: it {explained(words(str(said))[:_QUOTED])}"
    )


def _run(info: Reply) -> ServerRun | None:
    found = (
        _RUN.search(info) if isinstance(info, bytes) else None
    )  # RESP3 has texts of its own kind; some proxies none
    # The server counts in whole seconds of its wall clock, and may be up for almost one less than it says.
    return ServerRun(found[1], max(float(found[2]) - 1.0, 0.0)) if found else None


def _unknown(reply: Reply) -> bool:
    """Whether this refuses a command as one that is not known. Proxies do so in words of their own."""
    return isinstance(reply, ErrorReply) and any(sign in str(reply).lower() for sign in _UNKNOWN)


def _knows_no_hello(reply: Reply, login: tuple[bytes, ...]) -> bool:
    """Whether the server is too old for HELLO or RESP3, or a proxy that hides them.

    Some proxies ask for a login where HELLO brings one along; a server never does.
    """
    text = str(reply) if isinstance(reply, ErrorReply) else ""
    return (
        _unknown(reply) or text.startswith("NOPROTO") or (bool(login) and text.startswith("NOAUTH"))
    )


def _check(shard: str, address: Address, replies: list[Reply]) -> None:
    for reply in replies:
        if isinstance(reply, ErrorReply):
            error: ShardError = as_error(shard, reply)
            if isinstance(error, CommandRefused) and "DB index" in error.reason:
                error = CommandRefused(
                    shard, f"has no database {address.db} ({error.reason})", error.code
                )
            raise error


def _place(shard: str, mode: bytes, role: bytes) -> None:
    if mode == b"cluster":
        raise WrongTopology(
            shard,
            "is a member of a Redis Cluster, which places keys itself; a ring takes independent servers",
        )
    if mode == b"sentinel":
        raise WrongTopology(shard, "is a Sentinel; a ring takes the data servers")
    if role in (b"replica", b"slave"):
        raise WrongTopology(shard, "is a replica and takes no writes; a ring takes primaries")
