"""What an operator does to a local cluster is done when the method returns, and loses no key."""

from collections.abc import Iterator
from contextlib import closing

import pytest
import redis

from shardcache import errors
from shardcache.embedded import LocalCluster

pytestmark = pytest.mark.long

KEYS = 30
SLOT = 12182  # of the tag {foo}, by `CLUSTER KEYSLOT`
PASSWORD = "pass word"
LONG = 100.0  # seconds: an election that found no majority is held again after four node timeouts


@pytest.fixture(scope="module")
def cluster(program) -> Iterator[LocalCluster]:
    """Three masters with a replica each and a password; each test leaves it whole."""
    # A busy machine may hold up a master for longer than the default: then its replica takes over.
    options = {"cluster-node-timeout": "5000"}
    with LocalCluster(
        3, replicas=1, password=PASSWORD, options=options, binary=program, timeout=LONG
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster) -> Iterator[redis.RedisCluster]:
    """A client of the cluster, which has put keys into one slot."""
    with redis.RedisCluster.from_url(cluster.urls[cluster.masters[0].name]) as client:
        assert client.keyslot("{foo}") == SLOT
        for number in range(KEYS):
            client.set(f"{{foo}}{number}", number)
        yield client


def whole(client) -> bool:
    """Whether all keys of the slot are there."""
    return [client.get(f"{{foo}}{number}") for number in range(KEYS)] == [
        b"%d" % number for number in range(KEYS)
    ]


def other(cluster):
    """Return a master that does not serve the slot."""
    return next(master for master in cluster.masters if master is not cluster.owner(SLOT))


def count(ask, server) -> int:
    """Return how many keys of the slot a server has."""
    return int(ask(server, "CLUSTER", "COUNTKEYSINSLOT", SLOT, password=PASSWORD))


def test_slot_moves_with_its_keys(cluster, client, ask):
    """All keys are served before, after and between the steps, which come in order."""
    source, target, steps = cluster.owner(SLOT), other(cluster), []

    def on_step(step) -> None:
        steps.append(step)
        assert whole(client)

    cluster.migrate_slot(SLOT, target, on_step, batch=20)
    assert [(step.name, step.keys) for step in steps] == [
        ("importing", 0),
        ("migrating", 0),
        ("keys", 20),
        ("keys", 30),
        ("target", 30),
        ("source", 30),
        ("others", 30),
    ]
    assert {step.slots for step in steps} == {(SLOT,)}
    assert cluster.owner(SLOT) is target
    assert [count(ask, source), count(ask, target)] == [0, KEYS]
    assert list(cluster.slot_migration(SLOT, target)) == []  # it is there already


def test_slot_that_is_left_in_the_middle(cluster, client, ask):
    """Its keys lie on two nodes, the old owner says ASK for those that went; it can be resumed."""
    source, target = cluster.owner(SLOT), other(cluster)
    with closing(cluster.slot_migration(SLOT, target, batch=10)) as steps:
        assert [next(steps).name for _ in range(3)] == ["importing", "migrating", "keys"]
    assert [count(ask, source), count(ask, target)] == [KEYS - 10, 10]
    with pytest.raises(redis.exceptions.AskError):
        ask(source, "GET", "{foo}absent", password=PASSWORD)
    assert cluster.owner(SLOT) is source
    assert whole(client)
    cluster.migrate_slot(SLOT, target)
    assert cluster.owner(SLOT) is target
    assert whole(client)


def test_step_that_raises_leaves_the_slot(cluster, client):
    """What `on_step` raises comes out, and nothing more is done."""

    def on_step(step) -> None:
        if step.name == "migrating":
            raise LookupError

    source, target = cluster.owner(SLOT), other(cluster)
    with pytest.raises(LookupError):
        cluster.migrate_slot(SLOT, target, on_step)
    assert cluster.owner(SLOT) is source
    cluster.migrate_slot(SLOT, target)
    assert whole(client)


def test_failover(cluster, client):
    """Master and replica change places, and no key is lost."""
    master = cluster.owner(SLOT)
    [replica] = cluster.replicas_of(master)
    cluster.wait_until_ok(timeout=LONG)  # the replica has the keys
    cluster.fail_over(replica, timeout=LONG)
    assert cluster.owner(SLOT) is replica
    assert cluster.replicas_of(replica) == (master,)
    assert whole(client)
    with pytest.raises(errors.InvalidOption, match=f"{replica.name} is a master"):
        cluster.fail_over(replica)


