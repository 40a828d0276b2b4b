"""Fencing of a file: a late write is refused, also after a crash at any step of an earlier one."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from contextlib import nullcontext, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache import errors
from shardcache.fencing import FencedFile

pytestmark = pytest.mark.long


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "report"


def test_paused_holder_is_refused(path) -> None:
    """A holder that slept through its lease, and the next one's writes, changes nothing."""
    late = FencedFile(path)
    FencedFile(path).write(b"of B", 6)
    for write in (lambda: late.write(b"of A", 5), lambda: late.delete(5)):
        with pytest.raises(errors.StaleToken) as caught:
            write()
        assert (caught.value.resource, caught.value.token, caught.value.seen) == (str(path), 5, 6)
    assert (path.read_bytes(), late.seen) == (b"of B", 6)


def test_same_holder_writes_twice(path) -> None:
    """An equal token is not older."""
    fenced = FencedFile(path)
    fenced.write(b"first", 6)
    fenced.write(bytearray(b"second"), 6)
    assert path.read_bytes() == b"second"


def test_reading_keeps_older_holders_out(path) -> None:
    """A writer that reads with its token need not fear a write of an older holder in between."""
    fenced = FencedFile(path)
    assert fenced.read(6) is None
    with pytest.raises(errors.StaleToken):
        fenced.write(b"of A", 5)
    fenced.write(b"of B", 6)
    assert fenced.read(6) == b"of B"
    with pytest.raises(errors.StaleToken):
        fenced.read(5)


def test_deleted_file_remembers(path) -> None:
    """Deleting leaves the record, so that a late write does not bring the old data back."""
    fenced = FencedFile(path)
    assert (fenced.seen, fenced.delete(5)) == (0, False)
    fenced.write(b"of B", 6)
    assert fenced.delete(6) is True
    with pytest.raises(errors.StaleToken):
        fenced.write(b"of A", 5)
    assert not path.exists()


def test_nothing_but_the_side_files_remains(path) -> None:
    """After a write, two files lie beside the data."""
    FencedFile(path).write(b"x", 6)
    assert sorted(os.listdir(path.parent)) == [".report.fence", ".report.lock", "report"]


def test_names_that_look_like_side_files(tmp_path) -> None:
    """A file and its hidden namesake do not get in each other's way."""
    for number, name in enumerate(["report", ".report", "..report"], 1):
        FencedFile(tmp_path / name).write(name.encode(), number)
    assert [FencedFile(tmp_path / name).seen for name in ("report", ".report", "..report")] == [
        1,
        2,
        3,
    ]
    assert (tmp_path / ".report").read_bytes() == b".report"


def test_links_are_one_file(path, tmp_path) -> None:
    """Writers that come by a link and by the name itself share one record, and the link stays."""
    link = tmp_path / "link"
    link.symlink_to(path)
    FencedFile(link).write(b"of B", 6)
    with pytest.raises(errors.StaleToken):
        FencedFile(path).write(b"of A", 5)
    assert (link.is_symlink(), path.read_bytes()) == (True, b"of B")


def test_mode_is_kept(path) -> None:
    """Who could read the file can read its successor."""
    path.write_bytes(b"")
    path.chmod(0o640)
    FencedFile(path).write(b"x", 6)
    assert path.stat().st_mode & 0o7777 == 0o640


