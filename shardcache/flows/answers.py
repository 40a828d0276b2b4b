"""Which replies the commands of a batch can have: the one place that says so, for both drivers and every step.

A reply of another kind means that the connection is out of step: nobody may see it, nor what comes behind it.
"""

from collections.abc import Callable, Sequence
from functools import partial

from shardcache.commands import Command, ErrorReply, Reply
from shardcache.flows.load import scripts as load_scripts
from shardcache.flows.lock import scripts as lock_scripts
from shardcache.flows.requests import NUMBER, TEXT
from shardcache.flows.scripts import ADD_TO, FRESH_LEFT, PERSIST
from shardcache.flows.steps import Batch

__all__ = ("fit_of", "fits")

Shape = Callable[[Reply], bool]


def _number(reply: Reply) -> bool:
    return reply.__class__ is int


def _text(reply: Reply) -> bool:
    return reply.__class__ in TEXT


def _texts(reply: Reply) -> bool:
    return reply.__class__ is list and len(reply) == 3 and all(map(_text, reply))


def _numbers(*lengths: int, least: int = 0) -> Shape:
    """Return whether a reply is a list of whole numbers, so many of them."""
    return lambda reply: (
        reply.__class__ is list and (len(reply) in lengths or 0 < least <= len(reply)) and all(map(_number, reply))
    )


def _vote(reply: Reply) -> bool:
    """Whether it is a grant, all numbers, a refusal, behind whose numbers more may be said, or news of the membership."""
    if reply.__class__ is list and len(reply) == 2:
        return reply[0] == 2 and reply[1].__class__ in TEXT
    return reply.__class__ is list and len(reply) >= 3 and all(map(_number, reply if reply[0] == 1 else reply[:3]))


def _look(reply: Reply) -> bool:
    return reply.__class__ is list and len(reply) == 3 and reply[0].__class__ in TEXT and all(map(_number, reply[1:]))


def _page(reply: Reply) -> bool:
    """Whether it is a cursor with keys."""
    return (
        reply.__class__ is list
        and len(reply) == 2
        and reply[0].__class__ is bytes
        and reply[0].isdigit()
        and reply[1].__class__ is list
        and set(map(type, reply[1])) <= {bytes}
    )


# A script that is not here may answer anything.
_OF_SCRIPT: dict[object, Shape] = {
    ADD_TO: _text,
    FRESH_LEFT: _number,
    PERSIST: _number,
    lock_scripts.ACQUIRE: lambda reply: _vote(reply) and (reply[0] != 1 or len(reply) == 5),
    lock_scripts.ADOPT: _numbers(1, 4),
    lock_scripts.BREAK: _number,
    lock_scripts.CONFIGURE: _texts,
    lock_scripts.CONFIRM: _number,
    lock_scripts.EXTEND: _numbers(1, 3),
    lock_scripts.LOOK: _look,
    lock_scripts.REGISTER: _numbers(least=3),
    lock_scripts.RELEASE: _number,
    lock_scripts.REPAIR: _number,
    load_scripts.CLAIM: _vote,
    load_scripts.FILL: _number,
    load_scripts.GIVE_UP: _number,
    load_scripts.TAKE: _number,
}
_OF_VERB: dict[object, frozenset[type]] = {
    b"BLPOP": frozenset({list, type(None), ErrorReply}),
    b"EXISTS": NUMBER,
    b"FLUSHDB": TEXT,
    b"GET": TEXT,
    b"PEXPIRE": NUMBER,
    b"PING": TEXT,
    b"PTTL": NUMBER,
    b"SET": TEXT,
    b"UNLINK": NUMBER,
}


def fit_of(batch: Batch) -> Callable[[list[Reply]], bool]:
    """Return what says whether replies can be those to a batch: its own ``fit``, or `fits`."""
    return batch.fit or partial(fits, batch.commands)


def fits(commands: Sequence[Command], replies: Sequence[Reply]) -> bool:
    """Whether each reply can be one to its command."""
    for command, reply in zip(commands, replies, strict=True):
        kind = reply.__class__
        kinds = _OF_VERB.get(command[0])
        if kinds is not None:
            if kind not in kinds:
                return False
        elif kind is ErrorReply:
            continue
        elif command[0] == b"SCAN":
            if not _page(reply):
                return False
        elif command[0] == b"EVAL":
            shape = _OF_SCRIPT.get(command[1])
            if shape is not None and not shape(reply):
                return False
    return True
