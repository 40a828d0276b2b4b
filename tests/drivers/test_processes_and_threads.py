"""Real servers, many threads, forked children: each value carries its key (G1)."""

import os
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator

import pytest

from shardcache import Options, ShardCache
from shardcache.embedded import LocalShards

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@pytest.fixture(scope="module")
def servers() -> Iterator[LocalShards]:
    with LocalShards(3) as started:
        yield started


def test_threads(servers) -> None:
    """Threads share one client; nobody ever gets another key's value."""
    names = [f"{{{number % 40}}}:{number}" for number in range(200)]
    wrong: list[object] = []
    counted = []
    with ShardCache(
        servers.urls, namespace=uuid.uuid4().hex, timeout=60, on_unavailable="raise"
    ) as cache:
        cache.set_many({name: [name] for name in names})
        barrier = threading.Barrier(32)

        def work(start: int) -> None:
            try:
                barrier.wait()
                for step in range(200):
                    name = names[(start * 7 + step * 13) % len(names)]
                    found = cache.get(name)
                    if found != [name]:
                        wrong.append((name, found))
                    if step % 10 == 0:
                        some = names[step % 50 :: 7]
                        wrong.extend(
                            item for item in cache.get_many(some).items() if item[1] != [item[0]]
                        )
                        cache.set(name, [name])
                        cache.incr("count", initial=0)
                counted.append(start)
            except BaseException as error:
                wrong.append(error)
                raise

        threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (wrong, len(counted), cache.get("count")) == ([], 32, 32 * 20)
        assert cache.stats().shards["shard-1"].idle <= 32


CHILD = """
import os, sys
from shardcache import ShardCache
urls = dict(zip(sys.argv[2::2], sys.argv[3::2]))
cache = ShardCache(urls, namespace=sys.argv[1], timeout=30, on_unavailable="raise")
names = [str(number) for number in range(30)]
cache.set_many({name: [name] for name in names})
def sockets():
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found
mine = sockets()
assert len(mine) == 3, mine
children = []
for _ in range(4):
    child = os.fork()
    if not child:
        try:
            left = sockets() & mine
            good = all(cache.get(name) == [name] for name in names * 20)
            good = good and cache.get_many(names) == {name: [name] for name in names}
            os._exit(0 if good and not left and not sockets() & mine else 1 + len(left))
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(9)
    children.append(child)
wrong = [name for name in names * 20 if cache.get(name) != [name]]
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
print(wrong, codes, sockets() == mine, cache.get("5"))
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open sockets are listed in /proc")
def test_fork(servers) -> None:
    """A child works at once, on connections of its own, beside the parent, which keeps its own."""
    arguments = [word for pair in servers.urls.items() for word in pair]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, uuid.uuid4().hex, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr.strip()) == ("[] [0, 0, 0, 0] True ['5']", "")


def test_dead_peer_without_a_listener() -> None:
    """A port where nothing listens is an error before the deadline, and opens the breaker."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{holder.getsockname()[1]}/0"
        with ShardCache(
            {"a": url}, timeout=60, options=Options(first_probe=60, max_probe=60)
        ) as cache:
            assert [cache.get("k") for _ in range(5)] == [None] * 5
            shard = cache.stats().shards["a"]
            assert (shard.state, shard.failures, shard.timeouts, shard.refused_open) == (
                "open",
                3,
                0,
                2,
            )
