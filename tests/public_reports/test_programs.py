"""Whole programs: how they begin, what Python they run in, and how they end."""

import sys

import pytest

LAST = """
import atexit
from shardcache import LoadPolicy, ShardCache

cache = ShardCache(URLS, namespace=NAMESPACE, timeout=20)

@atexit.register
def last():
    print(cache.set("k", 1), cache.get("k"), cache.get_many(["k"]))
    print(cache.get_or_set("loaded", lambda: 2))
    with cache.lock("l", 5) as lock:
        print(lock.held)

if WARM:
    cache.get("k")
"""


# litellm #4511, cpython #113964: no thread can be started while the interpreter ends.
@pytest.mark.parametrize("warm", [True, False], ids=["connected", "not connected"])
def test_calls_while_the_interpreter_ends(program, warm) -> None:
    """What atexit calls works, also with connections that have yet to be made."""
    assert program(f"WARM = {warm}\n{LAST}") == (0, "True 1 {'k': 1}\n2\nTrue\n", "")


THREADS_AT_LAST = """
import atexit
from shardcache import LoadPolicy, ShardCache
from shardcache.errors import ThreadNotStarted

cache = ShardCache(URLS, namespace=NAMESPACE, timeout=20)

@atexit.register
def last():
    for call in (
        lambda: cache.get_or_set("loaded", lambda: True, policy=LoadPolicy(hard_timeout=20)),
        lambda: cache.lock("l", 5, auto_renew=True).acquire(),
    ):
        try:
            print(call())
        except ThreadNotStarted:
            print(True)
"""


# litellm #4511, cpython #113964
def test_threads_that_cannot_be_had_at_the_end(program) -> None:
    """What needs a thread while the interpreter ends works, or says that there was none."""
    assert program(THREADS_AT_LAST) == (0, "True\nTrue\n", "")


UNFINISHED = """
import time
from shardcache import ShardCache

cache = ShardCache(URLS, namespace=NAMESPACE, timeout=20)
lock = cache.lock("l", 30, auto_renew=True)
lock.acquire()
cache.get_or_set("stale", 1, ttl=0.02, policy="swr")
time.sleep(0.1)
print(cache.get_or_set("stale", lambda: time.sleep(50), ttl=0.02, policy="swr"))
"""


# portalocker #136, valkey-glide #6673: threads behind the program's back
def test_work_in_the_background_holds_no_program(program) -> None:
    """A renewal and a refresh that go on in the background do not keep the program from ending."""
    assert program(UNFINISHED) == (0, "1\n", "")


UNFINISHED_LOOP = """
import asyncio
from shardcache import AsyncShardCache

async def main():
    asyncio.get_running_loop().slow_callback_duration = 60  # the machine may be busy
    cache = AsyncShardCache(URLS, namespace=NAMESPACE, timeout=20)
    await cache.get_or_set("stale", 1, ttl=0.02, policy="swr")
    await asyncio.sleep(0.1)
    print(await cache.get_or_set("stale", lambda: asyncio.sleep(50), ttl=0.02, policy="swr"))
    await cache.lock("l", 30, auto_renew=True).acquire()
    if CLOSE:
        await cache.close()

asyncio.run(main(), debug=True)
"""


# cashews #205: tasks of the cache that outlive the application
@pytest.mark.parametrize("close", [True, False], ids=["closed", "left open"])
def test_work_in_the_background_ends_with_its_loop(program, close) -> None:
    """A refresh and a renewal under way when their event loop ends print no warning."""
    assert program(f"CLOSE = {close}\n{UNFINISHED_LOOP}") == (0, "1\n", "")


OPTIMISED = """
import asyncio
from shardcache import AsyncShardCache, ShardCache
from shardcache.cli import main as command

with ShardCache(URLS, namespace=NAMESPACE) as cache:
    @cache.cached(ttl=60)
    def double(number):
        return 2 * number

    with cache.lock("l", 5):
        print(double(2), cache.set_many({"a": 1}), cache.get_many(["a"]))

async def main():
    async with AsyncShardCache(URLS, namespace=NAMESPACE) as cache:
        async with cache.lock("l", 5):
            print(await cache.get("a"), await cache.clear())

asyncio.run(main())
try:
    command(["--help"])
except SystemExit as end:
    print(end.code)
"""


