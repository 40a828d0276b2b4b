"""Redirects, driven by hand: only what was not carried out is sent again, in order, in time."""

from typing import Any

import pytest

from shardcache.errors import OutOfStep, ShardOut, ShardTimeout, ShardUnavailable
from shardcache.flows.redirection import concerns, follow
from shardcache.flows.steps import Batch, Broadcast, Sleep
from shardcache.resp import ErrorReply, as_error
from shardcache.topology.replica_numbers import replica_number

A, B = 0, 1  # the owner of the slot, and the node that it migrates to
HOSTS = {"a": A, "b": B}


def error(text: str, shard: int = A) -> Any:
    """Return what the driver makes of an error reply."""
    return as_error(str(shard), ErrorReply(text))


MOVED, ASK = error("MOVED 1 b:1"), error("ASK 1 b:1")
TRYAGAIN = error("TRYAGAIN Multiple keys request during rehashing of slot")
DOWN = error("CLUSTERDOWN The cluster is down")
DEAD = ShardUnavailable("a", "connection lost")


class Cluster:
    """Takes the place of driver and servers.

    ``answers``: what the next sendings are answered with: lists of replies, or an error.
    ``owner``: the shard that the newest map names.
    """

    def __init__(self, *answers: Any, owner: int = A, seconds: float = 1.0) -> None:
        self.answers = list(answers)
        self.owner = owner
        self.left = seconds
        self.sent: list[tuple[int, list[Any]]] = []
        self.refreshes = self.sleeps = 0
        self.not_kept: set[bytes] = set()

    def sent_again(self, wires: list[bytes]) -> None:
        self.not_kept.update(wires)

    def owner_of(self, _: bytes) -> int:
        return self.owner

    def shard_at(self, host: str, port: int, answered: int) -> int:
        return HOSTS[host] if host else answered

    def refresh(self) -> None:
        self.refreshes += 1

    def moved(self, _: bytes, shard: int) -> None:
        self.refreshes += shard != self.owner

    def failed_at(self, replica: int, _: bytes) -> None:
        self.refreshes += replica == REPLICA

    def run(self, batches, outcomes):
        """Return what comes of the batches in the end."""
        flow = follow(batches, outcomes, self, 1.0, lambda: self.left, lambda: 0.5)
        try:
            step = next(flow)
            while True:
                if isinstance(step, Sleep):
                    assert 0 < step.seconds < self.left
                    self.left -= step.seconds
                    self.sleeps += 1
                else:
                    assert isinstance(step, Broadcast)
                    assert step.limit <= self.left
                    assert len({batch.shard for batch in step.batches}) == len(step.batches)
                    for place, batch in enumerate(step.batches):
                        self.sent.append((batch.shard, list(batch.commands)))
                        answer = self.answers.pop(0) if self.answers else TRYAGAIN
                        if isinstance(answer, list):
                            assert len(answer) == len(batch.commands)
                        elif not isinstance(answer, ShardUnavailable) or answer.__cause__:
                            answer = [answer] * len(batch.commands)
                        step.on_reply(place, answer, None)
                step = flow.send(None)
        except StopIteration as end:
            return end.value

    def one(self, command, reply, *, twice: bool = True):
        """Return what comes of one command that was answered with ``reply``."""
        outcome = reply if reply.__cause__ is None else [reply]
        [found] = self.run([Batch(A, [command], twice)], [outcome])
        return found


GET = (b"GET", b"k")
REPLICA = replica_number(7)  # of the owner
ASKING = (b"ASKING",)


def test_nothing_to_do() -> None:
    """Outcomes without an error stay as they are, and nothing is sent."""
    cluster = Cluster()
    outcomes = [[b"v", None], [1]]
    batches = [Batch(A, [GET, GET], True), Batch(B, [(b"UNLINK", b"x")], True)]
    assert not concerns(outcomes)
    assert cluster.run(batches, outcomes) == outcomes
    assert cluster.sent == []
    assert cluster.not_kept == set()


