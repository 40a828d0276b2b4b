"""`demo`: from end to end with little time, broken off in the middle, and on servers that exist."""

import asyncio
import io
import os
import pty
import re
import signal
import sys
from types import SimpleNamespace

import pytest

from shardcache.cli.demo import async_worker as demo_aworker
from shardcache.cli.demo import worker as demo_worker
from shardcache.cli.demo.cluster_stages import losses, takeover
from shardcache.cli.demo.display import PlainDisplay, choose_display
from shardcache.cli.demo.near_stage import Freshness
from shardcache.cli.demo.run import Demo
from shardcache.cli.demo.tally import Tally
from shardcache.cli.demo.worker import Order, Report, Site
from shardcache.cli.demo.workload import find_sources, library, measure
from shardcache.client import ShardCache
from shardcache.embedded import LocalShards

pytestmark = pytest.mark.long

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


def test_demo(command):
    """The demo shows a shard's death and return in plain lines, and leaves nothing behind."""
    code, out, err = command.run("demo", "--shards", "3", "--seconds", "2")
    assert (code, err) == (0, "")
    assert "shard-2 is killed" in out
    assert re.search(r"\d of them with ShardCache, \d with AsyncShardCache and 4 tasks each", out)
    assert re.findall(r"errors +(\d+)", out) == ["0", "0", "0"]
    assert "0, and 0 wrong values" in out
    assert "shard-2's" in out  # on a busy machine others may be late as well, and the demo says so
    assert CONTROL.findall(out) == []
    assert [line for line in out.splitlines() if line.endswith(" ")] == []
    assert (command.processes(), command.files()) == ([], [])


def test_demo_on_a_cluster(command):
    """With --cluster slots move and a master is killed, nobody sees an error, nothing is left."""
    code, out, err = command.run("demo", "--cluster", "--seconds", "4")
    assert (code, err) == (0, "")
    assert "a Redis Cluster of 3 masters, each with a replica" in out
    assert re.search(r"moved +\d+ slots with \d+ files, node-1 to node-2", out)
    assert "node-2 is killed" in out
    assert re.findall(r"^ +(\S+) +\d+ files +\d", out, re.MULTILINE) == [
        "node-1",
        "node-2",
        "node-3",
    ]
    assert "Next: 'shardcache up --cluster'" in out
    assert re.findall(r"errors +(\d+)", out) == ["0", "0", "0"]
    assert "0, and 0 wrong values" in out
    assert (command.processes(), command.files()) == ([], [])


def test_demo_with_a_near_cache(command):
    """With --near the servers see a part of the reads, and no read is stale."""
    code, out, err = command.run("demo", "--near", "--shards", "2", "--seconds", "4")
    assert (code, err) == (0, "")
    assert "killed" not in out
    [share] = re.findall(r"near cache +the servers saw ([\d.]+)% of the reads", out)
    assert float(share) < 100  # on a busy machine little is read twice
    assert len(re.findall(r"the servers saw [\d,]+ reads a second", out)) == 2
    assert re.search(r"fresh +0 stale reads, of \d+ versions of one value", out)
    assert "0, and 0 wrong values" in out
    assert CONTROL.findall(out) == []
    assert (command.processes(), command.files()) == ([], [])


def test_freshness():
    """A version is stale if it was asked for too long after the next one was there."""
    fresh = Freshness()
    fresh.written = {0: 10.0, 1: 20.0}
    fresh.see({0: 21.0, 1: 99.0})
    assert (fresh.stale, fresh.latest) == (0, 1.0)
    assert "up to 1.0 s after" in fresh.delay
    assert "no version" in Freshness().delay
    fresh.see({0: 22.5})
    assert (fresh.stale, fresh.latest) == (1, 2.5)


