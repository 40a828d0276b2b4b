"""Questions to several shards: one batch for each shard, and to each question its own replies."""

import pytest

from shardcache.errors import ShardOut
from shardcache.flows.grouping import broadcast_grouped, exchange_grouped
from shardcache.flows.steps import Broadcast, Exchange, ServerRun

ASKED = [
    (7, [(b"GET", b"a"), (b"PTTL", b"a")]),
    (3, [(b"GET", b"b")]),
    (7, []),
    (7, [(b"GET", b"c")]),
]
COMMANDS = {7: [(b"GET", b"a"), (b"PTTL", b"a"), (b"GET", b"c")], 3: [(b"GET", b"b")]}
RUN = ServerRun(b"run", 1.0)
OUT = ShardOut("three", "is out of service")


def send(flow, value):
    """Return what a flow returns when its last step has come to ``value``."""
    with pytest.raises(StopIteration) as end:
        flow.send(value)
    return end.value.value


@pytest.mark.parametrize("timeout", [None, 0.2])
def test_each_question_gets_its_own_replies(timeout) -> None:
    """In the order of the questions, whatever shard they went to; an error for all of its shard."""
    flow = exchange_grouped(ASKED, timeout, reads=True)
    step = next(flow)
    assert {batch.shard: batch.commands for batch in step.batches} == COMMANDS
    assert all(batch.reads for batch in step.batches)
    if timeout is None:
        assert isinstance(step, Exchange)
        found = send(flow, [[b"A", 5, b"C"], OUT])
    else:
        assert step.timeout == timeout
        assert [
            step.on_reply(place, outcome, None)
            for place, outcome in ((1, OUT), (0, [b"A", 5, b"C"]))
        ] == [False, True]
        found = send(flow, None)
    assert found == [[b"A", 5], OUT, [], [b"C"]]


def test_each_answer_is_handed_on_as_it_comes() -> None:
    """Every question of a batch is heard of, and the last one says whether enough is known."""
    heard = []

    def on_reply(place, outcome, run) -> bool:
        heard.append((place, outcome, run))
        return place == 3

    flow = broadcast_grouped(ASKED, on_reply, 0.2, idempotent=False, compensates=True)
    step = next(flow)
    assert isinstance(step, Broadcast)
    assert {batch.shard: batch.commands for batch in step.batches} == COMMANDS
    assert {batch[2:] for batch in step.batches} == {
        (False, None, True, True, False, False, None),
    }
    assert step.on_reply(1, OUT, None) is False
    assert step.on_reply(0, [b"A", 5, b"C"], RUN) is True
    assert heard == [
        (1, OUT, None),
        (0, [b"A", 5], RUN),
        (2, [], RUN),
        (3, [b"C"], RUN),
    ]
    assert send(flow, None) is None


def test_nobody_waits() -> None:
    """Without anybody to hear the answers, none is waited for."""
    assert next(broadcast_grouped(ASKED, None, 0.2)).on_reply is None
