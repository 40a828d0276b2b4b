"""What an error reply of a server means: its words cleaned, with a sentence before them.

Scripts and arguments put words into replies that are taken out here.
"""

import re

__all__ = ("MEMBER", "explained", "words")

# Redis 7 and Valkey put the script behind an error, older servers before it.
_BEHIND = re.compile(r" script: (?:\w+, )?on @user_script:\d+\.?\s*$")
_BEFORE = re.compile(
    r"^ERR Error running script \(call to \w+\): @user_script:\s?\d+: (?:@user_script: \d+: )?-?"
)
# An unknown command is quoted with its arguments, which may be a password or a value.
_ARGUMENTS = re.compile(r",? with args beginning with:.*", re.DOTALL)

# Of a server that was taken for an independent one. A client of a cluster follows these itself.
MEMBER = "is a member of a Redis Cluster: write redis+cluster://host:port"
_BY_CODE = {
    "WRONGPASS": (
        "refuses the login: the user name or the password is wrong, or the user is switched off"
    ),
    "NOAUTH": "asks for a login, and got none: it is written redis://user:password@host",
    "DENIED": "lets in clients of its own machine only (protected mode)",
    "NOPERM": "does not let this user do that",
    "READONLY": "is a replica, which takes no writes: give the address of its primary",
    "MASTERDOWN": "is a replica that has lost its primary",
    "NOREPLICAS": "takes no writes while too few replicas are connected (min-replicas-to-write)",
    "MISCONF": "takes no writes because it cannot save them to its disk",
    "OOM": "has no memory left for writes (maxmemory)",
    "LOADING": "is still reading its data after a start",
    "BUSY": "is busy with a script that does not end (SCRIPT KILL ends it)",
    "CLUSTERDOWN": "belongs to a Redis Cluster that is down",
    "MOVED": MEMBER,
    "ASK": MEMBER,
    "CROSSSLOT": "the keys of one command lie in several slots of a Redis Cluster",
    "WRONGTYPE": (
        "the key holds another kind of value, such as a list or a hash, "
        "which this cache has not put there"
    ),
}
_BY_TEXT = {
    "is not an integer": "the value is no whole number of 64 bits, so nothing can be added to it",
    "is not a valid integer": (
        "the value is no whole number of 64 bits, so nothing can be added to it"
    ),
    "is not a valid float": "where a number belongs there is none",
    "would overflow": "the sum would not fit in 64 bits",
    "invalid password": _BY_CODE["WRONGPASS"],
    "without any password configured": "has no password set, but was given one",
    "ACL failure in script": _BY_CODE["NOPERM"],
    "user executing the script can't": _BY_CODE["NOPERM"],
    "max number of clients": "has as many clients as it lets in (maxclients)",
    "unknown command": "does not know a command that this client needs, or has it switched off",
}


def words(text: str) -> str:
    """Return an error reply's own words, without script and arguments, which may be secret."""
    return _ARGUMENTS.sub("", _BEFORE.sub("", _BEHIND.sub("", text))).strip()


def explained(text: str) -> str:
    """Return a sentence that says what is wrong, with the server's words; else the words alone."""
    sentence = _BY_CODE.get(text.partition(" ")[0])
    if sentence is None:
        sentence = next((said for sign, said in _BY_TEXT.items() if sign in text), None)
    return f"{sentence} ({text})" if sentence else text