def test_demo_on_a_cluster_broken_off(command):
    """At Ctrl-C in the middle of it, nothing is left either."""
    process = command.start("demo", "--cluster", "--seconds", "2")
    for line in process.stdout:
        if line.strip().startswith("node-1 to"):
            break
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "shardcache: interrupted\n")
    assert (command.processes(), command.files()) == ([], [])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--cluster", "--shards", "2"), "--cluster needs 3 masters at least, got --shards 2"),
        (("--cluster", "--url", "redis://h"), "--cluster starts servers of its own"),
        (("--near", "--url", "redis://h"), "it does not go with --url"),
        (("--near", "--cluster"), "it does not go with --cluster"),
    ],
)
def test_what_does_not_go_with_a_cluster(command, arguments, said):
    """Two masters could elect nobody, and servers of others are not killed."""
    code, _, err = command.run("demo", *arguments)
    assert code == 2
    assert said in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["starting", "parsing", "without"])
def test_demo_broken_off(command, moment, number):
    """At a signal it ends at once with the code for it, one line at most, and nothing left."""
    process = command.start("demo", "--shards", "2", "--seconds", "2")
    for line in process.stdout:
        if line.strip().startswith(moment):
            break
    os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
    _, err = process.communicate(timeout=60)
    expected = (130, "shardcache: interrupted\n") if number == signal.SIGINT else (143, "")
    assert (process.returncode, err) == expected
    assert (command.processes(), command.files()) == ([], [])


def test_demo_killed(command):
    """Even if it is killed itself, its processes end and its directory goes."""
    process = command.start("demo", "--shards", "2", "--seconds", "2")
    for line in process.stdout:
        if line.strip().startswith("parsing"):
            break
    process.kill()
    process.wait(timeout=60)
    assert (command.processes(), command.files()) == ([], [])


def test_demo_on_given_servers(command):
    """With --url nothing is killed, other keys stay, and the demo's own are gone at the end."""
    with LocalShards(2) as servers, ShardCache(servers.urls) as cache:
        cache.set("mine", "stays")
        code, out, err = command.run("demo", "--seconds", "2", "--url", servers.url)
        assert (code, err) == (0, "")
        assert "nothing is killed" in out
        assert "comes back" not in out
        assert list(cache.scan()) == ["mine"]
        assert all(server.running for server in servers.servers)
    assert command.processes() == []


def test_demo_on_given_servers_broken_off(command):
    """Ctrl-C empties the demo's namespace too."""
    with LocalShards(2) as servers, ShardCache(servers.urls) as cache:
        process = command.start("demo", "--seconds", "2", "--url", servers.url)
        for line in process.stdout:
            if line.strip().startswith("steady"):
                break
        assert list(cache.scan()) != []
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=60)
        assert (process.returncode, list(cache.scan())) == (130, [])


def test_demo_without_a_server_program(command):
    """Where there is no server to run, one line says what is missing."""
    code, _, err = command.run("demo", SHARDCACHE_SERVER="no-such-server")
    assert (code, err.count("\n")) == (3, 1)
    assert "no-such-server" in err


def test_demo_on_a_terminal(command):
    """On a terminal bars move, and at Ctrl-C the cursor is visible again."""
    pytest.importorskip("rich")
    ours, theirs = pty.openpty()
    try:
        process = command.start(
            "demo", "--seconds", "2", stdout=theirs, TERM="xterm-256color", COLUMNS="100"
        )
        os.close(theirs)
        seen = b""
        while b"parsing" not in seen:
            seen += os.read(ours, 4096)
        os.killpg(process.pid, signal.SIGINT)
        try:
            while chunk := os.read(ours, 4096):
                seen += chunk
        except OSError:  # Linux: the other end is closed
            pass
        assert process.wait(timeout=60) == 130
        assert seen.rfind(b"\x1b[?25h") > seen.rfind(b"\x1b[?25l") > 0
    finally:
        os.close(ours)


def test_what_is_lost_is_told_after_the_takeover():
    """Before a replica has taken over, its files cannot be read, and that is not a loss."""
    assert (takeover(None), losses(85, 85, None)) == (
        "not by the end of this stage",
        "not known before that: give the demo more --seconds",
    )
    assert (takeover(1.4), losses(2, 85, 1.4)) == (
        "1.4 s after the kill its replica serves its slots",
        "2 of its 85 files are not in the cache now",
    )


