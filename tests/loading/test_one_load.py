"""One load: a miss is loaded once in the fleet; the others wait for the value."""

import pytest

from shardcache import LoadPolicy, Options, errors
from tests.waiting import until


def test_a_miss_is_loaded_and_stored(cache, counter) -> None:
    """The second call finds what the first has stored."""
    assert [cache.get_or_set("k", counter, 60) for _ in range(3)] == [1, 1, 1]
    assert (cache.get("k"), counter.calls, cache.stats().loading.loads) == (1, 1, 1)
    assert 50 < cache.ttl("k") <= 60


@pytest.mark.parametrize("value", [None, 0, "", b"", False, [], {"a": (1, None)}], ids=repr)
def test_any_value_is_a_value(cache, counter, value) -> None:
    """None and other false values are kept like all others."""
    loader = counter.of(lambda: value)
    found = [cache.get_or_set("k", loader) for _ in range(2)]
    assert (found, [type(one) for one in found], counter.calls) == (
        [value] * 2,
        [type(value)] * 2,
        1,
    )


def test_a_value_instead_of_a_loader(cache) -> None:
    """What cannot be called is the value."""
    assert (cache.get_or_set("k", "plain"), cache.get_or_set("k", "other"), cache.get("k")) == (
        "plain",
    ) * 2 + ("plain",)


def test_a_plain_function_loads_in_both_colours(cache) -> None:
    """The asyncio client takes sync loaders too."""
    assert cache.get_or_set("k", lambda: 7) == 7


def test_a_lambda_that_returns_a_coroutine(cache, is_async) -> None:
    """The asyncio client awaits what a loader returns; the sync client refuses an awaitable."""

    async def load():
        return 7

    if is_async:
        # Not ``load`` itself: a coroutine function would be another case.
        assert cache.get_or_set("k", lambda: load()) == 7  # noqa: PLW0108
    else:
        with pytest.raises(errors.InvalidArgument, match="coroutine"):
            cache.get_or_set("k", load)


def test_single_flight_in_a_process(cache, gate, begin) -> None:
    """Callers of one key share one load, and everyone gets its value."""
    loader = gate([1, 2])
    calls = [begin(cache.get_or_set, "k", loader) for _ in range(8)]
    gate.begun()
    gate.open()
    assert [call.result() for call in calls] == [[1, 2]] * 8
    assert (gate.calls, cache.stats().loading.loads) == (1, 1)


def test_one_loader_in_the_fleet(make, gate, begin) -> None:
    """Two clients are two processes: one loads, the other waits and gets the value."""
    one, two = make(), make()
    loader = gate()
    calls = [begin(client.get_or_set, "k", loader) for client in (one, two) for _ in range(3)]
    gate.begun()
    until(lambda: one.stats().loading.waits + two.stats().loading.waits)
    gate.open()
    assert [call.result() for call in calls] == ["loaded"] * 6
    assert gate.calls == 1


def test_a_cold_herd_computes_once(make, counter, begin) -> None:
    """Many processes that miss at the same moment: one computation for each key."""
    clients = [make() for _ in range(8)]
    for round_ in range(10):
        calls = [begin(client.get_or_set, f"k{round_}", counter) for client in clients]
        assert {call.result() for call in calls} == {round_ + 1}
    assert counter.calls == 10


def test_waiters_do_not_spin(make, servers, gate, begin) -> None:
    """A waiter sleeps on the server: a long load costs it few claims, and the fill wakes it."""
    one, two = make(), make()
    policy = LoadPolicy(lock_ttl=60)  # not renewed while this test looks
    first = begin(one.get_or_set, "k", gate(), policy=policy)
    gate.begun()
    before = servers.calls("eval")
    second = begin(two.get_or_set, "k", gate(), policy=policy)
    until(lambda: servers.calls("blpop") and two.stats().loading.waits)
    pops = servers.calls("blpop")
    until(lambda: servers.calls("blpop") >= pops + 3)  # three looks later
    evals = servers.calls("eval") - before
    gate.open()
    assert (first.result(), second.result(), gate.calls) == ("loaded", "loaded", 1)
    assert evals <= 8


