"""Every write invalidates a load of its key that is under way.

What was loaded before is not stored, and no later call gets it.
"""

import pytest

from shardcache import LoadPolicy, Options
from tests.waiting import until


def piped(cache, is_async, *calls):
    """Run calls in a pipeline of this colour."""
    pipe = cache.pipeline()
    for name, *args in calls:
        getattr(pipe, name)(*args)
    return pipe.execute() if not is_async else cache._finish(pipe.execute)


WRITES = {
    "set": (lambda cache: cache.set("k", "new"), "new"),
    "set-tagged": (lambda cache: cache.set("k", "new", tags=["t"]), "new"),
    "set-dead": (lambda cache: cache.set("k", "new", 0), None),
    "add": (lambda cache: cache.add("k", "new"), "new"),
    "delete": (lambda cache: cache.delete("k"), None),
    "incr": (lambda cache: cache.incr("k", initial=4), 5),
    "set_many": (lambda cache: cache.set_many({"k": "new", "j": 1}), "new"),
    "delete_many": (lambda cache: cache.delete_many(["j", "k"]), None),
    "clear": (lambda cache: cache.clear(), None),
    "flush": (lambda cache: cache.clear(flush=True), None),
}


@pytest.mark.parametrize("same", [True, False], ids=["same-process", "other-process"])
@pytest.mark.parametrize("write", [name for name in WRITES if name != "flush"])
def test_a_write_voids_the_load_under_way(make, gate, begin, counter, write, same) -> None:
    """The caller of the load gets its value; the cache keeps what was written."""
    cache = make()
    writer = cache if same else make()
    call = begin(cache.get_or_set, "k", gate("old"))
    gate.begun()
    act, kept = WRITES[write]
    act(writer)
    gate.open()
    assert call.result() == "old"
    assert (cache.get("k"), cache.stats().loading.not_stored) == (kept, 1)
    if kept is None:
        assert cache.get_or_set("k", counter) == 1


@pytest.mark.parametrize("name", ["set", "delete"])
def test_a_pipeline_voids_too(make, gate, begin, is_async, name) -> None:
    """Queued writes are writes."""
    cache, other = make(), make()
    call = begin(cache.get_or_set, "k", gate("old"))
    gate.begun()
    pipe = other.pipeline()
    getattr(pipe, name)("k", *(["new"] if name == "set" else []))
    pipe.get("k")
    pipe.execute()
    gate.open()
    assert (call.result(), cache.get("k")) == ("old", "new" if name == "set" else None)


@pytest.mark.parametrize("write", ["delete", "delete_many", "clear", "pipeline"])
def test_nobody_who_asks_after_a_delete_joins_an_older_load(cache, gate, begin, write) -> None:
    """In the process that deletes too: the next caller gets a load of its own afterwards."""
    first = begin(cache.get_or_set, "k", gate("old"))
    gate.begun()
    if write == "pipeline":
        pipe = cache.pipeline()
        pipe.delete("k")
        pipe.execute()
    else:
        WRITES[write][0](cache)
    second = begin(cache.get_or_set, "k", gate("new"))
    until(lambda: cache.stats().loading.waits)
    assert gate.calls == 1  # one loader at a time
    gate.open()
    assert (first.result(), second.result(), cache.get("k"), gate.most) == ("old", "new", "new", 1)


def test_invalidated_tags_are_not_joined(cache, gate, begin) -> None:
    """The same for a load whose tag is invalidated while it runs."""
    first = begin(lambda: cache.get_or_set("k", gate("old"), tags=["t"]))
    gate.begun()
    cache.invalidate_tags(["t"])
    second = begin(lambda: cache.get_or_set("k", gate("new"), tags=["t"]))
    until(lambda: cache.stats().loading.waits)
    gate.open()
    assert (first.result(), second.result(), cache.get("k"), gate.most) == ("old", "new", "new", 1)


def test_a_refresh_is_voided(cache, gate, begin) -> None:
    """A refresh under way when the value is deleted does not bring it back."""
    policy = LoadPolicy(stale_ttl=60)
    assert cache.get_or_set("k", "first", 0.02, policy=policy) == "first"
    until(lambda: cache.ttl("k") == 0)
    loader = gate("refreshed")
    assert cache.get_or_set("k", loader, 0.02, policy=policy) == "first"
    gate.begun()
    assert cache.delete("k") is True
    gate.open()
    until(lambda: cache.stats().loading.not_stored)
    assert cache.get("k") is None


def test_a_refresh_does_not_bring_back_what_others_deleted(cache, servers, gate) -> None:
    """Another program's write invalidates no load, but the value the loader saw expires early."""
    policy = LoadPolicy(stale_ttl=60)
    assert cache.get_or_set("k", "first", 0.02, policy=policy) == "first"
    until(lambda: 0 < servers.own_shard(cache, "k").pttl(cache.explain("k").wire_key) < 60_000)
    assert cache.get_or_set("k", gate("refreshed"), 60, policy=policy) == "first"
    gate.begun()
    assert servers.own_shard(cache, "k").delete(cache.explain("k").wire_key) == 1
    gate.open()
    until(lambda: cache.stats().loading.not_stored)
    assert cache.get("k") is None


def test_void_loads_off(make, gate, begin) -> None:
    """Without it a delete is one command, and a load under way fills."""
    cache, other = make(), make(options=Options(void_loads=False))
    call = begin(cache.get_or_set, "k", gate("old"))
    gate.begun()
    other.delete("k")
    gate.open()
    assert (call.result(), cache.get("k")) == ("old", "old")


def test_refresh_by_hand_voids_other_loads(cache, make, gate, begin, is_async, counter) -> None:
    """`refresh` loads now and stores what it loads; the load that it overtook is not stored."""
    first = begin(cache.get_or_set, "k", gate("old"))
    gate.begun()
    other = make()
    cached = other._target.cached if is_async else other.cached
    if is_async:

        async def fresh() -> str:
            return "fresh"

        assert other._finish(cached(key="k")(fresh).refresh) == "fresh"
    else:
        assert cached(key="k")(lambda: "fresh").refresh() == "fresh"
    gate.open()
    assert (first.result(), cache.get("k")) == ("old", "fresh")