def test_link_in_the_place_of_the_new_file_is_not_followed(path, tmp_path) -> None:
    """Whoever may write to the folder cannot make a writer overwrite another file."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / ".report.new").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        FencedFile(path).write(b"x", 6)
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("junk", [b"", b"x", b"-1", b"5 6"])
def test_damaged_record_lets_nobody_in(path, junk) -> None:
    """Where the record is no token, nothing is written."""
    (path.parent / ".report.fence").write_bytes(junk)
    with pytest.raises(errors.DamagedPayload, match="should hold a fencing token"):
        FencedFile(path).write(b"x", 6)
    assert not path.exists()


def test_busy_file(path) -> None:
    """Who finds another writer at work waits for the time given, and no longer."""
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    with open(path.parent / ".report.lock", "wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(errors.FenceBusy, match="for 3 s"):
            FencedFile(path, timeout=3, clock=lambda: now, sleep=sleep).write(b"x", 6)
    assert (3 <= now < 3.1, path.exists()) == (True, False)


def test_waits_for_another_writer(path) -> None:
    """A writer that finishes in time is waited for."""
    with open(path.parent / ".report.lock", "wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        FencedFile(path, sleep=lambda _: fcntl.flock(other, fcntl.LOCK_UN)).write(b"x", 6)
    assert path.read_bytes() == b"x"


def test_threads_exclude_each_other(path) -> None:
    """One object serves many threads: their new files are not mixed, and the highest token wins."""
    fenced = FencedFile(path, timeout=60)

    def work(start: int) -> None:
        for token in range(start, 100, 4):
            with suppress(errors.StaleToken):
                fenced.write(b"%d " % token * 1000, token)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (path.read_bytes(), fenced.seen) == (b"99 " * 1000, 99)


@pytest.mark.parametrize("data", ["text", None, 5])
def test_data_must_be_bytes(path, data) -> None:
    """Anything but bytes is refused before a file is made."""
    with pytest.raises(errors.InvalidArgument, match="data must be bytes"):
        FencedFile(path).write(data, 6)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("timeout", [-1, True, "1", None, float("nan")])
def test_wrong_timeout(path, timeout) -> None:
    """A timeout is a number of seconds."""
    with pytest.raises(errors.InvalidOption, match="timeout must be"):
        FencedFile(path, timeout=timeout)


def test_folder_is_no_file(tmp_path) -> None:
    """A folder is refused by name."""
    with pytest.raises(errors.InvalidOption, match="must name a file"):
        FencedFile(tmp_path)


def test_order_on_the_disk(path, monkeypatch) -> None:
    """The record and its name are on the disk before the data: a power cut finds that order."""
    steps = []

    def noting(name, function):
        def noted(*args, **kwargs):
            result = function(*args, **kwargs)
            told = os.path.basename(args[1]) if name == "replace" else name
            steps.append(
                "folder" if name == "fsync" and os.path.isdir(f"/dev/fd/{args[0]}") else told
            )
            return result

        return noted

    for name in ("replace", "fsync"):
        monkeypatch.setattr(os, name, noting(name, getattr(os, name)))
    FencedFile(path).write(b"x", 6)
    assert steps == ["fsync", ".report.fence", "folder", "fsync", "report", "folder"]


@given(
    st.lists(st.tuples(st.sampled_from(["write", "delete"]), st.integers(1, 2**63 - 1)), max_size=6)
)
def test_like_a_model(tmp_path_factory, attempts) -> None:
    """After any sequence of attempts the file has each write that was not below the highest."""
    path = tmp_path_factory.mktemp("model") / "report"
    fenced = FencedFile(path)
    data, highest = None, 0
    for action, token in attempts:
        refusal = (
            pytest.raises(errors.StaleToken, match=f"seen token {highest},")
            if token < highest
            else nullcontext()
        )
        with refusal:
            fenced.write(b"%d" % token, token) if action == "write" else fenced.delete(token)
            data, highest = b"%d" % token if action == "write" else None, token
        assert (path.read_bytes() if path.exists() else None, fenced.seen) == (data, highest)


# Runs one write and dies, by a signal that nothing can catch, before its n-th call of the system,
# or halfway through a write.
MORTAL = """
import fcntl, io, os, signal, sys
from shardcache.fencing import FencedFile
path, fatal = sys.argv[1], int(sys.argv[2])
steps = 0
def mortal(function):
    def step(*args, **kwargs):
        global steps
        steps += 1
        if steps == fatal:
            if function is os.fsync and not os.path.isdir(f"/dev/fd/{args[0]}"):
                os.ftruncate(args[0], os.fstat(args[0]).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args, **kwargs)
    return step
for module, names in ((os, ("open", "replace", "fsync", "close", "stat")), (fcntl, ("flock",))):
    for name in names:
        setattr(module, name, mortal(getattr(module, name)))
FencedFile(path).write(b"the newer data", 6)
"""


def test_crash_at_every_step(path) -> None:
    """Wherever a writer dies, the data are whole, and only a newer writer is admitted."""
    for fatal in range(1, 100):
        for name in os.listdir(path.parent):
            os.unlink(path.parent / name)
        fenced = FencedFile(path)
        fenced.write(b"the older data", 4)
        done = subprocess.run(
            [sys.executable, "-c", MORTAL, path, str(fatal)], check=False
        ).returncode
        if done == 0:
            break
        assert done == -signal.SIGKILL
        data, seen = path.read_bytes(), fenced.seen
        assert (data, seen) in [
            (b"the older data", 4),
            (b"the older data", 6),
            (b"the newer data", 6),
        ]
        if seen == 6:
            with pytest.raises(errors.StaleToken):
                fenced.write(b"late", 5)
        assert path.read_bytes() == data
        fenced.write(b"the newest data", 7)
        assert (path.read_bytes(), fenced.seen) == (b"the newest data", 7)
        assert sorted(os.listdir(path.parent)) == [".report.fence", ".report.lock", "report"]
    assert fatal > 12
    assert (path.read_bytes(), FencedFile(path).seen) == (b"the newer data", 6)


WORKER = """
import random, sys
from shardcache.errors import StaleToken
from shardcache.fencing import FencedFile
path, seed = sys.argv[1:]
chance = random.Random(seed)
fenced = FencedFile(path, timeout=60)
best = 0
print("ready", flush=True)
sys.stdin.readline()
for _ in range(60):
    token = chance.randrange(1, 10_000)
    try:
        fenced.write(b"%d\\n" % token * 2000, token)
        best = max(best, token)
    except StaleToken:
        pass
print(best)
"""


def test_processes_with_random_tokens(path) -> None:
    """Whatever several processes write, a reader sees whole files and tokens that never fall."""
    crew = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, path, str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(4)
    ]
    for worker in crew:
        assert worker.stdout.readline() == "ready\n"
    for worker in crew:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    seen = []
    while any(worker.poll() is None for worker in crew):
        if path.exists():
            lines = path.read_bytes().split()
            assert (len(lines), len(set(lines))) == (2000, 1)
            seen.append(int(lines[0]))
    best = [int(worker.communicate()[0]) for worker in crew]
    assert [worker.returncode for worker in crew] == [0] * 4
    assert seen == sorted(seen)
    assert (path.read_bytes(), FencedFile(path).seen) == (b"%d\n" % max(best) * 2000, max(best))