def test_moved() -> None:
    """The command goes to the node that was named, and a new map is asked for."""
    cluster = Cluster([b"v"])
    assert concerns([[MOVED]])
    assert cluster.one(GET, MOVED) == [b"v"]
    assert (cluster.sent, cluster.refreshes, cluster.sleeps) == ([(B, [GET])], 1, 0)
    assert cluster.not_kept == {b"k"}


def test_moved_is_known() -> None:
    """A redirect that says no more than the newest map does asks for no other map."""
    cluster = Cluster([b"v"], owner=B)
    assert cluster.one(GET, MOVED) == [b"v"]
    assert (cluster.sent, cluster.refreshes) == ([(B, [GET])], 0)


def test_ask() -> None:
    """The command goes there once, behind an ASKING, and the map stays."""
    cluster = Cluster([b"OK", b"v"])
    assert cluster.one(GET, ASK) == [b"v"]
    assert (cluster.sent, cluster.refreshes) == ([(B, [ASKING, GET])], 0)


def test_each_command_has_an_asking() -> None:
    """Two commands of one slot keep their order, each behind an ASKING of its own."""
    cluster = Cluster([b"OK", 0, b"OK", b"OK"])
    pair = [(b"UNLINK", b"{k}t"), (b"SET", b"{k}", b"v")]
    assert cluster.run([Batch(A, pair, True)], [[ASK, ASK]]) == [[0, b"OK"]]
    assert cluster.sent == [(B, [ASKING, pair[0], ASKING, pair[1]])]


@pytest.mark.parametrize("twice", [True, False])
def test_only_what_was_not_carried_out(twice) -> None:
    """A write that was carried out is not sent again, whatever became of the token before it."""
    cluster = Cluster([b"OK", 1])
    pair = [(b"UNLINK", b"{k}t"), (b"INCR", b"{k}")]
    assert cluster.run([Batch(A, pair, twice)], [[ASK, 7]]) == [[1, 7]]
    assert cluster.sent == [(B, [ASKING, pair[0]])]


TOKEN = (b"UNLINK", b"n:@shardcache:load-token:{k}")  # what a write deletes before it
SET = (b"SET", b"k", b"v")


def test_write_behind_its_token() -> None:
    """A write that was carried out before its token was deleted is carried out again behind that.

    What was said first is its reply.
    """
    cluster = Cluster([b"OK", 1], [None])
    assert cluster.run([Batch(A, [TOKEN, SET], True)], [[ASK, b"OK"]]) == [[1, b"OK"]]
    assert cluster.sent == [(B, [ASKING, TOKEN]), (A, [SET])]


@pytest.mark.parametrize("twice", [True, False])
def test_write_with_its_token_is_sent_once(twice) -> None:
    """Where both are redirected, or the token was deleted first, the write is sent once more."""
    pair = [TOKEN, SET]
    for reply, there, alone in (
        (ASK, [b"OK", 1, b"OK", b"OK"], [b"OK", b"OK"]),
        (MOVED, [1, b"OK"], [b"OK"]),
    ):
        cluster = Cluster(there)
        assert cluster.run([Batch(A, pair, twice)], [[reply, reply]]) == [[1, b"OK"]]
        assert sum(commands.count(SET) for _, commands in cluster.sent) == 1
        cluster = Cluster(alone)
        assert cluster.run([Batch(A, pair, twice)], [[1, reply]]) == [[1, b"OK"]]
        assert [command for _, sent in cluster.sent for command in sent if command != ASKING] == [
            SET
        ]


