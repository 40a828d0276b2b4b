"""Faults as pure functions of a stream: exact offsets, whatever the chunks."""

import itertools
import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache import errors
from shardcache.testing import (
    BlackHole,
    Corrupt,
    Cut,
    Delay,
    Drop,
    Duplicate,
    Fault,
    Refuse,
    Replay,
    Split,
    Stall,
    random_fault,
)
from shardcache.testing.stream import Close, Hold, Later, Pause, Step, Stream, Until

DATA = b"$5\r\nhello\r\n:12345\r\n"
NOW = 100.0


def feed(fault: Fault | None, chunks: Iterable[bytes]) -> tuple[list[Step], int]:
    """Feed the chunks through the fault; return steps with bytes joined, and the strikes."""
    struck: list[None] = []
    stream = Stream(lambda: struck.append(None))
    stream.arm(fault)
    steps: list[Step] = []
    for chunk in chunks:
        for step in stream.feed(chunk, NOW):
            if isinstance(step, bytes) and steps and isinstance(steps[-1], bytes):
                steps[-1] += step
            else:
                steps.append(step)
    return steps, len(struck)


def chunked(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Cut the data at the given places; no chunk is empty."""
    edges = sorted({0, len(data), *cuts})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


offsets = st.integers(0, len(DATA) - 1)
chunks = st.lists(offsets).map(lambda cuts: chunked(DATA, cuts))


@given(chunks)
def test_without_a_fault_everything_passes(parts):
    """A stream without a fault is the identity."""
    assert feed(None, parts) == ([DATA], 0)


@given(chunks, offsets, st.booleans())
def test_cut_passes_exactly_its_bytes(parts, at, reset):
    """A cut lets exactly ``after`` bytes pass, then closes; at 0 it waits for the first byte."""
    steps, struck = feed(Cut(at, reset), parts)
    before = steps[: steps.index(Close(reset)) + 1]
    assert (before, struck) == ([*filter(None, [DATA[:at]]), Close(reset)], 1)


def test_cut_at_the_end_does_not_wait_for_more():
    """A cut after the last byte of a reply closes with it, not at the next reply."""
    assert feed(Cut(len(DATA)), [DATA]) == ([DATA, Close()], 1)


@given(chunks, offsets)
def test_stall_holds_exactly_the_rest(parts, at):
    """A stall holds back all bytes behind its offset and loses none."""
    assert feed(Stall(at), parts) == ([*filter(None, [DATA[:at]]), Hold(), DATA[at:]], 1)


@given(chunks, offsets)
def test_drop_loses_exactly_the_rest(parts, at):
    """A drop passes the bytes before its offset and nothing else, and strikes once."""
    assert feed(Drop(at), parts) == ([*filter(None, [DATA[:at]])], 1)


@given(chunks)
def test_black_hole_swallows_all(parts):
    """Nothing comes out of a black hole."""
    assert feed(BlackHole(), parts) == ([], 1)


@given(chunks, offsets, st.integers(1, 255))
def test_corrupt_flips_one_byte(parts, at, flip):
    """Exactly the byte at the offset changes, by the mask."""
    expected = bytes(byte ^ flip if place == at else byte for place, byte in enumerate(DATA))
    assert feed(Corrupt(at, flip), parts) == ([expected], 1)


@given(chunks, offsets, st.integers(1, len(DATA)))
def test_duplicate_repeats_the_range(parts, start, length):
    """Exactly the range comes twice, also when it spans chunks."""
    end = min(start + length, len(DATA))
    assert feed(Duplicate(start, end), parts) == ([DATA[:end] + DATA[start:end] + DATA[end:]], 1)


@given(chunks, st.sets(st.integers(1, len(DATA)), min_size=1))
def test_split_parts_at_every_offset(parts, at):
    """A pause stands at each offset, also where a chunk ends; no byte is lost."""
    steps, struck = feed(Split(tuple(sorted(at)), pause=0.5), parts)
    expected: list[Step] = []
    for part in chunked(DATA, at):
        expected += [part, Pause(0.5)]
    if len(DATA) not in at:
        expected.pop()
    assert (steps, struck) == (expected, 1)


def test_delay_counts_from_each_chunk():
    """Each chunk leaves a fixed time after it came; the free bytes at once."""
    steps, struck = feed(Delay(0.25, after=2), [b"abc", b"def"])
    assert (steps, struck) == ([b"ab", Until(NOW + 0.25), b"c", Until(NOW + 0.25), b"def"], 1)


def test_replay_keeps_a_copy_of_one_chunk():
    """The first chunk is set aside once more; what follows passes."""
    assert feed(Replay(0.5), [b"abc", b"def"]) == ([b"abc", Later(b"abc", 0.5), b"def"], 1)


def test_counting_starts_when_armed():
    """Bytes from before the arming do not count: a handshake is out of the way."""
    stream = Stream(lambda: None)
    stream.feed(b"+OK\r\n", NOW)
    stream.arm(Corrupt(0, 1))
    assert stream.feed(b"a", NOW) == [b"`"]


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        pytest.param(
            lambda: Cut(-1), "Cut: after must be a whole number from 0, got -1", id="negative"
        ),
        pytest.param(lambda: Stall(True), "after must be a whole number", id="bool"),
        pytest.param(lambda: Delay(float("nan")), "seconds must be a number of seconds", id="nan"),
        pytest.param(
            lambda: Delay("1"), "seconds must be a number of seconds from 0, got '1'", id="text"
        ),
        pytest.param(lambda: Split((3, 3)), "at must rise", id="split-not-rising"),
        pytest.param(lambda: Split((-1,)), "at must be a whole number", id="split-negative"),
        pytest.param(lambda: Duplicate(4, 4), "end must be above start", id="empty-range"),
        pytest.param(
            lambda: Corrupt(0, 0), "flip must be a whole number from 1 to 255, got 0", id="no-flip"
        ),
        pytest.param(
            lambda: Drop(0, on="both"),
            "on must be 'reply' or 'request', got 'both'",
            id="direction",
        ),
        pytest.param(
            lambda: random_fault(random.Random(1), 1),
            "span must be a whole number from 2",
            id="span",
        ),
    ],
)
def test_nonsense_is_refused(make, complaint):
    """A fault that cannot be says what is wrong, what is allowed and what came."""
    with pytest.raises(errors.InvalidOption, match=complaint):
        make()


def test_random_faults_repeat_with_their_seed():
    """The same seed draws the same faults, and every kind comes up."""
    first, second = (
        [random_fault(rng, 50) for _ in range(300)] for rng in (random.Random(7), random.Random(7))
    )
    assert first == second
    assert {type(fault) for fault in first} == {
        BlackHole, Corrupt, Cut, Delay, Drop, Duplicate, Refuse, Replay, Split, Stall,
    }  # fmt: skip
