"""Writes that are redirected are carried out once, whatever they are sent with."""

from collections.abc import Iterator

import pytest

from shardcache.topology.slots import slot_of
from tests.hostile.storing_cluster import StoringCluster

KEYS = [f"key-{number}" for number in range(12)]


@pytest.fixture
def members() -> Iterator[StoringCluster]:
    """Members that count what they carry out."""
    with StoringCluster() as members:
        yield members


@pytest.fixture
def shards(members) -> object:
    """What the clients are made with."""

    class Shards:
        urls = f"redis+cluster://127.0.0.1:{members.members[0].address.port}"

    return Shards


@pytest.mark.parametrize("kind", ["moved", "asked"])
@pytest.mark.parametrize("part", [KEYS, KEYS[::2]], ids=["all", "half"])
def test_pipeline(
    make, members: StoringCluster, namespace: str, kind: str, part: list[str]
) -> None:
    """Each write, and the deletion of a load's fill token before it, is carried out once."""
    cache = make(on_unavailable="raise")
    cache.contains("k")  # it knows the members
    slots = [slot_of(f"{namespace}:{key}".encode()) for key in part]
    setattr(members, kind, {slot: members.after(slot) for slot in slots})
    members.done.clear()
    with cache.pipeline() as pipe:
        for key in KEYS:
            pipe.set(key, 1)
            pipe.get(key)
    assert pipe.results == [True, 1] * len(KEYS)
    assert members.refusals["MOVED" if kind == "moved" else "ASK"] >= 3 * len(part)
    assert dict(members.done) == dict.fromkeys((b"UNLINK", b"SET", b"GET"), len(KEYS))