def test_pipeline_of_writes_with_tokens() -> None:
    """Two writes of one slot in a pipeline that may not be sent twice: each once, in order."""
    other = (b"INCR", b"k")
    cluster = Cluster([b"OK", 1, b"OK", b"OK", b"OK", 0, b"OK", 7])
    found = cluster.run([Batch(A, [TOKEN, SET, TOKEN, other], False)], [[ASK] * 4])
    assert found == [[1, b"OK", 0, 7]]
    assert cluster.sent == [(B, [ASKING, TOKEN, ASKING, SET, ASKING, TOKEN, ASKING, other])]
    # One that was carried out before its token was deleted stays as it is.
    cluster = Cluster([b"OK", 1])
    found = cluster.run([Batch(A, [TOKEN, SET, TOKEN, other], False)], [[ASK, b"OK", 0, 7]])
    assert found == [[1, b"OK", 0, 7]]
    assert cluster.sent == [(B, [ASKING, TOKEN])]


def test_order_across_nodes() -> None:
    """What goes to another node is sent when the commands before it are done."""
    pair = [(b"UNLINK", b"{k}t"), (b"SET", b"{k}", b"v")]
    cluster = Cluster([b"OK", 1], [b"OK"])
    found = cluster.run([Batch(A, pair, True)], [[ASK, error("MOVED 1 a:1")]])
    assert found == [[1, b"OK"]]
    assert cluster.sent == [(B, [ASKING, pair[0]]), (A, [pair[1]])]


def test_a_redirect_in_the_middle_stops_what_is_behind_it() -> None:
    """What was refused again comes before what stands behind it, unless that is done."""
    pair = [(b"UNLINK", b"{k}t"), (b"SET", b"{k}", b"v")]
    cluster = Cluster([error("MOVED 1 a:1", B), error("MOVED 1 a:1", B)], [0, b"OK"])
    assert cluster.run([Batch(A, pair, True)], [[MOVED, MOVED]]) == [[0, b"OK"]]
    assert cluster.sent == [(B, pair), (A, pair)]


def test_other_slots_stay() -> None:
    """Commands of other slots, and of other shards, keep their replies and are not sent again."""
    cluster = Cluster([b"b"])
    batches = [
        Batch(A, [(b"MGET", b"x"), (b"MGET", b"y")], True, reads=True),
        Batch(2, [(b"MGET", b"z")], True, reads=True),
    ]
    found = cluster.run(batches, [[[b"a"], MOVED], [[b"c"]]])
    assert found == [[[b"a"], b"b"], [[b"c"]]]
    assert cluster.sent == [(B, [(b"MGET", b"y")])]


@pytest.mark.parametrize("reply", [ASK, TRYAGAIN], ids=["ASK", "TRYAGAIN"])
def test_several_keys_are_asked_one_by_one(reply) -> None:
    """No node answers for keys that lie on two, so that each key has a command of its own."""
    mget = (b"MGET", b"{k}1", b"{k}2")
    single = [(b"MGET", b"{k}1"), (b"MGET", b"{k}2")]
    if reply is ASK:
        cluster = Cluster([b"OK", [b"1"], b"OK", [None]])
        sent = [(B, [ASKING, single[0], ASKING, single[1]])]
    else:
        cluster = Cluster([[b"1"], ASK], [b"OK", [None]])
        sent = [(A, single), (B, [ASKING, single[1]])]
    assert cluster.run([Batch(A, [mget], True)], [[reply]]) == [[[b"1", None]]]
    assert cluster.sent == sent
    unlink = (b"UNLINK", b"{k}1", b"{k}2", b"{k}3")
    cluster = Cluster([1, 0, 1]) if reply is TRYAGAIN else Cluster([b"OK", 1, b"OK", 0, b"OK", 1])
    assert cluster.run([Batch(A, [unlink], True)], [[reply]]) == [[2]]


def test_a_part_that_fails() -> None:
    """If one key has no answer, the whole has its error."""
    cluster = Cluster([[b"1"], DOWN], seconds=0.001)
    [[found]] = cluster.run([Batch(A, [(b"MGET", b"{k}1", b"{k}2")], True)], [[TRYAGAIN]])
    assert found is DOWN


