"""What error replies say to people: the words of each server, and what is left out of them."""

import traceback

import pytest

from shardcache.errors import (
    AccessDenied,
    AuthenticationFailed,
    CommandRefused,
    OutOfMemory,
    ShardUnavailable,
    WritesRefused,
    WrongType,
)
from shardcache.resp import ErrorReply, as_error

# What Redis 5 to 7 and Valkey answer to the same mistake, in a script and outside of one.
REPLIES = {
    "list": (
        WrongType,
        "another kind of value",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
    ),
    "list, Valkey": (
        WrongType,
        "another kind of value",
        "WRONGTYPE Operation against a key script: on @user_script:2.",
    ),
    "list, Redis 7": (
        WrongType,
        "another kind of value",
        "WRONGTYPE Operation script: 15c0234b83, on @user_script:2.",
    ),
    "list, Redis 6": (
        WrongType,
        "another kind of value",
        (
            "ERR Error running script (call to f_15c0): @user_script:2: "
            "WRONGTYPE Operation against a key"
        ),
    ),
    "text": (
        WrongType,
        "no whole number",
        "ERR value is not an integer or out of range script: on @user_script:2.",
    ),
    "sum": (WrongType, "not fit in 64 bits", "ERR increment or decrement would overflow"),
    "memory": (OutOfMemory, "maxmemory", "OOM command not allowed when used memory > 'maxmemory'."),
    "replica": (
        WritesRefused,
        "address of its primary",
        "READONLY You can't write against a read only replica.",
    ),
    "replica, Redis 6": (
        WritesRefused,
        "address of its primary",
        (
            "ERR Error running script (call to f_1): @user_script:2: "
            "@user_script: 2: -READONLY You can't write"
        ),
    ),
    "disk": (
        WritesRefused,
        "cannot save",
        "MISCONF Redis is configured to save RDB snapshots, but ...",
    ),
    "start": (
        ShardUnavailable,
        "still reading its data",
        "LOADING Redis is loading the dataset in memory",
    ),
    "full": (ShardUnavailable, "maxclients", "ERR max number of clients reached"),
    "no login": (AuthenticationFailed, "asks for a login", "NOAUTH Authentication required."),
    "wrong login": (
        AuthenticationFailed,
        "refuses the login",
        "WRONGPASS invalid username-password pair",
    ),
    "wrong login, Redis 5": (AuthenticationFailed, "refuses the login", "ERR invalid password"),
    "login too many": (
        AuthenticationFailed,
        "no password set",
        "ERR AUTH <password> called without any password configured",
    ),
    "key": (AccessDenied, "does not let this user", "NOPERM No permissions to access a key"),
    "key in a script": (
        AccessDenied,
        "does not let this user",
        "ERR ACL failure in script: No permissions to access a key",
    ),
    "command in a script": (
        AccessDenied,
        "does not let",
        "ERR The user executing the script can't run this command",
    ),
    "cluster": (CommandRefused, "write redis+cluster://host:port", "MOVED 3999 127.0.0.1:6381"),
    "cluster, moving": (CommandRefused, "write redis+cluster://host:port", "ASK 3999 h:6381"),
    "switched off": (
        CommandRefused,
        "switched off",
        "ERR unknown command 'EVAL', with args beginning with: 'return 1' '0' ",
    ),
    "something else": (CommandRefused, "ERR who knows", "ERR who knows"),
}


@pytest.mark.parametrize(("kind", "says", "reply"), REPLIES.values(), ids=REPLIES)
def test_each_mistake_has_a_sentence(kind: type[Exception], says: str, reply: str) -> None:
    """The error says what is the matter, then the server's words, without the script's name."""
    error = as_error("a", ErrorReply(reply))
    assert (type(error), says in str(error), "user_script" in str(error)) == (kind, True, False)
    assert str(error).startswith("shard 'a': ")


@pytest.mark.parametrize("command", ["AUTH", "HELLO", "SET"])
def test_arguments_are_not_quoted(command: str) -> None:
    """A server quotes the arguments of an unknown command: they are cut off (G7)."""
    reply = ErrorReply(
        f"ERR unknown command '{command}', with args beginning with: 'ann' 'hunter2' "
    )
    error = as_error("a", reply)
    assert "hunter2" not in "".join(traceback.format_exception(error)) + repr(error)
    assert command in str(error)


@pytest.mark.parametrize(
    ("reply", "code"),
    [("NOPERM no", "NOPERM"), ("ERR value is not an integer", "ERR"), ("OOM full", "OOM")],
)
def test_code(reply: str, code: str) -> None:
    """The code is the first word of what the server said, whatever stands before it."""
    error = as_error("a", ErrorReply(reply))
    assert isinstance(error, CommandRefused)
    assert error.code == code
