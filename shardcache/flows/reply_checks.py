"""Which replies the commands of a batch can have, for both drivers and every step.

A reply of another kind means that the connection is out of step: no caller may get it, nor what
comes behind it.
"""

from collections.abc import Callable, Sequence
from functools import partial

from shardcache.flows.load import scripts as load_scripts
from shardcache.flows.load import tags
from shardcache.flows.lock import scripts as lock_scripts
from shardcache.flows.operations import INCR, NUMBER, TEXT
from shardcache.flows.scripts import ADD_TO, FRESH_AND_GRACE, FRESH_LEFT, PERSIST, TOUCH_FRESH
from shardcache.flows.steps import Batch
from shardcache.resp import Command, ErrorReply, Reply

__all__ = ("fit_of", "shapes_fit")

Shape = Callable[[Reply, Command], bool]
"""Whether a reply can be one to a command."""

_LONGEST_CURSOR = 20  # digits


def _number(reply: Reply, _: Command) -> bool:
    return reply.__class__ is int


def _version(reply: Reply, _: Command) -> bool:
    return reply.__class__ is bytes


def _sum(reply: Reply, _: Command) -> bool:
    return INCR.accepts(reply)


def _texts(reply: Reply, _: Command) -> bool:
    return (
        reply.__class__ is list
        and len(reply) == 3
        and all(text.__class__ in TEXT for text in reply)
    )


def _are_numbers(reply: list[Reply]) -> bool:
    return all(number.__class__ is int for number in reply)


def _pair(reply: Reply, _: Command) -> bool:
    return reply.__class__ is list and len(reply) == 2 and _are_numbers(reply)


def _ours(length: int) -> Shape:
    """Return the check of a reply: ``length`` numbers if it grants, one number if it refuses."""
    return lambda reply, _: (
        reply.__class__ is list
        and bool(reply)
        and _are_numbers(reply)
        and len(reply) == (length if reply[0] == 1 else 1)
    )


def _registered(reply: Reply, command: Command) -> bool:
    """Whether the reply has three numbers, and one for each voter that is asked about.

    The command has three arguments for each voter, behind seven others.
    """
    return (
        reply.__class__ is list
        and len(reply) == 3 + (len(command) - 7) // 3
        and _are_numbers(reply)
    )


def _vote(granted: int) -> Shape:
    """Return the check of a vote.

    A vote is a grant of ``granted`` numbers, a refusal, perhaps with the holder's token, or another
    membership.
    """

    def fit(reply: Reply, _: Command) -> bool:
        if reply.__class__ is not list or not reply:
            return False
        if reply[0] == 2:
            return len(reply) == 2 and reply[1].__class__ in TEXT
        if reply[0] == 1:
            return len(reply) == granted and _are_numbers(reply)
        return bool(
            reply[0] == 0
            and len(reply) in (3, 4)
            and _are_numbers(reply[:3])
            and all(token.__class__ is bytes for token in reply[3:])
        )

    return fit


def _look(reply: Reply, _: Command) -> bool:
    return (
        reply.__class__ is list
        and len(reply) == 3
        and reply[0].__class__ in (bytes, type(None))
        and _are_numbers(reply[1:])
    )


def _page(reply: Reply, _: Command) -> bool:
    """Whether the reply is a cursor with keys."""
    return (
        reply.__class__ is list
        and len(reply) == 2
        and reply[0].__class__ is bytes
        and reply[0].isdigit()
        and len(reply[0]) <= _LONGEST_CURSOR
        and reply[1].__class__ is list
        and set(map(type, reply[1])) <= {bytes}
    )


_OF_SCRIPT: dict[object, Shape] = {
    ADD_TO: _sum,
    FRESH_AND_GRACE: _pair,
    FRESH_LEFT: _number,
    PERSIST: _number,
    TOUCH_FRESH: _number,
    lock_scripts.ACQUIRE: _vote(5),
    lock_scripts.ADOPT: _ours(4),
    lock_scripts.BREAK: _number,
    lock_scripts.CONFIGURE: _texts,
    lock_scripts.CONFIRM: _number,
    lock_scripts.EXTEND: _ours(3),
    lock_scripts.LOOK: _look,
    lock_scripts.REGISTER: _registered,
    lock_scripts.RELEASE: _number,
    lock_scripts.REPAIR: _number,
    load_scripts.CLAIM: _vote(3),
    load_scripts.FILL: _number,
    load_scripts.GIVE_UP: _number,
    load_scripts.TAKE: _number,
    tags.ENSURE: _version,
}
_OF_VERB: dict[object, frozenset[type]] = {
    b"BLPOP": frozenset({list, type(None), ErrorReply}),
    b"DBSIZE": NUMBER,
    b"EXISTS": NUMBER,
    b"FLUSHDB": TEXT,
    b"GET": TEXT,
    b"INFO": frozenset({bytes, ErrorReply}),
    b"PEXPIRE": NUMBER,
    b"PING": TEXT,
    b"PTTL": NUMBER,
    b"SET": TEXT,
    b"STRLEN": NUMBER,
    b"TYPE": TEXT,
    b"UNLINK": NUMBER,
}


def fit_of(batch: Batch) -> Callable[[list[Reply]], bool]:
    """Return the check of the replies to a batch: its own ``validate``, or `shapes_fit`."""
    return batch.validate or partial(shapes_fit, batch.commands)


def shapes_fit(commands: Sequence[Command], replies: Sequence[Reply]) -> bool:
    """Whether each reply can be a reply to its command.

    No reply can be one to a command or a script that is not listed here.
    """
    for command, reply in zip(commands, replies, strict=True):
        kinds = _OF_VERB.get(command[0])
        if reply.__class__ not in kinds if kinds is not None else not _has_shape(command, reply):
            return False
    return True


def _has_shape(command: Command, reply: Reply) -> bool:
    shape = (
        _OF_SCRIPT.get(command[1])
        if command[0] == b"EVAL"
        else _page
        if command[0] == b"SCAN"
        else None
    )
    return shape is not None and (reply.__class__ is ErrorReply or shape(reply, command))
