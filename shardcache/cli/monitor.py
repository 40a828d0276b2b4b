"""Which keys are read on a server, as MONITOR tells of all its clients.

A line of MONITOR is ``1795819965.08 [0 127.0.0.1:5000] "MGET" "a" "b"``: time, database, the
client's address, and the words of the command, escaped as in C.
"""

import re
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING

from shardcache.policy.space_saving import SpaceSaving

if TYPE_CHECKING:
    import redis

__all__ = ("keys_read", "reads_of")

CAPACITY = 1000  # keys with a counter
LOOK = 0.1  # seconds after which the thread looks whether it shall end
_BATCH = 1000  # keys that are counted at once
_READS = {b"GET": 1, b"MGET": None}  # commands, with how many of their words are keys
_LINE = re.compile(rb"\S+ \[(\d+) (?!lua\])(.+?)\] (\"[A-Za-z]+\" .*)", re.DOTALL)
_WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(rb"\\(x[0-9a-f]{2}|.)")
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}


def keys_read(line: bytes, db: int, prefix: bytes) -> list[bytes]:
    """Return the keys that a client has read by GET or MGET.

    ``line``: a line of MONITOR.
    ``db``: the database that counts.
    ``prefix``: what the keys begin with that count.

    What scripts read is not among them: the library's own scripts read locks.
    """
    found = _LINE.match(line)
    if found is None or int(found[1]) != db:
        return []
    # The name first: most commands need not be taken apart.
    words = _WORD.finditer(found[3])
    name = next(words)[1].upper()
    if name not in _READS:
        return []
    keys = (_ESCAPED.sub(_plain, word[1]) for word in islice(words, _READS[name]))
    return [key for key in keys if key.startswith(prefix)]


def reads_of(
    client: "redis.Redis",
    *,
    db: int,
    prefix: bytes,
    wanted: Callable[[], float],
) -> SpaceSaving:
    """Listen to a server, and return which keys were read.

    ``client``: a client of the server, which is closed after.
    ``db``: the database that counts.
    ``prefix``: what the keys begin with that count.
    ``wanted``: for how many seconds more; zero or less: no more.

    Raises redis-py's errors.
    """
    sketch, keys = SpaceSaving(CAPACITY), list[bytes]()
    with client, client.monitor() as monitor:  # type: ignore[no-untyped-call]
        connection = monitor.connection
        while (left := wanted()) > 0:
            if connection.can_read(timeout=min(left, LOOK)):
                keys += keys_read(connection.read_response(), db, prefix)
                if len(keys) >= _BATCH:
                    sketch, keys = sketch.added(keys), []
    return sketch.added(keys)


def _plain(escape: "re.Match[bytes]") -> bytes:
    """Return the bytes that an escape stands for."""
    code: bytes = escape[1]
    if len(code) > 1:
        return bytes([int(code[1:], 16)])
    return _ESCAPES.get(code, code)