def test_nothing_is_left_behind(make, servers, namespace, gate, begin) -> None:
    """After a load with waiters no lock is left, and what is left of the waiting expires soon."""
    one, two = make(), make()
    calls = [begin(client.get_or_set, "k", gate()) for client in (one, two)]
    gate.begun()
    until(lambda: one.stats().loading.waits + two.stats().loading.waits)
    assert len(servers.locked(one, "k")) == 3
    gate.open()
    assert [call.result() for call in calls] == ["loaded"] * 2
    until(lambda: not servers.locked(one, "k"))
    left = servers.keys(namespace)
    assert [key for key, ms in left.items() if ms < 0] == [
        f"{namespace}:@shardcache:load-voters".encode()
    ]
    assert [key for key, ms in left.items() if b"load-" in key and ms > 1000] == []


def test_a_loader_error_is_shared_by_its_flight_only(cache, counter, gate, begin) -> None:
    """Those who waited get the error; the next call loads anew; the lock is free."""
    calls = [begin(cache.get_or_set, "k", gate(error=ValueError("broken"))) for _ in range(4)]
    gate.begun()
    until(lambda: cache.stats().loading.joined == 3)
    gate.open()
    assert [str(call.exception()) for call in calls] == ["broken"] * 4
    assert cache.get_or_set("k", counter) == 1
    assert cache.stats().loading.failures == gate.calls == 1


def test_an_error_frees_the_next_process(make, counter, gate, begin) -> None:
    """A waiter in another process is woken by the failure, and loads."""
    one, two = make(), make()
    failing = begin(one.get_or_set, "k", gate(error=ValueError("broken")))
    gate.begun()
    waiting = begin(two.get_or_set, "k", counter)
    until(lambda: two.stats().loading.waits)
    gate.open()
    assert (str(failing.exception()), waiting.result(), counter.calls) == ("broken", 1, 1)


def test_an_error_frees_every_voter(make, counter, servers) -> None:
    """Not only the key's own shard: else the next loader waits until the lock ends."""
    one, two = make(), make()
    policy = LoadPolicy(lock_ttl=60)
    with pytest.raises(ZeroDivisionError):
        one.get_or_set("k", counter.of(lambda: 1 / 0), policy=policy)
    until(lambda: not servers.locked(one, "k"))
    assert two.get_or_set("k", "next", policy=policy) == "next"
    assert (two.stats().loading.waits, two.stats().loading.alone) == (0, 0)


def test_what_cannot_be_stored_is_an_error(cache, counter, servers) -> None:
    """A value that no serializer takes is refused to the caller, and holds up nobody."""
    with pytest.raises(errors.SerializationError):
        cache.get_or_set("k", counter.of(object))
    assert cache.get_or_set("k", 5) == 5


def test_wait_over_loads_or_raises(make, counter, gate, begin) -> None:
    """Past ``wait`` the policy decides: load without storing, or raise."""
    one, two = make(), make()
    first = begin(one.get_or_set, "k", gate("first"))
    gate.begun()
    impatient = LoadPolicy(wait=0.05)
    assert two.get_or_set("k", counter, policy=impatient) == 1
    with pytest.raises(errors.LoadWaitTimeout, match="'k'"):
        two.get_or_set("k", counter, policy=LoadPolicy(wait=0.05, on_wait_over="raise"))
    assert (counter.calls, two.stats().loading.alone) == (1, 1)
    gate.open()
    assert (first.result(), two.get("k")) == ("first", "first")


def test_wait_over_in_one_process(cache, counter, gate, begin) -> None:
    """The same for waiters of a load in their own process; a `LoadResult` is unpacked there too."""
    from shardcache import LoadResult

    first = begin(cache.get_or_set, "k", gate("first"))
    gate.begun()
    late = counter.of(lambda: LoadResult("mine", 5))
    assert cache.get_or_set("k", late, policy=LoadPolicy(wait=0.05)) == "mine"
    with pytest.raises(errors.LoadWaitTimeout, match="'k'"):
        cache.get_or_set("k", late, policy=LoadPolicy(wait=0.05, on_wait_over="raise"))
    gate.open()
    assert (first.result(), cache.get("k")) == ("first", "first")


