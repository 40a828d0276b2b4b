"""The thread of a watch: when it starts, where it cannot, and when it ends."""

import gc
import os
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from shardcache import errors
from tests.drivers.watched_source import LONG, Client, soon, watch_of
from tests.waiting import until


@pytest.mark.parametrize("hangs", [False, True])
def test_close(source, client, watching, hangs) -> None:
    """Closing ends the thread, hung or not, and wakes who waits for the first answer."""
    watch = watching()
    if hangs:
        source.free.clear()
    else:
        watch.ensure(soon())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(watch.ensure, soon())
        until(lambda: source.calls)
        watch.close()
        if hangs:
            with pytest.raises(errors.ClientClosed):
                waiting.result(LONG)
    worker = watch._worker
    until(lambda: not worker.is_alive())
    with pytest.raises(errors.ClientClosed):
        watch.ensure(soon())
    watch.refresh()
    watch.close()
    assert watch._worker is worker


@pytest.mark.parametrize("hangs", [False, True])
def test_nobody_has_it_any_more(source, hangs) -> None:
    """Client and watch go when nobody has them, without a collection, and the thread with them."""
    client = Client()
    watch = watch_of(source, client, hook=None)
    watch.ensure(soon())
    if hangs:
        source.free.clear()
        calls = source.calls
        until(lambda: source.calls > calls)
    gone = [weakref.ref(watch), weakref.ref(client)]
    worker = watch._worker
    gc.disable()
    try:
        del watch, client
        until(lambda: [one() for one in gone] == [None, None])
        until(lambda: not worker.is_alive())
    finally:
        gc.enable()


def test_no_thread(source, client, watching, monkeypatch) -> None:
    """Where no thread can be started an event tells, the call fails, and the next one tries."""
    watch = watching()
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(2):
        with pytest.raises(errors.DiscoveryFailed, match="can't start new thread"):
            watch.ensure(soon())
    assert [(one.kind, one.operation) for one in client.events] == [
        ("thread_not_started", "discovery")
    ] * 2
    monkeypatch.setattr(threading.Thread, "start", start)
    watch.ensure(soon())
    assert client.applied == [("a",)]


def test_no_thread_for_the_poll(source, client, watching, monkeypatch) -> None:
    """Without a second thread the watch asks in its own."""
    watch = watching()
    start = threading.Thread.start

    def only_one(thread: threading.Thread) -> None:
        if thread.name != "shardcache discovery":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", only_one)
    watch.ensure(soon())
    assert (client.applied, client.kinds[:1]) == ([("a",)], ["thread_not_started"])


CHILD = """
import os, random, sys, threading, time
from shardcache.drivers.node_watch import NodeWatch

class Client:
    applied = []
    def apply(self, answer):
        self.applied = [*self.applied, answer]

def names():
    return [one.name for one in threading.enumerate()]

answer = ["parent"]
answered_before = sys.argv[1] == "answered"
client = Client()
watch = NodeWatch(
    lambda: list(answer) if answered_before or os.getpid() != parent else time.sleep(600),
    client.apply, interval=0.01, timeout=600, hook=None, clock=time.monotonic, random=random.random,
)
parent = os.getpid()
if answered_before:
    watch.ensure(time.monotonic() + 60)
else:
    watch.check()
    try:
        watch.ensure(time.monotonic() + 0.05)
    except Exception:
        pass
child = os.fork()
if child:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    good = "shardcache discovery" in names() and client.applied == [["parent"]] * answered_before
    sys.exit(code or not good)
assert "shardcache discovery" not in names(), names()
assert client.applied == [["parent"]] * answered_before
answer[:] = ["child"]
watch.ensure(time.monotonic() + 60)
end = time.monotonic() + 60
while client.applied[-1] != ["child"]:
    assert time.monotonic() < end
    time.sleep(0.001)
assert names().count("shardcache discovery") == 1, names()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("parent", ["answered", "hung"])
def test_fork(parent) -> None:
    """A child keeps the last answer, and starts a thread of its own at its first use."""
    done = subprocess.run(
        # CPython 3.12 and later warn of any fork of a process with threads.
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", CHILD, parent],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_many_first_calls(source, client, watching) -> None:
    """Threads that come at once, before there is a thread, have the source asked once at a time."""
    source.free.clear()
    watch = watching(interval=600.0)
    with ThreadPoolExecutor(16) as threads:
        calls = [threads.submit(watch.ensure, soon()) for _ in range(16)]
        until(lambda: source.calls)
        source.free.set()
        for call in calls:
            call.result(LONG)
    assert (client.applied, source.at_once) == ([("a",)], 1)
