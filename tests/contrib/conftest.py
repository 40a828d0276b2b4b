"""Adapters: servers, a count of exchanges, and the published suites of the frameworks.

Without a framework its tests are skipped; under `tox -e web` it must be there.
"""

import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from shardcache.embedded import LocalShards
from shardcache.wire.sync.connection import Connection
from shardcache.wire.sync.exchange import Transfer

FRAMEWORKS = (
    "cachalot",
    "cachelib",
    "django",
    "django_ratelimit",
    "django_redis",
    "dogpile.cache",
    "flask",
    "flask_caching",
    "flask_limiter",
    "flask_session",
    "limits",
    "rest_framework",
    "starsessions",
    "uvicorn",
)
REQUIRED = "SHARDCACHE_WEB" in os.environ
if REQUIRED:
    # Not imported: some need Django's settings, or change Django.
    missing = [framework for framework in FRAMEWORKS if find_spec(framework) is None]
    if missing:
        raise ImportError(f"tox -e web has not installed {', '.join(missing)}")


@pytest.fixture(scope="session")
def shards() -> Iterator[LocalShards]:
    """Four servers that no test stops."""
    with LocalShards(4, tcp=True) as servers:
        yield servers


@pytest.fixture
def mortal() -> Iterator[LocalShards]:
    """Two servers of this test alone, to be killed."""
    with LocalShards(2, tcp=True) as servers:
        yield servers


@pytest.fixture
def exchanges(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[object]]:
    """Return the connections of the sync client that were given something to send since last."""
    seen: list[object] = []

    def watch(owner: Any, name: str, connection_of: Callable[[Any, Any], object]) -> None:
        plain = getattr(owner, name)

        def watched(self: Any, first: Any, *rest: Any, **named: Any) -> Any:
            seen.append(connection_of(self, first))
            return plain(self, first, *rest, **named)

        monkeypatch.setattr(owner, name, watched)

    watch(Connection, "call", lambda connection, _: connection)
    watch(Connection, "call_many", lambda connection, _: connection)
    watch(Transfer, "start", lambda _, turn: turn.connection)

    def take() -> list[object]:
        taken = seen.copy()
        seen.clear()
        return taken

    return take


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the unpacked source archive of a framework, in the version that is installed."""
    if not REQUIRED:
        pytest.skip("the published suites are run by tox -e web")

    def unpack(name: str) -> Path:
        folder = tmp_path_factory.mktemp("sdist")
        command = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest")
        subprocess.run(
            [*command, folder, "--no-binary", ":all:", f"{name}=={version(name)}"],
            check=True,
            timeout=300,
        )
        [archive] = folder.glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        [unpacked] = (path for path in folder.iterdir() if path.is_dir())
        return unpacked

    return unpack


@pytest.fixture(scope="session")
def run_suite() -> Callable[..., str]:
    """Run pytest in a folder of tests; return what it said last, all tests having passed."""

    def run(folder: Path, *arguments: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", *arguments],
            capture_output=True,
            check=False,
            cwd=folder,
            env={**os.environ, **environment},
            text=True,
            timeout=400,
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
        return done.stdout.strip().splitlines()[-1]

    return run