def test_work_is_real():
    """The work is a parse of the interpreter's own library, several hundred files of it."""
    root = library()
    files = find_sources(root)
    assert len(files) > 300
    measured = measure(root, "json/decoder.py")
    assert measured["file"] == "json/decoder.py"
    assert measured["classes"] == 2
    assert measured["longest"]["lines"] > 10
    assert measured["depth"] > 2


def test_tally():
    """Reports add up, and misses are what is neither a hit nor wrong."""
    tally = Tally(seconds=2.0)
    tally.add(Report(0, waits=[0.1, 0.2], hits=1, wrong=1))
    tally.add(Report(1, waits=[0.3, 0.4], hits=1, errors=["no"]))
    assert (tally.answers, tally.hits, tally.misses, tally.wrong, tally.errors) == (
        4,
        2,
        1,
        1,
        ["no"],
    )
    assert (tally.rate, tally.hit_share, tally.per_worker) == (2.0, 0.5, {0: 2, 1: 2})
    assert (tally.wait_at(0.5), tally.wait_at(1)) == (0.3, 0.4)


def test_empty_tally():
    """Nothing seen is zeros, not an error."""
    tally = Tally()
    assert (tally.rate, tally.hit_share, tally.wait_at(0.99)) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("errors", "wrong", "code"),
    [([], 0, 0), (["ShardTimeout: late"], 0, 1), ([], 1, 1)],
    ids=["fine", "an-error", "a-wrong-value"],
)
def test_exit_code(errors, wrong, code, capsys):
    """One error or wrong value that a visitor would have seen makes the demo fail, and is told."""
    seen = SimpleNamespace(
        errors=errors, wrong=wrong, files=["a.py"], speedup=2.0, steady=Tally(), told=[]
    )
    assert Demo(None, shards=2, seconds=2.0).conclude(seen) == code
    out = capsys.readouterr().out
    assert f"{len(errors)}, and {wrong} wrong values" in out
    assert all(error in out for error in errors)


class Broken:
    """A cache that answers as told: an exception is raised."""

    def __init__(self, answer):
        self._answer = answer

    def get(self, _):
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


class AsyncBroken(Broken):
    """The same, to be awaited."""

    async def get(self, key):
        return super().get(key)


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize(
    ("answer", "counted"),
    [
        ({"file": "abc.py"}, (1, 0, [])),
        ({"file": "other.py"}, (0, 1, [])),
        (OSError("gone"), (0, 0, ["OSError: gone"])),
    ],
    ids=["right", "another-key's", "error"],
)
def test_worker_counts(answer, counted, colour):
    """A worker of either kind tells a hit from a value of another key and from an error."""
    sent = []
    site = Site("redis://127.0.0.1:1", "n", 1.0, library())
    pipe = SimpleNamespace(send=sent.append, poll=lambda: False)
    if colour == "sync":
        worker = demo_worker.Worker(0, site, pipe)
        worker._cache = Broken(answer)
        worker._carry_out(Order(["abc.py"]))
    else:
        worker = demo_aworker.AsyncWorker(1, site, pipe)
        worker._cache = AsyncBroken(answer)
        asyncio.run(worker._carry_out(Order(["abc.py"])))
    report = sent.pop(0)
    assert all(later == Report(1, done=later.done) for later in sent)
    report.done = True
    assert (report.hits, report.wrong, report.errors, report.done) == (*counted, True)


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def test_terminal_without_rich(monkeypatch, capsys):
    """Where rich is missing, the demo is plain and says what brings the bars."""
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.delitem(sys.modules, "shardcache.cli.demo.rich_display", raising=False)
    assert isinstance(choose_display(), PlainDisplay)
    assert "pip install 'shardcache[cli]'" in capsys.readouterr().err


@pytest.mark.parametrize("term", ["dumb", ""])
def test_dumb_terminal(monkeypatch, term):
    """A terminal that knows no control sequences gets none."""
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", term)
    assert isinstance(choose_display(), PlainDisplay)


def test_site_hides_its_address():
    """The address, which may hold a password, stays out of the repr."""
    assert "s3cret" not in repr(Site("redis://:s3cret@h", "n", 1.0, "/"))
