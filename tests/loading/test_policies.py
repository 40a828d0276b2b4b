"""What may be served, and when it is refreshed: stale, early, timeouts, refusals, ttls."""

from datetime import timedelta

import pytest

from shardcache import LoadPolicy, LoadResult, Options, errors
from shardcache.flows.load import context
from tests.waiting import until

SHORT = 0.02  # seconds: over by the time that anybody looks


def stale(cache, policy, value="old") -> None:
    """Leave a value under "k" whose time is over, and its grace is not."""
    cache.get_or_set("k", value, SHORT, policy=policy)
    until(lambda: cache.ttl("k") == 0)


def test_stale_while_revalidate(make, gate) -> None:
    """The stale value comes at once; one refresher in the fleet loads the next."""
    one, two = make(), make()
    policy = LoadPolicy.swr()
    stale(one, policy)
    loader = gate("new")
    assert [
        client.get_or_set("k", loader, 60, policy=policy) for client in (one, two, one, two)
    ] == ["old"] * 4
    gate.begun()
    gate.open()
    until(lambda: one.get("k") == "new")
    assert (gate.calls, one.stats().loading.stale, two.stats().loading.stale) == (1, 2, 2)
    assert one.get_or_set("k", loader, 60, policy=policy) == "new"


def test_staler_than_the_caller_allows(cache, counter) -> None:
    """Grace is the reader's too: who allows none loads."""
    stale(cache, LoadPolicy.swr())
    assert cache.get_or_set("k", counter, 60) == 1


def test_refresh_in_the_foreground(cache, counter) -> None:
    """Without background the one who gets the lock loads before it returns."""
    policy = LoadPolicy(stale_ttl=60, background=False)
    stale(cache, policy)
    assert cache.get_or_set("k", counter, 60, policy=policy) == 1
    assert (cache.get("k"), counter.calls) == (1, 1)


@pytest.mark.parametrize("background", [True, False])
def test_stale_if_error(cache, counter, background) -> None:
    """A refresh that fails leaves the stale value, and says so in stats and events."""
    policy = LoadPolicy(stale_ttl=60, background=background)
    stale(cache, policy)
    failing = counter.of(lambda: 1 / 0)
    assert cache.get_or_set("k", failing, 60, policy=policy) == "old"
    until(lambda: cache.stats().loading.failures == 1)
    assert cache.stats().loading.stale == 1


def test_no_stale_if_error(cache, counter) -> None:
    """Where the policy says so the error comes out."""
    policy = LoadPolicy(stale_ttl=60, background=False, stale_if_error=False)
    stale(cache, policy)
    with pytest.raises(ZeroDivisionError):
        cache.get_or_set("k", counter.of(lambda: 1 / 0), 60, policy=policy)


def test_soft_timeout(cache, gate) -> None:
    """A caller who loads is given the stale value after so long; the load goes on and is stored."""
    policy = LoadPolicy(stale_ttl=60, background=False, soft_timeout=0.03)
    stale(cache, policy)
    assert cache.get_or_set("k", gate("new"), 60, policy=policy) == "old"
    gate.begun()
    gate.open()
    until(lambda: cache.get("k") == "new")
    assert (gate.calls, gate.cancelled) == (1, 0)


def test_hard_timeout(cache, servers, gate, counter) -> None:
    """After so long the load is given up, and its lock with it."""
    with pytest.raises(errors.LoadTimeout, match=r"0\.03 s"):
        cache.get_or_set("k", gate(), 60, policy=LoadPolicy(hard_timeout=0.03))
    until(lambda: not servers.locked(cache, "k"))
    assert cache.get_or_set("k", counter, 60) == 1
    gate.open()
    assert cache.get("k") == 1


def test_hard_timeout_that_is_kept(cache, counter) -> None:
    """A loader in time is not disturbed; its own TimeoutError is its own."""
    policy = LoadPolicy(hard_timeout=20)
    assert cache.get_or_set("k", counter, policy=policy) == 1

    def late():
        raise TimeoutError("my own")

    with pytest.raises(TimeoutError, match="my own"):
        cache.get_or_set("j", counter.of(late), policy=policy)


def test_early_refresh_loads_behind_the_lock(make, gate, monkeypatch) -> None:
    """XFetch: near its end one process refreshes a value in the background; all get the old."""
    one, two = make(), make()
    eager = LoadPolicy(beta=1000)
    monkeypatch.setattr(context, "version_draw", lambda *_: 2**-64)  # every version is early
    one.get_or_set("k", "old", 20, policy=eager)
    loader = gate("new")
    assert [
        client.get_or_set("k", loader, 20, policy=eager) for client in (one, two, one, two)
    ] == ["old"] * 4
    gate.begun()
    gate.open()
    until(lambda: one.get("k") == "new")
    assert gate.calls == 1
    assert one.stats().loading.stale == two.stats().loading.stale == 0


def test_strict_never_refreshes_early(cache, counter) -> None:
    """No delta is stored, so nobody refreshes early, whatever his policy."""
    cache.get_or_set("k", "old", 300, policy="strict")
    assert cache.get_or_set("k", counter, 300, policy=LoadPolicy(beta=1000)) == "old"
    assert counter.calls == 0


def test_negative_caching(make, counter) -> None:
    """A refusal is remembered: loads get `NegativeHit`, a get a miss; then it is loaded anew."""
    one, two = make(), make()

    def refuse():
        raise LookupError("no such user")

    policy = LoadPolicy(negative_on=(LookupError,), negative_ttl=60)
    with pytest.raises(LookupError):
        one.get_or_set("k", counter.of(refuse), policy=policy)
    for client in (one, two):
        with pytest.raises(errors.NegativeHit, match="no such user"):
            client.get_or_set("k", counter, policy=policy)
    assert (one.get("k", "miss"), one.get_many(["k"]), counter.calls) == ("miss", {}, 1)
    assert 50 < one.ttl("k") <= 60
    assert one.delete("k") is True
    assert two.get_or_set("k", counter, policy=policy) == 2


