"""Two workers of uvicorn compute a slow page once."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import urlopen

import pytest

from shardcache.embedded import LocalShards

pytest.importorskip("uvicorn", reason="tox -e web brings it")
pytest.importorskip("starlette", reason="the extra `test` brings it")
pytestmark = pytest.mark.long

SITE = """
import asyncio, os
from pathlib import Path
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from shardcache import LoadPolicy
from shardcache.contrib.starlette import CacheResponses, lifespan

folder = Path(os.environ["SITE_FOLDER"])

def note(name):
    with open(folder / name, "a") as file:
        file.write(f"{os.getpid()}\\n")

async def page(request):
    note("runs")
    while not (folder / "go").exists():
        await asyncio.sleep(0.01)
    return PlainTextResponse(f"made by {os.getpid()}", headers={"cache-control": "max-age=600"})

site = Starlette(routes=[Route("/", page)], lifespan=lifespan(namespace="site", timeout=20))
cached = CacheResponses(site, policy=LoadPolicy(stale_ttl=60, wait=100))

async def app(scope, receive, send):
    if scope["type"] == "http":
        note("arrivals")
    await cached(scope, receive, send)
"""


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def until(condition: Callable[[], bool], server: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 60
    while not condition():
        assert server.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)


def test_one_computation_in_two_workers(shards: LocalShards, tmp_path: Path) -> None:
    """However the requests are spread, the page is made once, and all have it."""
    (tmp_path / "slow_site.py").write_text(SITE)
    log = tmp_path / "log"
    command = [sys.executable, "-m", "uvicorn", "slow_site:app", "--workers", "2", "--port", "0"]
    with log.open("wb") as file:
        server = subprocess.Popen(
            [*command, "--app-dir", str(tmp_path)],
            env={**os.environ, "SHARDCACHE_URL": shards.url, "SITE_FOLDER": str(tmp_path)},
            stderr=subprocess.STDOUT,
            stdout=file,
            start_new_session=True,
        )
    try:
        until(lambda: log.read_text().count("Application startup complete") == 2, server)
        found = re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text())
        assert found is not None
        url = f"http://127.0.0.1:{found[1]}/"

        def get() -> str:
            with urlopen(url, timeout=100) as answer:
                return str(answer.read().decode())

        with ThreadPoolExecutor(100) as crowd:
            try:
                asked = [crowd.submit(get) for _ in range(10)]
                until(lambda: len(lines(tmp_path / "arrivals")) == len(asked), server)
                # The system may give all connections to one worker, as long as it keeps up.
                while len(set(lines(tmp_path / "arrivals"))) < 2 and len(asked) < 100:
                    asked.append(crowd.submit(get))
            finally:
                (tmp_path / "go").touch()
            texts = {one.result() for one in asked}
        assert len(set(lines(tmp_path / "arrivals"))) == 2
        [maker] = lines(tmp_path / "runs")
        assert texts == {f"made by {maker}"}
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait(30)
