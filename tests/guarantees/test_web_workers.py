"""All kinds of gunicorn's workers, with a client made before or after fork and gevent's patch."""

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shardcache.embedded import LocalShards
from tests.waiting import until

LONG_TIMEOUT = 30.0  # seconds: the deadline of what is not about time
APPLICATION = "web_application:application"
PREPARED = "from gevent import monkey; monkey.patch_all()\n"


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket: no port that somebody else may take meanwhile."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=LONG_TIMEOUT)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(LONG_TIMEOUT)
        self.sock.connect(str(self.path))


def ask(path: Path, what: str) -> Any:
    """Return what the application answers."""
    connection = Connection(path)
    try:
        connection.request("GET", what)
        reply = connection.getresponse()
        assert reply.status == 200, what
        return json.load(reply)
    finally:
        connection.close()


@pytest.fixture
def shards() -> Iterator[LocalShards]:
    """Servers of this test alone, for one is ended."""
    with LocalShards(3) as servers:
        yield servers


def serve(path: Path, kind: str, shards: LocalShards, *options: str) -> "subprocess.Popen[bytes]":
    where = ("-b", f"unix:{path}", "--chdir", str(Path(__file__).parent))
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "gunicorn",
            "-k",
            kind,
            "-w",
            "2",
            "--log-level",
            "warning",
            *where,
            *options,
            APPLICATION,
        ],
        env={**os.environ, "SHARDS": json.dumps(shards.urls), "HOME": str(path.parent)},
    )


def is_up(path: Path) -> bool:
    try:
        ask(path, "/states")
    except (OSError, http.client.HTTPException):
        return False
    return True


@pytest.mark.long
@pytest.mark.parametrize("when", ["after", "before"])
@pytest.mark.parametrize("kind", ["sync", "gthread", "gevent"])
def test_workers(tmp_path: Path, shards: LocalShards, kind: str, when: str) -> None:
    """All is right from the first request on, and a shard that died comes back."""
    pytest.importorskip("gunicorn")
    if kind == "gevent":
        pytest.importorskip("gevent")
    options = [
        *(["--threads", "4"] if kind == "gthread" else []),
        *(["--preload"] if when == "before" else []),
    ]
    path = tmp_path / "s"
    server = serve(path, kind, shards, *options)
    try:
        until(lambda: is_up(path))
        with ThreadPoolExecutor(12) as pool:

            def all_of(*asked: str) -> list[Any]:
                return list(pool.map(lambda what: ask(path, what), asked))

            assert len(set(all_of(*["/load?key=one"] * 12))) == 1
            tokens = all_of(*["/lock"] * 12)
            assert len(set(tokens)) == 12
            assert set(all_of(*["/refreshed?key=r"] * 24)) == {"value"}
            keys = [f"k{number}" for number in range(24)]
            assert set(all_of(*(f"/set?key={key}" for key in keys))) == {True}
            assert set(all_of(*(f"/get?key={key}" for key in keys))) == {"value"}
            shards.servers[0].kill()
            assert set(all_of(*(f"/get?key={key}" for key in keys * 2))) == {"value", None}
            shards.servers[0].start()

            def is_back() -> bool:
                # Enough of them that both workers look, and try.
                return set(all_of(*(f"/set?key={key}" for key in keys * 2))) == {True}

            until(is_back)
            assert set(all_of(*(f"/get?key={key}" for key in keys * 2))) == {"value"}
    finally:
        server.terminate()
        server.wait(LONG_TIMEOUT)


def test_pausing_a_server() -> None:
    """A local server can be paused and resumed in a process that gevent has patched."""
    pytest.importorskip("gevent")
    program = PREPARED + (
        "from shardcache.embedded import LocalShards\n"
        "with LocalShards(1) as shards:\n"
        "    server = shards.servers[0]\n"
        "    server.pause(); print(server); server.resume(); print(server)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, ["paused" in line for line in done.stdout.splitlines()]) == (
        0,
        [True, False],
    ), done.stderr