@pytest.mark.parametrize("how", ["force", "takeover"])
def test_failover_without_the_master(cluster, how):
    """Where the master stands still, it is not asked, and it comes back as a replica."""
    master = cluster.owner(SLOT)
    [replica] = cluster.replicas_of(master)
    master.pause()
    cluster.fail_over(replica, timeout=LONG, **{how: True})
    assert cluster.owner(SLOT) is replica
    master.resume()
    cluster.wait_until_ok(timeout=LONG)
    assert cluster.replicas_of(replica) == (master,)


def test_killed_master_is_replaced(cluster, client):
    """The wait ends when its replica serves the slots; a node that is down can be removed."""
    cluster.wait_until_ok(timeout=LONG)
    master = cluster.owner(SLOT)
    [replica] = cluster.replicas_of(master)
    master.kill()
    cluster.wait_until_ok(timeout=LONG)
    assert cluster.owner(SLOT) is replica
    assert whole(client)
    with pytest.raises(errors.InvalidOption, match=f"{master.name} does not answer, so it cannot"):
        cluster.remove_node(master, keep_running=True)
    cluster.remove_node(master)
    assert master not in cluster.servers
    new = cluster.add_replica(replica)
    assert cluster.replicas_of(replica) == (new,)


def test_master_joins_and_leaves(cluster, client, ask):
    """A new master has no slots; when it leaves, its slots and its replica go to the others."""
    new = cluster.add_master()
    assert cluster.slots(new) == ()
    assert new in cluster.masters
    for slot in (SLOT, SLOT + 1):
        cluster.migrate_slot(slot, new)
    replica = cluster.add_replica(new)
    assert whole(client)
    cluster.remove_node(new, keep_running=True)
    assert new not in cluster.servers
    assert len(cluster.masters) == 3
    assert replica in cluster.replicas
    assert whole(client)
    # It runs on, and serves nothing.
    with pytest.raises(redis.exceptions.ClusterDownError):
        ask(new, "GET", "{foo}1", password=PASSWORD)
    cluster.remove_node(replica)
    assert not replica.running


def test_rebalance(cluster, client):
    """After it all masters have equally many slots, give or take one."""
    cluster.rebalance()
    target = other(cluster)
    source = cluster.owner(SLOT)
    for slot in (SLOT, *(first for first, _ in cluster.slots(source)[:1])):
        cluster.migrate_slot(slot, target)
    steps = []
    assert cluster.rebalance(steps.append) in (1, 2)
    assert [step.name for step in steps if step.name != "keys"][:2] == ["importing", "migrating"]
    counts = [
        sum(last - first + 1 for first, last in cluster.slots(master)) for master in cluster.masters
    ]
    assert (sum(counts), max(counts) - min(counts)) == (16384, 1)
    assert cluster.rebalance() == 0
    assert whole(client)


@pytest.mark.parametrize(
    ("slot", "options", "complaint"),
    [
        (16384, {}, "slot must be a whole number from 0 to 16383, got 16384"),
        (0, {"batch": 0}, "batch must be a whole number from 1 to 10000, got 0"),
    ],
)
def test_wrong_slot(cluster, slot, options, complaint):
    """A slot or a batch that cannot be is refused before anything is sent."""
    with pytest.raises(errors.InvalidOption, match=complaint):
        cluster.migrate_slot(slot, cluster.masters[0], **options)


def test_slot_moves_to_masters_only(cluster):
    """A replica gets no slot."""
    replica = cluster.replicas[0]
    with pytest.raises(
        errors.InvalidOption, match=f"to a master that answers, not to {replica.name}"
    ):
        cluster.migrate_slot(0, replica)


def test_last_master_stays():
    """The last master cannot go, nor one that is down and has slots; nobody joins what ended."""
    with LocalCluster(1) as cluster:
        [only] = cluster.servers
        with pytest.raises(errors.InvalidOption, match="node-1 is the last master"):
            cluster.remove_node(only)
        new = cluster.add_master()
        cluster.migrate_slot(0, new)
        new.kill()
        with pytest.raises(errors.InvalidOption, match="so its slots cannot move"):
            cluster.remove_node(new)
        with pytest.raises(errors.ShardUnavailable, match="owner of slot 0 does not answer"):
            cluster.migrate_slot(0, only)
    with pytest.raises(errors.ShardUnavailable, match="no server runs"):
        cluster.add_master()
