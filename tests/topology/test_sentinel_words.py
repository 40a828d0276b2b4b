"""What Sentinels say, and which of their words counts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache.resp import ErrorReply
from shardcache.topology.sentinel_words import (
    UNKNOWN,
    Answer,
    Named,
    Word,
    questions,
    read_answer,
    replicas,
    verdict,
)

MASTER = {b"name": b"a", b"config-epoch": b"7", b"num-other-sentinels": b"2"}
OTHERS = [{b"name": b"x", b"ip": b"10.0.0.9", b"port": b"26379", b"runid": b"r2"}]
UNKNOWN_MASTER = ErrorReply("ERR No such master with that name")


def flat(fields: dict[bytes, bytes]) -> list[bytes]:
    """Return a map as RESP2 has it."""
    return [part for pair in fields.items() for part in pair]


def test_questions() -> None:
    """The epoch is asked for before the address, so that no old address gets a new epoch."""
    assert questions(["a", "b"]) == [
        (b"SENTINEL", b"MYID"),
        (b"SENTINEL", b"MASTER", b"a"),
        (b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", b"a"),
        (b"SENTINEL", b"SENTINELS", b"a"),
        (b"SENTINEL", b"MASTER", b"b"),
        (b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", b"b"),
        (b"SENTINEL", b"SENTINELS", b"b"),
    ]


def test_questions_for_replicas() -> None:
    """They are asked for last, and only where they are read from."""
    assert questions(["a", "b"], replicas=True)[4::4] == [
        (b"SENTINEL", b"REPLICAS", b"a"),
        (b"SENTINEL", b"REPLICAS", b"b"),
    ]


def replica(port: int, flags: bytes = b"slave", link: bytes = b"ok") -> dict[bytes, bytes]:
    return {
        b"ip": b"10.0.0.3",
        b"port": b"%d" % port,
        b"flags": flags,
        b"master-link-status": link,
    }


@pytest.mark.parametrize("resp", [2, 3])
def test_replicas_that_are_well(resp: int) -> None:
    """One that is down, disconnected or without its master is left out, and so is nonsense."""
    said: list[Any] = [
        replica(1),
        replica(2, b"s_down,slave"),
        replica(3, b"o_down,slave"),
        replica(4, b"slave,disconnected"),
        replica(5, link=b"err"),
        replica(6, b"slave,master_down"),
        replica(70000),
        {},
    ]
    if resp == 2:
        said = [flat(one) for one in said]
    found = read_answer(["a"], [b"r1", MASTER, [b"10.0.0.1", b"6379"], [], [*said, None, b"x"]])
    assert isinstance(found, Answer)
    assert found.replicas == {"a": {("10.0.0.3", 1), ("10.0.0.3", 6)}}
    refused = ErrorReply("NOPERM")
    found = read_answer(["a"], [b"r1", MASTER, [b"10.0.0.1", b"6379"], [], refused])
    assert isinstance(found, Answer)
    assert (found.replicas, found.words["a"].port) == ({}, 6379)


def test_replicas_that_count() -> None:
    """Those count which most of the Sentinels name whose word counts; the master never does."""
    one, two, three = ("h", 1), ("h", 2), ("h", 3)
    word, old = Word("m", 9, 5, 3), Word("h", 1, 4, 3)

    def answer(said: Word, *places: tuple[str, int]) -> Answer:
        return Answer("", {"a": said}, frozenset(), {"a": frozenset(places)})

    answers = [answer(word, one, two, ("m", 9)), answer(word, two, ("m", 9)), answer(old, three)]
    assert replicas("a", Word("m", 9, 5), answers) == [two]
    assert replicas("a", Word("m", 9, 5), answers[:1]) == [one, two]
    assert replicas("a", Word("m", 9, 5), [Answer("", {"a": word}, frozenset())]) == []
    assert replicas("b", Word("m", 9, 5), answers) == []
    # One that knows replicas of a master that it does not know.
    answers[1] = Answer("", {}, frozenset(), {"a": frozenset({one})})
    assert replicas("a", Word("m", 9, 5), answers) == [one, two]


@pytest.mark.parametrize("resp", [2, 3])
def test_full_answer(resp: int) -> None:
    """Address, epoch and the other Sentinels are read in both versions of RESP."""
    master, others = (
        (MASTER, OTHERS) if resp == 3 else (flat(MASTER), [flat(one) for one in OTHERS])
    )
    assert read_answer(["a"], [b"r1", master, [b"10.0.0.1", b"6379"], others]) == Answer(
        "r1", {"a": Word("10.0.0.1", 6379, 7, 3)}, frozenset({Named("r2", "10.0.0.9", 26379)})
    )


def test_unknown_master() -> None:
    """A master that it does not know is left out; the others stand."""
    replies = [b"r1", UNKNOWN_MASTER, None, UNKNOWN_MASTER, MASTER, [b"::1", b"1"], []]
    found = read_answer(["a", "b"], replies)
    assert isinstance(found, Answer)
    assert found.words == {"b": Word("::1", 1, 7, 3)}


def test_the_address_alone() -> None:
    """A server that answers the plain question only has a word without an epoch."""
    no = ErrorReply("NOPERM no")
    found = read_answer(["a"], [no, no, [b"redis-0.redis", b"6379"], no])
    assert found == Answer("", {"a": Word("redis-0.redis", 6379, UNKNOWN, 0)}, frozenset())


@pytest.mark.parametrize(
    ("address", "says"),
    [
        (ErrorReply("NOPERM no such right"), "NOPERM"),
        ([b"", b"6379"], "no address for the master 'a'"),
        ([b"?", b"6379"], "no address"),
        ([b"h;h", b"6379"], "no address"),
        ([b"10.0.0.1", b"0"], "no address"),
        ([b"10.0.0.1", b"99999"], "no address"),
        ([b"10.0.0.1"], "no address"),
        (b"x", "no address"),
        (7, "no address"),
    ],
)
def test_no_address(address: Any, says: str) -> None:
    """What can be no address is not taken for one, and the answer says so."""
    found = read_answer(["a"], [b"r1", MASTER, address, []])
    assert isinstance(found, str)
    assert says in found


REPLY = st.recursive(
    st.none() | st.integers() | st.binary() | st.booleans() | st.builds(ErrorReply, st.text()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(), inner, max_size=4),
    max_leaves=8,
)


@given(st.lists(REPLY, min_size=7, max_size=7))
def test_any_replies(replies: list[Any]) -> None:
    """Whatever a Sentinel says is read or refused, without an exception."""
    found = read_answer(["a", "b"], replies)
    if isinstance(found, Answer):
        assert all(word.host and 0 < word.port < 65536 for word in found.words.values())


OLD, NEW = ("10.0.0.1", 1), ("10.0.0.2", 2)


def test_all_agree() -> None:
    """What all say counts."""
    assert verdict([Word(*OLD, 3, 3)] * 3, None, 3) == Word(*OLD, 3)


def test_the_leader_alone() -> None:
    """The one Sentinel that knows of a failover already is right: a majority has voted for it."""
    said = [Word(*OLD, 3, 3), Word(*NEW, 4, 3), Word(*OLD, 3, 3)]
    assert verdict(said, Word(*OLD, 3), 3) == Word(*NEW, 4)


def test_cut_off_minority() -> None:
    """Those that are cut off with the old master do not win it back, even if only they answer."""
    said = [Word(*OLD, 3, 5)] * 2
    assert verdict(said, Word(*NEW, 4), 5) is None


def test_first_answer_of_a_minority() -> None:
    """Where nothing was known before, the word of those that answer counts."""
    assert verdict([Word(*OLD, 3, 5)], None, 5) == Word(*OLD, 3)


def test_set_up_anew() -> None:
    """A majority of all Sentinels is believed although its epoch is lower."""
    assert verdict([Word(*OLD, 0, 3)] * 2, Word(*NEW, 4), 3) == Word(*OLD, 0)


def test_set_up_apart() -> None:
    """Within one epoch the one that most say counts; if none is said by most, none counts."""
    one, other = Word(*OLD, 0, 1), Word(*NEW, 0, 1)
    assert verdict([one, other, other], None, 3) == Word(*NEW, 0)
    assert verdict([one, other], None, 3) is None
    assert verdict([one, other], Word(*OLD, 0), 3) is None


def test_nobody_knows() -> None:
    """Without a word there is no verdict."""
    assert verdict([], Word(*OLD, 3), 3) is None
    assert verdict([], None, 3) is None


def test_epoch_not_told() -> None:
    """A word without an epoch is older than any with one."""
    said = [Word(*OLD), Word(*OLD), Word(*NEW, 0, 3)]
    assert verdict(said, None, 3) == Word(*NEW, 0)
    assert verdict(said[:2], None, 3) == Word(*OLD, UNKNOWN)


@given(
    st.data(),
    st.integers(3, 7),
    st.lists(st.integers(1, 4), min_size=1, max_size=12),
)
def test_failovers(data: st.DataObject, sentinels: int, steps: list[int]) -> None:
    """Through any failovers, with any Sentinels behind or out, the client never goes back.

    A failover needs a majority, and gives a new epoch; all others hear of it sooner or later.
    Whenever one of those that answer has heard of the last one, the client follows it.
    """
    places = {0: ("10.0.0.1", 1)}
    heard = [0] * sentinels  # the epoch of each Sentinel
    last: Word | None = None
    for step in steps:
        if step == 1:
            leader = data.draw(st.integers(0, sentinels - 1))
            epoch = max(places) + 1
            places[epoch] = ("10.0.0.1", data.draw(st.integers(1, 3)))
            heard[leader] = epoch
        else:
            behind = data.draw(st.integers(0, sentinels - 1))
            heard[behind] = max(heard[behind], data.draw(st.sampled_from(heard)))
        answering = data.draw(st.sets(st.integers(0, sentinels - 1)))
        said = [Word(*places[heard[at]], heard[at], sentinels) for at in answering]
        found = verdict(said, last, sentinels)
        newest = max((word.epoch for word in said), default=-1)
        if found is not None and len(answering) * 2 <= sentinels:
            assert last is None or found.epoch >= last.epoch
        if newest == max(places):
            assert found == Word(*places[newest], newest)
        last = found or last
