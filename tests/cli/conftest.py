"""Two shards for all tests of the command line, and the command as a process of its own."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import shardcache
from shardcache.embedded import LocalShards

HOME = Path(shardcache.__path__[0]).parent  # where `python -m` finds the package under test


@pytest.fixture(scope="session")
def shards() -> Iterator[LocalShards]:
    with LocalShards(2) as servers:
        yield servers


@pytest.fixture
def url(shards, monkeypatch) -> str:
    monkeypatch.delenv("SHARDCACHE_URL", raising=False)
    # The deadline of calls that are not about time.
    return f"{shards.url}&timeout=20&namespace={uuid.uuid4().hex}"


class Command:
    """Starts ``python -m shardcache`` so that whatever it leaves behind can be found."""

    def __init__(self, tmp: Path) -> None:
        self._mark = uuid.uuid4().hex
        self._tmp = tmp
        self._started: list[subprocess.Popen[str]] = []

    def start(
        self,
        *args: str,
        stdout: int = subprocess.PIPE,
        closed: int = 0,
        nohup: bool = False,
        **environ: str,
    ) -> subprocess.Popen[str]:
        """Start it with ``environ`` set.

        ``closed``: 1: without standard output, 2: without input and error too.

        SIGHUP has its usual meaning, also where the tests themselves run under nohup, unless
        ``nohup`` says otherwise.
        """

        def prepare() -> None:
            signal.signal(signal.SIGHUP, signal.SIG_IGN if nohup else signal.SIG_DFL)
            for stream in ((), (1,), (0, 1, 2))[closed]:
                os.close(stream)

        clean = {
            name: value
            for name, value in os.environ.items()
            if name not in ("SHARDCACHE_URL", "PYTHONWARNINGS")
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "shardcache", *args],
            cwd=HOME,
            env={**clean, "TMPDIR": str(self._tmp), "SHARDCACHE_TEST_MARK": self._mark, **environ},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,  # a process group, as a terminal would give it
            preexec_fn=prepare,  # noqa: PLW1509  these tests start no threads
        )
        self._started.append(process)
        return process

    def run(self, *args: str, closed: int = 0, **environ: str) -> tuple[int, str, str]:
        process = self.start(*args, closed=closed, **environ)
        out, err = process.communicate(timeout=100)
        return process.returncode, out, err

    def files(self) -> list[str]:
        return sorted(path.name for path in self._tmp.iterdir())

    def processes(self) -> list[str]:
        """Return the command lines of what still runs, after a while for what is just ending."""
        deadline = time.monotonic() + 10
        while (found := list(self._marked())) and time.monotonic() < deadline:
            time.sleep(0.01)
        return found

    def close(self) -> None:
        for process in self._started:
            process.kill()
            process.communicate()

    def _marked(self) -> Iterator[str]:
        if sys.platform != "linux":
            pytest.skip("what still runs is looked up in /proc")
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if self._mark.encode() in (entry / "environ").read_bytes():
                    yield (entry / "cmdline").read_text().replace("\0", " ")
            except OSError:  # it has ended, or is somebody else's
                continue


@pytest.fixture
def command(tmp_path_factory) -> Iterator[Command]:
    started = Command(tmp_path_factory.mktemp("c"))  # short: sockets lie below it
    yield started
    started.close()


@pytest.fixture
def failing(capsys) -> Callable[[int, int], str]:
    """Return a check that a command failed with this code and one line; it returns the line."""

    def check(actual: int, expected: int) -> str:
        out, err = capsys.readouterr()
        assert (actual, out) == (expected, "")
        assert err.startswith("shardcache: ")
        assert err.count("\n") == 1
        return str(err)

    return check
