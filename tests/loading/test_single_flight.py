"""Who waits for whom: cancelled callers, loaders that load, closing, forking."""

import asyncio
import os
import threading

import pytest

from shardcache import AsyncShardCache, LoadPolicy, Options, ShardCache, errors


def test_a_loader_loads_another_key(cache, counter) -> None:
    """Nested loads."""
    inner = counter.of(lambda: "inner")
    assert cache.get_or_set("a", counter.of(lambda: nested(cache, "b", inner))) == "inner"
    assert cache.get_many(["a", "b"]) == {"a": "inner", "b": "inner"}


def nested(cache, key, loader, **settings):
    """Call get_or_set from inside of a loader, in either colour."""
    target = getattr(cache, "_target", cache)
    return target.get_or_set(key, loader, **settings)


@pytest.mark.parametrize("timeout", [None, 20])
def test_a_loader_that_asks_for_its_own_key(cache, counter, timeout) -> None:
    """It would wait for itself: an error at once, and the lock is free."""
    policy = LoadPolicy(hard_timeout=timeout)
    itself = counter.of(lambda: nested(cache, "a", counter, policy=policy))
    with pytest.raises(errors.LoadCycle, match=":a'"):
        cache.get_or_set("a", itself, policy=policy)
    assert cache.get_or_set("a", 5) == 5


def test_a_longer_cycle(cache, counter) -> None:
    """A loads B, which loads A."""
    back = counter.of(lambda: nested(cache, "a", counter))
    with pytest.raises(errors.LoadCycle, match=":a'"):
        cache.get_or_set("a", counter.of(lambda: nested(cache, "b", back)))


def test_a_cycle_through_many(cache, counter) -> None:
    """A loader of several keys asks for its second one."""
    with pytest.raises(errors.LoadCycle, match=":b'"):
        cache.get_or_set_many(["a", "b"], counter.of(lambda _: nested(cache, "b", counter)))


def test_two_clients_are_no_cycle(make, counter) -> None:
    """The same key in another cache is another key."""
    one, two = make(), make(namespace="other")
    assert one.get_or_set("a", counter.of(lambda: nested(two, "a", 3))) == 3


def test_crossed_loads_end(make, begin, counter, is_async) -> None:
    """A waits for B and B for A, in one process and in two: it ends within ``wait``."""
    policy = LoadPolicy(wait=0.3)
    for one, two in ((make(),) * 2, (make(), make())):
        barrier = threading.Barrier(2)
        arrived = []

        def cross(cache, key, barrier=barrier, arrived=arrived):
            if not is_async:
                barrier.wait(20)
                return nested(cache, key, "direct", policy=policy)

            async def later():
                arrived.append(key)
                while len(arrived) < 2:  # noqa: ASYNC110  two clients, perhaps on two loops
                    await asyncio.sleep(0.002)
                return await nested(cache, key, "direct", policy=policy)

            return later()

        calls = [
            begin(
                one.get_or_set, "a", counter.of(lambda cache=one: cross(cache, "b")), policy=policy
            ),
            begin(
                two.get_or_set, "b", counter.of(lambda cache=two: cross(cache, "a")), policy=policy
            ),
        ]
        assert [call.result(20) for call in calls] == ["direct"] * 2
        one.delete_many(["a", "b"])


def test_nested_loads_need_no_place(make, counter) -> None:
    """With one place for loaders a loader may still load."""
    cache = make(options=Options(max_loads=1))
    assert cache.get_or_set("a", counter.of(lambda: nested(cache, "b", "inner"))) == "inner"


def run(shards, namespace, work):
    """Run a coroutine function with an asyncio client."""

    async def body():
        async with AsyncShardCache(shards.urls, namespace=namespace, timeout=20) as cache:
            return await asyncio.wait_for(work(cache), 20)

    return asyncio.run(body())


class Slow:
    """A loader that waits for an event of asyncio's."""

    def __init__(self) -> None:
        self.calls = self.cancelled = 0
        self.go_on = asyncio.Event()

    async def __call__(self):
        self.calls += 1
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return "loaded"


async def waits(slow, count=1):
    while slow.calls < count:  # noqa: ASYNC110  a count, not an event
        await asyncio.sleep(0.002)


def test_a_cancelled_waiter_cancels_nobody(shards, namespace) -> None:
    """Not even the one who began it."""

    async def work(cache):
        slow = Slow()
        calls = [asyncio.create_task(cache.get_or_set("k", slow)) for _ in range(3)]
        await waits(slow)
        calls[0].cancel()
        await asyncio.sleep(0.01)
        slow.go_on.set()
        found = await asyncio.gather(*calls, return_exceptions=True)
        return [type(found[0]), *found[1:], slow.calls, slow.cancelled]

    assert run(shards, namespace, work) == [asyncio.CancelledError, "loaded", "loaded", 1, 0]


