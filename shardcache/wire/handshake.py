"""The handshake on a new connection, and the check that the server is of the kind expected.

All commands go out in one write: HELLO (with AUTH and SETNAME), SELECT or READONLY, and INFO for
the run id, which differs between two runs of a server. The answer to HELLO tells the server's mode
and role. A server that does not know HELLO or RESP3 is asked again in RESP2, by AUTH, INFO and
ROLE. If a proxy does not know one of these commands, the client goes on without its answer: neither
a name nor a run id is needed to use the cache.
"""

import re
from collections.abc import Generator

from shardcache.errors import CommandRefused, OutOfStep, ShardError
from shardcache.flows.steps import ServerRun
from shardcache.options import Options
from shardcache.refusals import explained, words
from shardcache.resp import Command, ErrorReply, Reply, as_error
from shardcache.urls import Address
from shardcache.wire.server_kind import ServerKind, check_kind

__all__ = ("handshake_flow", "hung_up")

Handshake = Generator[list[Command], list[Reply], ServerRun | None]
_INFO: Command = (b"INFO", b"server")
_UNKNOWN = ("unknown command", "unsupported")
# Characters that are quoted of what a server says before it closes the connection: the text of
# protected mode is long.
_QUOTED = 120
_MODE = re.compile(rb"^\w+_mode:(\w+)", re.MULTILINE)  # redis_mode, server_mode
_RUN = re.compile(rb"^run_id:(\w+)\r?$.*^uptime_in_seconds:(\d+)\r?$", re.MULTILINE | re.DOTALL)


def handshake_flow(
    shard: str,
    address: Address,
    options: Options,
    login: tuple[bytes, ...],
    kind: ServerKind = "standalone",
) -> Handshake:
    """Yield commands to send in one write, and take their replies, until the client is logged in.

    Returns the run of the server, or None if the server does not tell it.
    Raises `ShardError` if the server refuses.

    ``login``: what AUTH takes: a password, a user and a password, or nothing.
    ``kind``: what the server must be; another one is `WrongTopology`.
    """
    select: list[Command] = [(b"SELECT", b"%d" % address.db)] if address.db else []
    if kind == "cluster-reads":
        select.append((b"READONLY",))  # or a replica sends each read to its primary
    if options.protocol == 3:
        # RESP3: HELLO carries the login and the name, and its answer the mode and the role.
        hello: Command = (b"HELLO", b"3")
        if login:
            hello += (b"AUTH", *(login if len(login) == 2 else (b"default", *login)))
        if options.client_name:
            hello += (b"SETNAME", options.client_name.encode())
        *replies, info = yield [hello, *select, _INFO]
        greeting = replies[0]
        if isinstance(greeting, dict):
            check_kind(shard, kind, greeting.get(b"mode", b""), greeting.get(b"role", b""))
            _check(shard, address, replies[1:])
            return _run(info)
        # Only a server that does not know HELLO is asked again; any other answer is an error.
        if not _knows_no_hello(greeting, login):
            _check(shard, address, replies)
            raise OutOfStep(shard, f"HELLO was answered with {type(greeting).__name__}")
    # RESP2: each step is a command of its own.
    auth: list[Command] = [(b"AUTH", *login)] if login else []
    name: list[Command] = []
    if options.client_name:
        name.append((b"CLIENT", b"SETNAME", options.client_name.encode()))
    replies = yield [*auth, *name, *select, _INFO, (b"ROLE",)]
    if name:  # the name is for operators only, so its refusal is ignored
        replies = [*replies[: len(auth)], *replies[len(auth) + 1 :]]
    info, role = replies[-2:]
    # If an ACL hides INFO or ROLE, the mode and the role stay unknown.
    if isinstance(info, bytes) and isinstance(role, list) and role:
        said = _MODE.search(info)
        mode = role[0] if role[0] == b"sentinel" else said[1] if said else b""
        check_kind(shard, kind, mode, role[0])
    _check(shard, address, replies[:-2])
    # A refusal of INFO or ROLE by an ACL or a proxy is no error; any other one is.
    for reply in (info, role):
        if isinstance(reply, ErrorReply) and not (
            str(reply).startswith("NOPERM") or _unknown(reply)
        ):
            _check(shard, address, [reply])
    return _run(info)


def hung_up(error: Exception, replies: list[Reply]) -> ConnectionError | None:
    """Return an error that quotes the server, if it said why it closes the new connection.

    A server says so when it has reached its limit of clients, and in protected mode.

    ``error``: the error that the handshake ended with.
    """
    said = next((reply for reply in replies if isinstance(reply, ErrorReply)), None)
    if said is None or not isinstance(error, (ConnectionError, OutOfStep)):
        return None
    return ConnectionError(
        f"the server hung up, and said why: it {explained(words(str(said))[:_QUOTED])}"
    )


def _run(info: Reply) -> ServerRun | None:
    # The answer of some proxies is not a text.
    found = _RUN.search(info) if isinstance(info, bytes) else None
    # The server counts whole seconds of its wall clock, so it may be up for almost one less.
    return ServerRun(found[1], max(float(found[2]) - 1.0, 0.0)) if found else None


def _unknown(reply: Reply) -> bool:
    """Whether a reply says that the command is not known. Proxies use other words for it."""
    return isinstance(reply, ErrorReply) and any(sign in str(reply).lower() for sign in _UNKNOWN)


def _knows_no_hello(reply: Reply, login: tuple[bytes, ...]) -> bool:
    """Whether the server is too old for HELLO or RESP3, or a proxy that hides them.

    Some proxies ask for a login although HELLO contains one; a server never does.
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