# Texts that are made from docstrings are gone with -OO.
def test_without_docstrings_and_asserts(program) -> None:
    """Everything works in a Python that keeps neither docstrings nor asserts."""
    code, said, complaint = program(OPTIMISED, "-OO")
    assert (code, complaint) == (0, "")
    assert [*said.splitlines()[:2], said.splitlines()[-1]] == ["4 [] {'a': 1}", "1 2", "0"]


STRICT = """
import asyncio, gc
from shardcache import AsyncShardCache, ShardCache

with ShardCache(URLS, namespace=NAMESPACE) as cache:
    with cache.lock("l", 5, auto_renew=True):
        print(cache.get_or_set("a", lambda: 1))

async def main():
    asyncio.get_running_loop().slow_callback_duration = 60  # the machine may be busy
    async with AsyncShardCache(URLS, namespace=NAMESPACE) as cache:
        async with cache.lock("l", 5, auto_renew=True):
            loads = (cache.get_or_set("a", lambda: 1) for _ in range(50))
            print(await asyncio.gather(*loads) == [1] * 50)

asyncio.run(main(), debug=True)
gc.collect()
"""


# IBM mcp-context-forge #4570: connections left open, seen in development mode only
def test_development_mode(program) -> None:
    """Python's development mode, asyncio's debug mode and warnings as errors find nothing."""
    assert program(STRICT, "-X", "dev", "-W", "error", "-bb") == (0, "1\nTrue\n", "")


EAGER = """
import asyncio
from shardcache import AsyncShardCache, LoadPolicy

async def main():
    asyncio.get_running_loop().slow_callback_duration = 60  # the machine may be busy
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    async with AsyncShardCache(URLS, namespace=NAMESPACE, timeout=20) as cache:
        async def load():
            await asyncio.sleep(0.01)
            return 1

        def task(call):
            return asyncio.create_task(call)

        sets = (task(cache.set(f"k{n}", n)) for n in range(50))
        print(await asyncio.gather(*sets) == [True] * 50)
        print(sum(await asyncio.gather(*(task(cache.get_or_set("one", load)) for n in range(50)))))
        print(await cache.get_or_set("hard", load, policy=LoadPolicy(hard_timeout=20)))
        async with cache.lock("l", 5, auto_renew=True) as lock:
            waiter = task(cache.lock("l", 5).acquire())
            await asyncio.sleep(0)
        print(await waiter)
        cancelled = task(cache.get("k1"))
        cancelled.cancel()
        await asyncio.wait([cancelled])
        print(cancelled.cancelled(), await cache.get_many(["k1", "k2"]))

asyncio.run(main(), debug=True)
"""


# async_stagger #11, aiocache #1048
@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_eager_tasks(program) -> None:
    """Tasks that run at once when they are made change nothing."""
    assert program(EAGER) == (0, "True\n50\n1\nTrue\nTrue {'k1': 1, 'k2': 2}\n", "")


DESCRIPTORS = """
import asyncio, os, resource
from shardcache import AsyncShardCache, ShardCache

most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4096), most))
kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]

with ShardCache(URLS, namespace=NAMESPACE, timeout=20) as cache:
    with cache.lock("l", 5):
        print(cache.set("k", 1), cache.get_many(["k", "l"]))

async def main():
    async with AsyncShardCache(URLS, namespace=NAMESPACE, timeout=20) as cache:
        async with cache.lock("l", 5):
            print(await cache.get("k"))

asyncio.run(main())
"""


# channels_redis #279: thousands of sockets in one process, more than select() takes
def test_more_descriptors_than_select_takes(program) -> None:
    """Descriptors above 1,024 are no trouble."""
    assert program(DESCRIPTORS) == (0, "True {'k': 1}\n1\n", "")