@pytest.mark.parametrize("text", ["TRYAGAIN x", "LOADING x", "CLUSTERDOWN x", "READONLY x"])
def test_another_moment(text) -> None:
    """After a pause the command goes to the owner of its slot by the newest map."""
    script = (b"EVAL", b"s", b"2", b"{k}1", b"{k}2")
    cluster = Cluster([error(text)], [1], owner=B)
    assert cluster.one(script, error(text), twice=False) == [1]
    assert [shard for shard, _ in cluster.sent] == [B, B]
    assert (cluster.sleeps, cluster.refreshes > 0) == (2, text != "TRYAGAIN x")


def test_time_is_over() -> None:
    """When no time is left, the last error stays; a redirect says that it was not followed."""
    cluster = Cluster(seconds=0.5)
    [found] = cluster.one((b"EVAL", b"s", b"2", b"{k}1", b"{k}2"), TRYAGAIN)
    assert isinstance(found, ShardUnavailable)
    assert 0 <= cluster.left < 0.1
    assert len(cluster.sent) < 20
    cluster = Cluster(seconds=0)
    [found] = cluster.one(GET, MOVED)
    assert type(found) is ShardUnavailable
    assert "MOVED 1 b:1" in str(found)
    assert cluster.sent == []


def test_redirects_in_a_circle() -> None:
    """Two nodes that send a command to each other are asked with pauses, and not for ever."""
    there, back = error("MOVED 1 b:1", A), error("MOVED 1 a:1", B)
    cluster = Cluster(*[[back], [there]] * 400, seconds=1.0)
    [found] = cluster.one(GET, there)
    assert isinstance(found, ShardUnavailable)
    assert cluster.sleeps > 2
    assert len(cluster.sent) < 200


def test_dead_connection() -> None:
    """It says nothing about the command: what may be sent twice goes to the newest owner."""
    cluster = Cluster([b"v"], owner=B)
    assert cluster.one(GET, DEAD) == [b"v"]
    assert (cluster.sent, cluster.refreshes, cluster.sleeps) == ([(B, [GET])], 1, 1)
    cluster = Cluster(owner=B)
    assert cluster.one((b"INCR", b"k"), DEAD, twice=False) is DEAD
    assert (cluster.sent, cluster.refreshes) == ([], 1)


def test_shard_that_is_out() -> None:
    """Nothing was sent to it: if the owner is another one by now, that is asked, else nobody."""
    out = ShardOut("a", "is out of service")
    cluster = Cluster(owner=A)
    assert cluster.one(GET, out) is out
    assert (cluster.sent, cluster.refreshes) == ([], 1)
    cluster = Cluster([b"v"], owner=B)
    assert cluster.one((b"INCR", b"k"), out, twice=False) == [b"v"]
    assert cluster.sent == [(B, [(b"INCR", b"k")])]


@pytest.mark.parametrize(
    "reply",
    [
        ShardTimeout("a", "no reply"),
        OutOfStep("a", "nonsense"),
        error("WRONGTYPE x"),
        error("CROSSSLOT Keys in request don't hash to the same slot"),
        error("MOVED 99999 b:1"),
        error("NOREPLICAS x"),
    ],
    ids=str,
)
def test_what_is_no_redirect(reply) -> None:
    """Other errors are outcomes."""
    cluster = Cluster(owner=B)
    found = cluster.one(GET, reply)
    assert (found if reply.__cause__ is None else found[0]) is reply or "99999" in str(found[0])
    assert cluster.sent == []


def test_a_node_is_asked_without_keys() -> None:
    """What is about a node and not about a key goes nowhere else."""
    cluster = Cluster(owner=B)
    scan = (b"SCAN", b"0")
    assert cluster.run([Batch(A, [scan], True)], [DEAD]) == [DEAD]
    assert cluster.sent == []