@pytest.mark.parametrize("protect", ["process", "none"])
def test_less_protection(make, gate, begin, protect) -> None:
    """The policy "process" loads once in each process, "none" once for each caller."""
    one, two = make(), make()
    policy = LoadPolicy(protect=protect)
    calls = [
        begin(client.get_or_set, "k", gate(), policy=policy)
        for client in (one, two)
        for _ in range(2)
    ]
    gate.begun(2 if protect == "process" else 4)
    if protect == "process":
        until(lambda: [client.stats().loading.joined for client in (one, two)] == [1, 1])
    gate.open()
    assert [call.result() for call in calls] == ["loaded"] * 4
    assert (gate.calls, one.get("k")) == (2 if protect == "process" else 4, "loaded")


def test_slow_loads_keep_their_lock(make, servers, gate, begin) -> None:
    """The lock of a running loader is renewed: no second load, and the value is stored."""
    one, two = make(), make()
    policy = LoadPolicy(lock_ttl=2)
    first = begin(one.get_or_set, "k", gate(), policy=policy)
    gate.begun()
    second = begin(two.get_or_set, "k", gate(), policy=policy)
    pops = servers.calls("blpop")
    # A fifth of a second each at least, and the lock lasts two seconds.
    until(lambda: servers.calls("blpop") >= pops + 12)
    gate.open()
    assert (first.result(), second.result(), gate.calls, one.get("k")) == (
        "loaded",
        "loaded",
        1,
        "loaded",
    )
    assert one.stats().loading.not_stored + two.stats().loading.not_stored == 0


@pytest.mark.parametrize("protect", ["process", "none"])
def test_slow_loads_without_a_quorum_lock_are_stored(cache, servers, gate, begin, protect) -> None:
    """There too what stands in the lock is renewed."""
    policy = LoadPolicy(lock_ttl=1.5, protect=protect)
    call = begin(cache.get_or_set, "k", gate(), policy=policy)
    gate.begun()
    evals = servers.calls("eval")
    until(lambda: servers.calls("eval") >= evals + 4)  # renewals, three in each ttl
    gate.open()
    assert (call.result(), cache.get("k")) == ("loaded", "loaded")


def test_bound_on_loaders(make, servers, gate, begin) -> None:
    """So many loaders run at once in a process; waiting loads keep their locks."""
    cache = make(options=Options(max_loads=2))
    policy = LoadPolicy(lock_ttl=2)
    calls = [begin(cache.get_or_set, f"k{n}", gate(n), policy=policy) for n in range(6)]
    gate.begun(2)
    until(lambda: len(servers.locked(cache, "k5")) >= 2)
    other = make()
    held = begin(other.get_or_set, "k5", gate("other"), policy=policy)
    until(lambda: other.stats().loading.waits)
    gate.open()
    assert [call.result() for call in calls] == list(range(6))
    assert (held.result(), gate.most, gate.calls) == (5, 2, 6)


def test_bad_arguments_are_refused_before_anything_is_sent(cache, counter) -> None:
    """Wrong keys, ttls, policies, tags and loaders."""
    for wrong in (
        lambda: cache.get_or_set("", counter),
        lambda: cache.get_or_set("k", counter, "soon"),
        lambda: cache.get_or_set("k", counter, policy="fast"),
        lambda: cache.get_or_set("k", counter, tags="one"),
        lambda: cache.get_or_set("k", counter, tags=[""]),
        lambda: cache.get_or_set_many(["k"], {"k": 1}),
        lambda: cache.get_or_set_many("k", counter),
        lambda: cache.invalidate_tags("one"),
        lambda: cache.set("k", 1, tags=[b"one"]),
    ):
        with pytest.raises(errors.InvalidArgument):
            wrong()
    assert (counter.calls, cache.get("k")) == (0, None)
    cache.set("k", 1)
    with pytest.raises(errors.InvalidArgument):
        cache.get_or_set("k", counter, "soon")
