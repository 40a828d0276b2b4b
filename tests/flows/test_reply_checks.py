"""Every script and every command of a batch says which replies it can have."""

import inspect
import re
from importlib import import_module
from pkgutil import walk_packages

import pytest

import shardcache.flows
from shardcache.flows import reply_checks as answers
from shardcache.flows.load import scripts as load_scripts
from shardcache.flows.load.tags import ENSURE
from shardcache.flows.lock import scripts as lock_scripts
from shardcache.flows.reply_checks import shapes_fit
from shardcache.flows.scripts import ADD_TO
from shardcache.resp import ErrorReply

MODULES = [
    import_module(one.name) for one in walk_packages(shardcache.flows.__path__, "shardcache.flows.")
]
SCRIPTS = {
    f"{module.__name__}.{name}": script
    for module in MODULES
    for name, script in vars(module).items()
    if isinstance(script, bytes) and b"redis.call(" in script and not name.startswith("_")
}
VERBS = {
    verb
    for module in MODULES
    if not module.__name__.endswith(".handshake")
    for verb in re.findall(r'\(b"([A-Z]+)"', inspect.getsource(module))
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_is_listed(name) -> None:
    """A script without a row could not be answered at all."""
    assert SCRIPTS[name] in answers._OF_SCRIPT


def test_scripts_are_found() -> None:
    """Those of every room: a row is of a script that is found, and the other way round."""
    assert set(SCRIPTS.values()) == answers._OF_SCRIPT.keys()


def test_every_verb_is_listed() -> None:
    """Every command has a row, unless its batches say themselves what is due."""
    assert {verb.encode() for verb in VERBS} - {
        b"MGET",
        b"OBJECT",
        b"EVAL",
        b"ASKING",  # `redirection` checks what comes back
    } == answers._OF_VERB.keys() - {
        b"PEXPIRE",
        b"PING",
    }


@pytest.mark.parametrize("command", [(b"ECHO", b"x"), (b"EVAL", b"return 1", b"0")], ids=repr)
@pytest.mark.parametrize("reply", [1, b"x", None, [], ErrorReply("ERR")], ids=repr)
def test_nothing_fits_what_is_not_listed(command, reply) -> None:
    """Whoever sends something new has to say here what it can be answered with."""
    assert not shapes_fit([command], [reply])


@pytest.mark.parametrize(
    ("command", "good", "bad"),
    [
        ((b"GET", b"k"), [b"v", None], [1, [], {}]),
        ((b"PTTL", b"k"), [1, -2], [b"1", None, []]),
        ((b"BLPOP", b"k", b"1"), [None, [b"k", b"1"]], [b"v", 1]),
        (
            (b"EVAL", lock_scripts.ACQUIRE),
            [[0, 5, 7], [0, 5, 7, b"token"], [1, 7, 0, 8, 9], [2, b"members"]],
            [
                None,
                1,
                [],
                [1],
                [b"1", 2, 3],
                [1, 2, 3, b"4"],
                [1, 2, 3],
                {1: 2},
                [0, 5, 7, []],
                [0, 5, 7, 8],
                [3, 5, 7],
                [0, 1, 7, 8, 9],
                [2, 5, 7],
                [1, b"members"],
            ],
        ),
        ((b"EVAL", lock_scripts.CONFIGURE), [[b"1-a", b"m", b""]], [[b"1-a"], [1, 2, 3], b"1-a"]),
        (
            (b"SCAN", b"0"),
            [[b"0", []], [b"7", [b"k"]]],
            [1, [], [b"x", []], [b"0", [[]]], [b"0", None]],
        ),
        ((b"EVAL", lock_scripts.RELEASE), [1, 0, -1], [b"1", None, [1]]),
        (
            (b"EVAL", lock_scripts.LOOK),
            [[None, -2, 0], [b"token", 5, 7]],
            [[1, 2, 3], [None, None, 0], 1],
        ),
        (
            (b"EVAL", lock_scripts.REGISTER, b"1", b"register", b"5000", b"a", b"set"),
            [[1, 2, 3]],
            [[], [1], [1, 2, None], [1, 2, 3, 0]],
        ),
        (
            (
                b"EVAL",
                lock_scripts.REGISTER,
                b"1",
                b"register",
                b"5000",
                b"a",
                b"set",
                *(b"a", b"life", b"0"),
            ),
            [[1, 2, 3, 0]],
            [[1, 2, 3], [1, 2, 3, b"0"], [1, 2, 3, 0, 0]],
        ),
        (
            (b"EVAL", load_scripts.CLAIM),
            [[1, 0, 0], [0, 5, 0]],
            [[1, 0], [1, 0, 0, 4, 5], [2, 0, 0], [1, b"0", 0], [3, 0, 0]],
        ),
        (
            (b"EVAL", lock_scripts.ADOPT),
            [[1, 5, 7, 8], [0], [-1]],
            [[], [1], [1, 5], [0, 0], 1, [b"0"]],
        ),
        ((b"EVAL", lock_scripts.EXTEND), [[1, 7, 8], [0], [-1]], [[], [1], [1, 7, 8, 9], 1]),
        ((b"EVAL", ENSURE), [b"version"], [None, 1, [b"version"]]),
        ((b"EVAL", ADD_TO), [b"1", b"-9223372036854775808", None], [1, b"OK", b"", b"1_0", b"1.5"]),
        ((b"INFO",), [b"role:master"], [None, 1, []]),
    ],
)
def test_replies(command, good, bad) -> None:
    """What fits is let through, an error reply always; nothing else."""
    assert [shapes_fit([command], [reply]) for reply in [*good, ErrorReply("ERR")]] == [True] * (
        len(good) + 1
    )
    assert [shapes_fit([command], [reply]) for reply in bad] == [False] * len(bad)
