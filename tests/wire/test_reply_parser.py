"""What a server announces is checked before hiredis takes memory for it.

Nothing harmless is changed by that, and nothing hostile passes.
"""

import tracemalloc
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise
from typing import Any

import hiredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shardcache.errors import OutOfStep, ReplyTooLarge
from shardcache.resp import ErrorReply
from shardcache.wire.reply_parser import NOT_YET, ReplyParser

MAX_VALUE = 1_000_000
LOOKS_LIKE_HEADERS = [
    b"*2000000000\r\n",
    b"\r\n*99999\r\n",
    b"*",
    b">123456",
    b"~0000\r",
    b"\n|77777777",
    b"$70000\r\n",
    b"x",
]


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


values = st.lists(st.sampled_from(LOOKS_LIKE_HEADERS) | st.binary(max_size=8), max_size=12).map(
    b"".join
)
long_values = st.builds(lambda value, times: value * times, values, st.integers(1, 700))
scalars = (values | long_values).map(bulk) | st.sampled_from(
    [
        b"$-1\r\n",
        b"_\r\n",
        b":77777\r\n",
        b"+OK *12345 is no header\r\n",
        b"-ERR ~99999\r\n",
        b"#t\r\n",
        b",1.5\r\n",
        b"*-1\r\n",
    ]
)


def listed(items: list[bytes]) -> bytes:
    return b"*%d\r\n" % len(items) + b"".join(items)


replies = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=5).map(listed), max_leaves=12
)
cuts = st.lists(st.integers(0, 10_000), max_size=8)


def pieces(stream: bytes, at: Iterable[int]) -> list[bytes]:
    """Cut a stream at these places, counted modulo its length."""
    places = sorted({0, len(stream), *(place % (len(stream) + 1) for place in at)})
    return [stream[begin:end] for begin, end in pairwise(places)]


def parsed(parser: ReplyParser, stream: Iterable[bytes]) -> list[Any]:
    """Return all replies in the stream."""
    found = []
    for piece in stream:
        parser.feed(piece)
        while (reply := parser.gets()) is not NOT_YET or (parser.held and parser.more()):
            if reply is not NOT_YET:
                found.append(reply)
    return found


def plain(replies: list[Any]) -> Any:
    """Errors and pushes do not compare by what they say."""
    return [repr(reply) for reply in replies]


@settings(
    max_examples=2 * settings.default.max_examples,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.lists(replies, min_size=1, max_size=6), cuts)
def test_harmless_streams_are_parsed_as_ever(stream: list[bytes], at: list[int]) -> None:
    """However a stream is cut, each reply is what hiredis alone makes of it."""
    whole = b"".join(stream)
    parser = ReplyParser("a", MAX_VALUE)
    parser.answers = 10
    alone = hiredis.Reader(replyError=ErrorReply)
    alone.feed(whole)
    expected = [alone.gets() for _ in stream]
    assert plain(parsed(parser, pieces(whole, at))) == plain(expected)
    assert (parser.held, parser.has_data()) == (b"", False)


@pytest.mark.parametrize("size", [1, 7, 4096, 65536])
@pytest.mark.parametrize("length", [0, 255, 256, 4095, 70_000])
def test_pieces_of_one_size(size, length) -> None:
    """Long values, and a header right behind them, are understood wherever the pieces end."""
    if size == 1 and length > 5000:
        pytest.skip("the same, but slow")
    value = (b"\r\n*99999\r\n$5\r\n" * length)[:length]
    stream = listed([bulk(value), listed([b":1\r\n", bulk(value)]), b"$-1\r\n"]) * 2
    cut = [stream[at : at + size] for at in range(0, len(stream), size)]
    parser = ReplyParser("a", MAX_VALUE)
    parser.answers = 3
    assert parsed(parser, cut) == [[value, [1, value], None]] * 2


HOSTILE = [
    b"*2000000000\r\n",
    b">2000000000\r\n",
    b"~2000000000\r\n",
    b"|1000000000\r\n",
    b"*2\r\n*2000000000\r\n",
    b"*3\r\n$1\r\na\r\n*1\r\n>2000000000\r\n",
    b"%1\r\n+key\r\n*2000000000\r\n",
    b"~1\r\n*2000000000\r\n",
    b"$1\r\nv\r\n*2000000000\r\n",
    b"*2\r\n$3\r\nabcXY*2000000000\r\n",  # hiredis does not look at the two bytes behind a value
    b"*2\r\n" + bulk(b"v" * 5000) + b"*2000000000\r\n",
    bulk(b"*99999\r\n" * 1000) + b"*2000000000\r\n",
    b"*2\r\n" + bulk(b"*99999\r\n") + b"*2000000000\r\n",
    b"*99999999999999999999999999999999\r\n",
    b"$9999999999\r\n",
    b"=9999999999\r\n",
    b"*1\r\n$9999999999\r\n" + b"v" * 5000,
]


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 8, 13, 100_000])
@pytest.mark.parametrize("stream", HOSTILE, ids=lambda stream: repr(stream[:40]))
def test_announcements_beyond_all_answers(stream, cut) -> None:
    """A list or value too long for any answer is refused early, wherever its header is cut."""
    parser = ReplyParser("a", MAX_VALUE)
    parser.answers = 1
    tracemalloc.start()
    try:
        with suppress(OutOfStep, hiredis.ProtocolError):
            parsed(parser, [stream[at : at + cut] for at in range(0, len(stream), cut)])
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_refusal_says_why() -> None:
    """The error names the shard and what was announced."""
    parser = ReplyParser("a", MAX_VALUE)
    parser.feed(b"*2000000000\r\n")
    assert parser.gets() is NOT_YET
    with pytest.raises(ReplyTooLarge, match=r"'a'.*list of 2000000000 items"):
        parser.more()


hostile = st.lists(
    st.sampled_from(
        [
            *HOSTILE,
            b"\r\n",
            b"*",
            b"$",
            b">",
            b"~",
            b"9" * 9,
            b"*9\r\n",
            b"$3\r\n",
            b"$-1\r\n",
            b"%2\r\n",
            b":1\r\n",
        ]
    )
    | values
    | replies,
    max_size=10,
).map(b"".join)


@settings(
    max_examples=2 * settings.default.max_examples,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(hostile, cuts)
def test_hostile_streams_take_little_memory(stream: bytes, at: list[int]) -> None:
    """Whatever comes, memory is bounded by what came and by the longest list allowed, nine deep."""
    parser = ReplyParser("a", MAX_VALUE)
    parser.answers = 1
    cut = pieces(stream, at)
    tracemalloc.start()
    try:
        parsed(parser, cut)
    except (OutOfStep, hiredis.ProtocolError, TypeError):
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 9 * 8 * 65_536 + 100 * len(stream) + 2_000_000


@pytest.mark.parametrize(
    ("answers", "most"),
    [
        (0, 256 * 1024),
        (1, 2 * 256 * 1024 + MAX_VALUE),
        ([(b"SET", b"k", b"v"), (b"UNLINK", b"k")], 256 * 1024),
        ([(b"MGET", b"k", b"l"), (b"GET", b"k")], 256 * 1024 + 3 * (MAX_VALUE + 256 * 1024)),
        ([(b"SCAN", 0)], 256 * 1024 + 64 * 1024 * 1024),
    ],
)
def test_most(answers, most) -> None:
    """Replies are bounded by what the commands can answer: values times `max_value`."""
    parser = ReplyParser("a", MAX_VALUE)
    parser.answers = answers
    assert parser.most() == most
