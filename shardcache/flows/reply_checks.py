"""Which replies the commands of a batch can have, for both drivers and every step.

A reply of another kind means that the connection is out of step: no caller may get it, nor what
comes behind it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import NamedTuple

from shardcache.flows.load import scripts as load_scripts
from shardcache.flows.load import tags
from shardcache.flows.lock import scripts as lock_scripts
from shardcache.flows.operations import INCR, NUMBER, TEXT
from shardcache.flows.scripts import ADD_TO, FRESH_AND_GRACE, FRESH_LEFT, PERSIST, TOUCH_FRESH
from shardcache.flows.steps import Batch
from shardcache.resp import Command, ErrorReply, Reply

__all__ = ("may_answer", "shapes_fit", "validator_of")

Shape = Callable[[Reply, Command], bool]
"""Whether a reply can be one to a command; it is not asked about error replies."""

_LONGEST_CURSOR = 20  # digits
_NIL = type(None)


class _Replies(NamedTuple):
    """The replies to one command or script.

    ``types``: the types that they can have.
    ``shape``: looks at a reply more closely; None: the type is enough.
    """

    types: frozenset[type]
    shape: Shape | None = None


def _lists(shape: Shape) -> _Replies:
    return _Replies(frozenset({list, ErrorReply}), shape)


def _list_of(forms: dict[tuple[type, ...], Sequence[int]]) -> _Replies:
    """Return the row of a reply that is a list with one of several forms.

    ``forms``: by the types of what is in the list, the first numbers that there can be; none: any.
    """

    def fits(reply: Reply, _: Command) -> bool:
        firsts = forms.get(tuple(map(type, reply)))
        return firsts is not None and (not firsts or reply[0] in firsts)

    return _lists(fits)


def _vote(granted: int) -> _Replies:
    """Return the row of a vote.

    A vote is a grant of ``granted`` numbers, a refusal, perhaps with the holder's token, or another
    membership.
    """
    forms: dict[tuple[type, ...], Sequence[int]] = {
        (int,) * 3: (0,),
        (int, int, int, bytes): (0,),
        **{(int, kind): (2,) for kind in TEXT},
    }
    forms[(int,) * granted] = (1, *forms.get((int,) * granted, ()))
    return _list_of(forms)


def _ours(length: int) -> _Replies:
    """Return the row of a reply: ``length`` numbers if it grants, one number if it refuses."""
    return _list_of({(int,) * length: (1,), (int,): (0, -1)})


def _registered(reply: Reply, command: Command) -> bool:
    """Whether the reply has three numbers, and one for each voter that is asked about.

    The command has three arguments for each voter, behind seven others.
    """
    return [type(one) for one in reply] == [int] * (3 + (len(command) - 7) // 3)


def _page(reply: Reply, _: Command) -> bool:
    """Whether the reply is a cursor with keys."""
    return (
        len(reply) == 2
        and reply[0].__class__ is bytes
        and reply[0].isdigit()
        and len(reply[0]) <= _LONGEST_CURSOR
        and reply[1].__class__ is list
        and set(map(type, reply[1])) <= {bytes}
    )


_TEXT = _Replies(TEXT)
_NUMBER = _Replies(NUMBER)
_UNKNOWN = _Replies(frozenset())  # nothing can be a reply to a command that is not listed
_OF_SCRIPT: dict[bytes, _Replies] = {
    ADD_TO: _Replies(TEXT, lambda reply, _: INCR.accepts(reply)),
    FRESH_AND_GRACE: _list_of({(int, int): ()}),
    FRESH_LEFT: _NUMBER,
    PERSIST: _NUMBER,
    TOUCH_FRESH: _NUMBER,
    lock_scripts.ACQUIRE: _vote(5),
    lock_scripts.ADOPT: _ours(4),
    lock_scripts.BREAK: _NUMBER,
    lock_scripts.CONFIGURE: _list_of(dict.fromkeys(product(TEXT, repeat=3), ())),
    lock_scripts.CONFIRM: _NUMBER,
    lock_scripts.EXTEND: _ours(3),
    lock_scripts.LOOK: _list_of({(bytes, int, int): (), (_NIL, int, int): ()}),
    lock_scripts.REGISTER: _lists(_registered),
    lock_scripts.RELEASE: _NUMBER,
    lock_scripts.REPAIR: _NUMBER,
    load_scripts.CLAIM: _vote(3),
    load_scripts.FILL: _NUMBER,
    load_scripts.GIVE_UP: _NUMBER,
    load_scripts.TAKE: _NUMBER,
    tags.ENSURE: _Replies(frozenset({bytes, ErrorReply})),
}
_OF_VERB: dict[bytes, _Replies] = {
    b"BLPOP": _Replies(frozenset({list, _NIL, ErrorReply})),
    b"DBSIZE": _NUMBER,
    b"EXISTS": _NUMBER,
    b"FLUSHDB": _TEXT,
    b"GET": _TEXT,
    b"INFO": _Replies(frozenset({bytes, ErrorReply})),
    b"PEXPIRE": _NUMBER,
    b"PING": _TEXT,
    b"PTTL": _NUMBER,
    b"SCAN": _lists(_page),
    b"SET": _TEXT,
    b"STRLEN": _NUMBER,
    b"TYPE": _TEXT,
    b"UNLINK": _NUMBER,
}


def validator_of(batch: Batch) -> Callable[[list[Reply]], bool]:
    """Return the check of the replies to a batch: its own ``validate``, or `shapes_fit`."""
    return batch.validate or partial(shapes_fit, batch.commands)


def shapes_fit(commands: Sequence[Command], replies: Sequence[Reply]) -> bool:
    """Whether each reply can be a reply to its command.

    No reply can be one to a command or a script that is not listed here.
    """
    for command, reply in zip(commands, replies, strict=True):
        if command[0] == b"EVAL":
            types, shape = _OF_SCRIPT.get(command[1], _UNKNOWN)
        else:
            types, shape = _OF_VERB.get(command[0], _UNKNOWN)
        kind = reply.__class__
        if kind not in types:
            return False
        if shape is not None and kind is not ErrorReply and not shape(reply, command):
            return False
    return True


def may_answer(command: Command, reply: Reply) -> bool:
    """Whether a reply can be one to a command, of which there may be no row here.

    It is for commands of callers that are sent once more, whatever their replies are.
    """
    if reply.__class__ is ErrorReply:
        return True
    if command[0] == b"MGET":
        return reply.__class__ is list and len(reply) == len(command) - 1
    if command[0] == b"EVAL" or command[0] in _OF_VERB:
        return shapes_fit((command,), (reply,))
    return True