def test_refused_asking() -> None:
    """Its error stands for the command behind it."""
    refused = error("NOPERM User x has no permissions to run the 'asking' command")
    cluster = Cluster([refused, MOVED], owner=A)
    [found] = cluster.one(GET, ASK)
    assert found is refused


def test_validator() -> None:
    """Replies of another kind than a command can have are noticed."""
    flow = follow(
        [Batch(A, [(b"MGET", b"k"), (b"ZADD", b"k")], True)],
        [[ASK, ASK]],
        Cluster(),
        1.0,
        lambda: 1.0,
        lambda: 0.5,
    )
    step = next(flow)
    assert isinstance(step, Broadcast)
    fit = step.batches[0].validate
    assert fit is not None
    assert fit([b"OK", [b"v"], b"OK", {b"any": 1}])
    assert fit([b"OK", ErrorReply("x"), b"OK", ErrorReply("x")])
    assert not fit([7, [b"v"], b"OK", 1])
    assert not fit([b"OK", [b"v", b"w"], b"OK", 1])
    assert not fit([b"OK", b"v", b"OK", 1])


@pytest.mark.parametrize(
    "text",
    [
        "MOVED 1 b:1",
        "LOADING it reads its data",
        "MASTERDOWN Link with MASTER is down",
        "CLUSTERDOWN The cluster is down",
        "CLUSTERDOWN Hash slot not served",
    ],
)
def test_replica_that_does_not_answer(text) -> None:
    """Whatever error a replica replies with, the primary is asked, at once."""
    cluster = Cluster([b"v"])
    replied = error(text)
    assert cluster.run([Batch(REPLICA, [GET], True, reads=True)], [[replied]]) == [[b"v"]]
    assert cluster.sent == [(A, [GET])]
    assert (cluster.refreshes, cluster.sleeps) == (1, 0)


@pytest.mark.parametrize(
    "text",
    [
        "ASK 1 b:1",
        "TRYAGAIN Multiple keys request",
        "NOPERM this user has no permissions",
    ],
)
def test_replica_that_another_map_would_not_help(text) -> None:
    """The primary is asked, and no other map: a replica that refuses all has none polled."""
    cluster = Cluster([b"v"])
    assert cluster.run([Batch(REPLICA, [GET], True, reads=True)], [[error(text)]]) == [[b"v"]]
    assert (cluster.sent, cluster.refreshes) == ([(A, [GET])], 0)


@pytest.mark.parametrize("kind", [ShardOut, ShardTimeout, ShardUnavailable, OutOfStep])
def test_replica_that_is_out(kind) -> None:
    """The primary is asked all that it was asked, and other batches stay as they are."""
    other = (b"GET", b"{k}2")
    cluster = Cluster([b"v", None])
    batches = [Batch(REPLICA, [GET, other], True, reads=True), Batch(B, [GET], True, reads=True)]
    assert cluster.run(batches, [kind("r", "out"), [b"w"]]) == [[b"v", None], [b"w"]]
    assert cluster.sent == [(A, [GET, other])]


def test_primary_behind_a_replica() -> None:
    """From the primary on all is as without replicas: redirects are followed, errors stay."""
    cluster = Cluster(MOVED, [b"v"])
    assert cluster.run([Batch(REPLICA, [GET], True, reads=True)], [[MOVED]]) == [[b"v"]]
    assert cluster.sent == [(A, [GET]), (B, [GET])]
    cluster = Cluster(ShardTimeout("a", "no reply"))
    [[found]] = cluster.run([Batch(REPLICA, [GET], True, reads=True)], [[MOVED]])
    assert isinstance(found, ShardTimeout)


def test_another_type_at_a_replica() -> None:
    """That is an answer: nobody else is asked."""
    wrong = error("WRONGTYPE Operation against a key holding the wrong kind of value")
    cluster = Cluster()
    assert cluster.run([Batch(REPLICA, [GET], True, reads=True)], [[wrong]]) == [[wrong]]
    assert cluster.sent == []