def test_other_errors_are_not_remembered(cache, counter) -> None:
    """Only the types named."""
    policy = LoadPolicy(negative_on=(LookupError,), negative_ttl=60)
    with pytest.raises(ZeroDivisionError):
        cache.get_or_set("k", counter.of(lambda: 1 / 0), policy=policy)
    assert cache.get_or_set("k", counter, policy=policy) == 2


@pytest.mark.parametrize(
    ("ttl", "low", "high"),
    [(5, 4, 5), (timedelta(minutes=1), 59, 60), (None, None, None), (0, 0, 0)],
    ids=str,
)
def test_a_result_with_a_ttl_of_its_own(cache, counter, ttl, low, high) -> None:
    """`LoadResult` wins over the call's ttl; zero stores nothing, None for ever."""
    assert cache.get_or_set("k", counter.of(lambda: LoadResult("v", ttl)), 300) == "v"
    left = cache.ttl("k")
    assert left is None if low is None else low <= left <= high
    assert cache.stats().loading.not_stored == 0


def test_a_result_without_a_ttl_of_its_own(cache, counter) -> None:
    """Then the call's counts."""
    assert cache.get_or_set("k", counter.of(lambda: LoadResult("v")), 100) == "v"
    assert 90 < cache.ttl("k") <= 100


def test_jitter(cache, counter) -> None:
    """Ttls are shortened at random, by up to the share."""
    for n in range(20):
        cache.get_or_set(f"k{n}", counter, 100, policy=LoadPolicy(jitter=0.5))
    lefts = [cache.ttl(f"k{n}") for n in range(20)]
    assert min(lefts) > 45
    assert len({round(left) for left in lefts}) > 3


def test_an_int_stays_a_number(cache) -> None:
    """What get_or_set stores of an int, incr counts on."""
    assert cache.get_or_set("n", 41, 300) == 41
    assert cache.incr("n") == 42


def test_the_lock_lasts_as_long_as_loading_took(cache, counter) -> None:
    """A slow load makes the next lock longer, a fast one the usual length again."""
    context, policy = cache._load_context, LoadPolicy(lock_ttl=1)
    wire = b"k"
    assert context.load_key("k", wire, policy).plan.ttl == 1
    context.paced([wire], 4.0, policy)
    assert context.load_key("k", wire, policy).plan.ttl == 12
    context.paced([wire], 0.1, policy)
    assert context.load_key("k", wire, policy).plan.ttl == 1
    for n in range(5000):
        context.paced([b"%d" % n], 4.0, policy)
    assert len(context.paces) <= 4096
    del counter


@pytest.mark.parametrize(
    "settings", [{}, {"options": Options(signing_key=b"k" * 32)}], ids=["plain", "signed"]
)
def test_ttl_and_touch_speak_of_freshness(make, servers, counter, settings) -> None:
    """A ttl of 50 s and a grace of 60 s: 50 are left; a touch keeps the grace."""
    cache = make(**settings)
    policy = LoadPolicy.swr(60)

    def expiry() -> float:
        return servers.own_shard(cache, "k").pttl(cache.explain("k").wire_key) / 1000

    cache.get_or_set("k", "old", 50, policy=policy)
    assert (45 < cache.ttl("k") <= 50, 105 < expiry() <= 110) == (True, True)
    assert cache.touch("k", 500) is True
    assert (495 < cache.ttl("k") <= 500, 555 < expiry() <= 560) == (True, True)
    assert cache.get_or_set("k", counter, 50, policy=policy) == "old"
    assert counter.calls == 0


def test_touch_makes_a_stale_value_fresh(cache, counter) -> None:
    """A stale one has no time left, though it is there; touched it is not to be refreshed."""
    policy = LoadPolicy.swr(60)
    stale(cache, policy)
    assert (cache.ttl("k"), cache.contains("k"), cache.get("k")) == (0.0, True, "old")
    assert cache.touch("k", 50) is True
    assert 45 < cache.ttl("k") <= 50
    assert (cache.get_or_set("k", counter, policy=policy), counter.calls) == ("old", 0)
    assert cache.touch("k", None) is True
    assert (cache.ttl("k"), cache.get_or_set("k", counter, policy=policy), counter.calls) == (
        None,
        "old",
        0,
    )


def test_ttl_and_touch_in_a_pipeline(cache) -> None:
    """The same, queued."""
    stale(cache, LoadPolicy.swr(60))
    pipe = cache.pipeline()
    pipe.ttl("k")
    pipe.touch("k", 50)
    pipe.ttl("k")
    before, touched, after = pipe.execute()
    assert (before, touched, 45 < after <= 50) == (0.0, True, True)


@pytest.mark.parametrize("kind", ["rpush", "set"])
def test_ttl_and_touch_of_what_others_stored(cache, servers, kind) -> None:
    """A list, and a text that begins as if it were ours: no grace, and no error."""
    own_shard, wire = servers.own_shard(cache, "k"), cache.explain("k").wire_key
    getattr(own_shard, kind)(wire, b"\xff\x00short")
    own_shard.pexpire(wire, 40_000)
    assert 35 < cache.ttl("k") <= 40
    assert cache.touch("k", 80) is True
    assert 75 < cache.ttl("k") <= 80
