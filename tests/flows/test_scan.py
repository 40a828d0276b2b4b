"""Walks, driven by hand: every page is deleted once, a failing shard ends its own walk only."""

import pytest

from shardcache.errors import ShardUnavailable
from shardcache.flows import scan as sweep

DEAD = ShardUnavailable("1", "dead")


def drive(flow, answer):
    """Answer each exchange; return its batches and the result."""
    steps = []
    try:
        step = next(flow)
        while True:
            steps.append(step.batches)
            step = flow.send([answer(one) for one in step.batches])
    except StopIteration as end:
        return steps, end.value


def served(pages, unlinked):
    """Return a server: pages of keys by shard and cursor; ``unlinked`` has what is deleted."""

    def answer(one):
        replies = []
        for command in one.commands:
            if command[0] == b"UNLINK":
                unlinked.extend(command[1:])
                replies.append(len(command) - 1)
            else:
                found = pages[one.shard][int(command[1])]
                if isinstance(found, Exception):
                    return found
                replies.append(found)
        return replies

    return answer


def test_page() -> None:
    """A page is one SCAN: where to go on, and the keys."""
    steps, found = drive(sweep.page(2, 7, b"n:*"), served({2: {7: [b"9", [b"n:a"]]}}, []))
    assert found == sweep.Page(9, [b"n:a"], None)
    [[one]] = steps
    assert (one.shard, one.idempotent, one.commands[0][:4]) == (
        2,
        True,
        (b"SCAN", b"7", b"MATCH", b"n:*"),
    )


@pytest.mark.parametrize("outcome", [DEAD, [DEAD]], ids=["exchange", "reply"])
def test_page_of_a_dead_shard(outcome) -> None:
    """A shard that fails has an empty last page and the error."""
    assert drive(sweep.page(1, 7, b"*"), lambda one: outcome)[1] == sweep.Page(0, [], DEAD)


def test_wipe() -> None:
    """All shards walk at once, each at its own length; the last page's keys are deleted too."""
    pages = {
        0: {0: [b"5", [b"a", b"b"]], 5: [b"6", []], 6: [b"0", [b"c"]]},
        1: {0: [b"0", []]},
        2: {0: [b"0", [b"d"]]},
    }
    unlinked: list[bytes] = []
    steps, result = drive(sweep.wipe(range(3), b"*"), served(pages, unlinked))
    assert (result, sorted(unlinked)) == ((4, []), [b"a", b"b", b"c", b"d"])
    assert [[one.shard for one in step] for step in steps] == [[0, 1, 2], [0, 2], [0], [0]]


def test_wipe_with_a_dead_shard() -> None:
    """A shard that fails is told once and asked no more; the others are emptied."""
    pages = {0: {0: [b"5", [b"a"]], 5: [b"0", [b"b"]]}, 1: {0: [b"9", [b"c"]], 9: DEAD}}
    unlinked: list[bytes] = []
    _, (count, failed) = drive(sweep.wipe(range(2), b"*"), served(pages, unlinked))
    assert (count, failed) == (2, [DEAD])
    assert {b"a", b"b"} <= set(unlinked)


def test_wipe_counts_what_it_deleted_before_a_failure() -> None:
    """Keys that are gone are counted, though the same exchange failed to find more."""
    answers = [[[b"5", [b"a"]]], [1, DEAD]]
    _, (count, failed) = drive(sweep.wipe(range(1), b"*"), lambda one: answers.pop(0))
    assert (count, failed) == (1, [DEAD])


def test_flush() -> None:
    """Every shard is flushed in one exchange; those that fail are told."""
    steps, failed = drive(sweep.flush(range(3)), lambda one: DEAD if one.shard == 1 else [b"OK"])
    assert ([[one.commands for one in step] for step in steps], failed) == (
        [[[(b"FLUSHDB", b"ASYNC")]] * 3],
        (0, [DEAD]),
    )


@pytest.mark.parametrize(
    ("prefix", "glob"),
    [
        (b"", b"*"),
        (b"n:", b"n:*"),
        (b"*?[]^\\", rb"\*\?\[\]\^\\*"),
        (b"a-b", b"a-b*"),
        (b"\xff:", b"\xff:*"),
    ],
)
def test_pattern(prefix, glob) -> None:
    """The prefix is taken literally, the match as a glob."""
    assert sweep.pattern(prefix, b"*") == glob
