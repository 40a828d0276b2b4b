"""Every script and every command of a batch says which replies it can have."""

import pytest

from shardcache.commands import ErrorReply
from shardcache.flows import answers
from shardcache.flows.answers import fits
from shardcache.flows.load import scripts as load_scripts
from shardcache.flows.lock import scripts as lock_scripts

SCRIPTS = {
    name: getattr(module, name) for module in (lock_scripts, load_scripts) for name in module.__all__ if name.isupper()
}


@pytest.mark.parametrize("name", [name for name, script in SCRIPTS.items() if isinstance(script, bytes)])
def test_every_script_is_listed(name) -> None:
    """A script without a row could be answered by anything."""
    assert SCRIPTS[name] in answers._OF_SCRIPT


@pytest.mark.parametrize(
    ("command", "good", "bad"),
    [
        ((b"GET", b"k"), [b"v", None], [1, [], {}]),
        ((b"PTTL", b"k"), [1, -2], [b"1", None, []]),
        ((b"BLPOP", b"k", b"1"), [None, [b"k", b"1"]], [b"v", 1]),
        (
            (b"EVAL", lock_scripts.ACQUIRE),
            [[0, 5, 7], [0, 5, 7, b"token"], [1, 7, 0, 8, 9], [2, b"members"]],
            [None, 1, [], [1], [b"1", 2, 3], [1, 2, 3, b"4"], [1, 2, 3], {1: 2}],
        ),
        ((b"EVAL", lock_scripts.CONFIGURE), [[b"1-a", b"m", b""]], [[b"1-a"], [1, 2, 3], b"1-a"]),
        ((b"SCAN", b"0"), [[b"0", []], [b"7", [b"k"]]], [1, [], [b"x", []], [b"0", [[]]], [b"0", None]]),
        ((b"EVAL", lock_scripts.RELEASE), [1, 0, -1], [b"1", None, [1]]),
        ((b"EVAL", lock_scripts.LOOK), [[None, -2, 0], [b"token", 5, 7]], [[1, 2, 3], [None, None, 0], 1]),
        ((b"EVAL", lock_scripts.REGISTER), [[1, 2, 3], [1, 2, 3, 0, 1]], [[], [1], [1, 2, None]]),
    ],
)
def test_replies(command, good, bad) -> None:
    """What fits is let through, an error reply always; nothing else."""
    assert [fits([command], [reply]) for reply in [*good, ErrorReply("ERR")]] == [True] * (len(good) + 1)
    assert [fits([command], [reply]) for reply in bad] == [False] * len(bad)
