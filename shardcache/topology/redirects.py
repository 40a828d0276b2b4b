"""What to do about an error reply that another node, or another moment, would answer otherwise.

=============================================  =========  =========================================
error reply                                    kind       what to do
=============================================  =========  =========================================
``MOVED slot host:port``                       "moved"    send again to that node, now and from now
                                                          on: ask for a new map
``ASK slot host:port``                         "ask"      send again to that node, this once, each
                                                          command behind an ASKING of its own
``TRYAGAIN …``                                 "wait"     the keys of one command lie apart while
                                                          their slot migrates: wait, send again
``LOADING …``                                  "wait"     the server still reads its data: the same
``CLUSTERDOWN …``, ``MASTERDOWN …``            "refresh"  nobody serves the slot as far as that node
                                                          knows, or it has lost its primary: wait,
                                                          ask for a new map, send again by that
``READONLY …``                                 "refresh"  the node has become a replica: the same
=============================================  =========  =========================================

Anything else is no redirect, CROSSSLOT (keys of several slots in one command) among it: nothing of
this would help. Forms: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
"""

import re
from dataclasses import dataclass
from typing import Literal

from shardcache.resp import ErrorReply
from shardcache.topology.slot_tags import SLOTS

__all__ = ("Redirect", "RedirectKind", "redirect_of")

RedirectKind = Literal["moved", "ask", "wait", "refresh"]
# An IPv6 address comes without brackets. An empty host and "?" mean the host that answered.
_TO = re.compile(
    r"(MOVED|ASK) ([0-9]{1,5}) (\[[0-9A-Fa-f:.%]{2,64}\]|[A-Za-z0-9_.:%~-]{0,255}|\?):([0-9]{1,5})"
)
_KINDS: dict[str, RedirectKind] = {
    "MOVED": "moved",
    "ASK": "ask",
    "TRYAGAIN": "wait",
    "LOADING": "wait",
    "CLUSTERDOWN": "refresh",
    "MASTERDOWN": "refresh",
    "READONLY": "refresh",
}


@dataclass(frozen=True, slots=True)
class Redirect:
    """What an error reply says about where, or when, to send a command again.

    ``kind``: what to do, by the table on top of this file.
    ``code``: the first word of the reply.
    ``slot``: the slot that it is about; None where it names none.
    ``host``: where to send to, in small letters; empty: the host of the node that answered, with
        ``port``.
    ``port``: 0 where no node is named.
    """

    kind: RedirectKind
    code: str
    slot: int | None = None
    host: str = ""
    port: int = 0


def redirect_of(reply: ErrorReply) -> Redirect | None:
    """Return what an error reply says about another node or moment; None if it says nothing.

    A text that is not exactly of its form is none, whatever it begins with.
    """
    text = str(reply)
    code = text.partition(" ")[0]
    kind = _KINDS.get(code)
    if kind is None:
        return None
    if kind not in ("moved", "ask"):
        return Redirect(kind, code)
    found = _TO.fullmatch(text)
    if found is None:
        return None
    slot, host, port = int(found[2]), found[3].strip("[]").lower(), int(found[4])
    if slot >= SLOTS or not 0 < port < 65536:
        return None
    return Redirect(kind, code, slot, "" if host == "?" else host, port)