def test_the_last_cancellation_cancels_the_loader(shards, namespace, servers) -> None:
    """And the lock is given back; who comes in that moment is not cancelled with it, but loads."""

    async def work(cache):
        slow = Slow()
        calls = [asyncio.create_task(cache.get_or_set("k", slow)) for _ in range(2)]
        await waits(slow)
        for call in calls:
            call.cancel()
        await asyncio.sleep(0)
        newcomer = asyncio.create_task(cache.get_or_set("k", lambda: "mine"))
        await asyncio.gather(*calls, return_exceptions=True)
        return [await newcomer, slow.calls, slow.cancelled, cache.stats().loading.failures]

    assert run(shards, namespace, work) == ["mine", 1, 1, 1]
    with ShardCache(shards.urls, namespace=namespace) as plain:
        assert servers.locked(plain, "k") == []


def test_closing_during_a_load(shards, namespace) -> None:
    """The loader is cancelled; who waited is told that the client was closed."""

    async def work(cache):
        slow = Slow()
        calls = [asyncio.create_task(cache.get_or_set("k", slow)) for _ in range(2)]
        await waits(slow)
        await cache.close()
        found = await asyncio.gather(*calls, return_exceptions=True)
        return [[type(one) for one in found], slow.cancelled]

    assert run(shards, namespace, work) == [[errors.ClientClosed] * 2, 1]


def test_a_loader_that_was_cancelled_by_itself(shards, namespace) -> None:
    """It says nothing about the value: the others load."""

    async def work(cache):
        slow = Slow()

        async def broken():
            await slow()
            raise asyncio.CancelledError

        calls = [
            asyncio.create_task(cache.get_or_set("k", broken if not n else lambda: "mine"))
            for n in range(2)
        ]
        await waits(slow)
        slow.go_on.set()
        return await asyncio.wait_for(calls[1], 10)

    assert run(shards, namespace, work) == "mine"


@pytest.mark.parametrize("timeout", [None, 20])
@pytest.mark.parametrize("protect", ["fleet", "none"])
@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
def test_a_loader_cancelled_by_nobody(shards, namespace, timeout, protect, many) -> None:
    """Its caller gets an error that says so, not a cancellation; the next caller loads."""

    async def work(cache):
        async def broken(*_):
            raise asyncio.CancelledError

        policy = LoadPolicy(hard_timeout=timeout, protect=protect)
        ask = cache.get_or_set_many if many else cache.get_or_set
        with pytest.raises(errors.LoadCancelled) as caught:
            await ask(["k"] if many else "k", broken, policy=policy)
        return [
            type(caught.value.__cause__),
            await cache.get_or_set("k", "next"),
            cache.stats().loading.failures,
        ]

    found = run(shards, namespace, work)
    assert found[1:] == ["next", 1]
    if timeout is None:
        assert found[0] is asyncio.CancelledError


def test_a_caller_that_was_cancelled_is_cancelled(shards, namespace) -> None:
    """Whatever the policy, it is told so, and so is its loader."""

    async def work(cache):
        found = []
        for policy in (LoadPolicy(), LoadPolicy(hard_timeout=20), LoadPolicy(protect="none")):
            slow = Slow()
            call = asyncio.create_task(cache.get_or_set("k", slow, policy=policy))
            await waits(slow)
            call.cancel()
            [error] = await asyncio.gather(call, return_exceptions=True)
            while not slow.cancelled:  # noqa: ASYNC110  a count, not an event
                await asyncio.sleep(0.002)
            found.append(type(error))
        return found

    assert run(shards, namespace, work) == [asyncio.CancelledError] * 3


def test_closing_during_a_load_in_threads(shards, namespace, begin, gate) -> None:
    """The sync client cannot end a loader, but close does not hang on it."""
    gate.is_async = False
    cache = ShardCache(shards.urls, namespace=namespace, timeout=20)
    call = begin(cache.get_or_set, "k", gate())
    gate.begun()
    cache.close()
    gate.open()
    error = call.exception(20)
    assert error is None or isinstance(error, errors.ClientClosed)


def test_an_interrupted_loader_lets_others_load(shards, namespace, begin, gate) -> None:
    """KeyboardInterrupt in one thread's loader is that thread's; its waiters load themselves."""
    gate.is_async = False
    with ShardCache(shards.urls, namespace=namespace, timeout=20) as cache:
        first = begin(cache.get_or_set, "k", gate(error=KeyboardInterrupt()))
        gate.begun()
        second = begin(cache.get_or_set, "k", lambda: "mine")
        gate.open()
        assert (type(first.exception(20)), second.result(20)) == (KeyboardInterrupt, "mine")


# Forking with threads is what this is about.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_during_a_load(shards, namespace, begin, gate) -> None:
    """The child does not wait for its parent's threads, but for its parent's value."""
    gate.is_async = False
    with ShardCache(shards.urls, namespace=namespace, timeout=20) as cache:
        call = begin(cache.get_or_set, "k", gate("parent"))
        gate.begun()
        child = os.fork()
        if not child:
            try:
                value = cache.get_or_set("k", lambda: "child", policy=LoadPolicy(wait=20))
                os._exit(0 if value == "parent" else 1)
            finally:
                os._exit(2)
        gate.open()
        assert call.result() == "parent"
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
