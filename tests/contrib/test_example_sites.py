"""The example sites, started by their one command, under gunicorn and uvicorn."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import shardcache
from tests.waiting import until

httpx = pytest.importorskip("httpx")

pytestmark = pytest.mark.long
EXAMPLES = Path(__file__).parents[2] / "examples"
LONG = 60.0  # seconds
SITES = {
    "django_site": (("django", "gunicorn"), ("--bind", "127.0.0.1:0")),
    "fastapi_service": (("fastapi", "uvicorn"), ("--port", "0", "--workers", "3")),
}
WORKERS = {"django_site": 4, "fastapi_service": 3}
chromium = shutil.which("chromium")


@pytest.fixture(scope="module", params=SITES)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run an example; yield its address."""
    needed, arguments = SITES[request.param]
    for name in needed:
        if importlib.util.find_spec(name) is None:
            assert "SHARDCACHE_WEB" not in os.environ, f"tox -e web is to have {name}"
            pytest.skip(f"{name} is not installed")
    log = tmp_path_factory.mktemp(request.param) / "log"
    home = Path(shardcache.__path__[0]).parent
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, str(EXAMPLES / f"{request.param}.py"), *arguments],
            env={**os.environ, "PYTHONPATH": str(home), "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            address = until(lambda: process.poll() is None and address_in(log.read_text("utf-8")))
            until(lambda: answers(address))
            yield address
        finally:
            process.terminate()
            ended = process.wait(LONG)
    said = log.read_text("utf-8")
    assert (ended, "Traceback" in said) == (0, False), said


def address_in(log: str) -> str | None:
    """Return where a server says that it listens."""
    found = re.search(r"http://127\.0\.0\.1:[1-9]\d*", log)
    return found[0] if found else None


def answers(address: str) -> bool:
    """Return whether anybody listens yet: uvicorn says where before its workers do."""
    try:
        return bool(httpx.get(address, timeout=LONG))
    except httpx.ConnectError:
        return False


def test_visits(site: str) -> None:
    """Pages come from the cache, each product with its shard; the status page is there."""
    with httpx.Client(base_url=site, timeout=LONG) as http:
        # On a busy machine a shard may not answer in time.
        page = until(lambda: "<td>hit</td>" in (seen := http.get("/")).text and seen)
        assert page.status_code == 200
        found = http.get("/products/7").raise_for_status().json()
        assert found["product"] == "Product 7, 900 cents"
        assert found["shard"] in {"shard-1", "shard-2", "shard-3", "shard-4"}
        assert f"<td>{found['product']}</td><td>{found['shard']}</td>" in page.text
        assert "<th>shard-1</th>" in http.get("/shards/").raise_for_status().text
        status = http.get("/shards/.json").raise_for_status().json()
        assert set(status["shards"]) == {"shard-1", "shard-2", "shard-3", "shard-4"}
        assert http.post("/shards/.json").status_code == 405


def test_workers(site: str, request: pytest.FixtureRequest) -> None:
    """Under gunicorn four processes answer, under uvicorn three, each by its own client."""
    number = WORKERS[request.node.callspec.params["site"]]
    seen: set[int] = set()

    def ask() -> bool:
        seen.add(
            httpx.get(f"{site}/shards/.json", timeout=LONG).raise_for_status().json()["process"]
        )
        return len(seen) == number

    until(ask)


def test_kill_a_shard(site: str) -> None:
    """A button kills a shard: pages are there all the time, and the status page shows it."""
    with httpx.Client(base_url=site, timeout=LONG) as http:

        def press(button: str) -> int:
            page = visit()
            token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
            data = {"csrfmiddlewaretoken": token[1]} if token else {}
            return int(http.post(f"/{button}/shard-2", data=data).status_code)

        def visit() -> str:
            page = http.get("/")
            assert page.status_code == 200
            return str(page.text)

        def shows(answering: int) -> bool:
            visit()
            return bool(http.get("/shards/.json").json()["answering"] == answering)

        until(lambda: shows(4))
        assert press("burn") == 404
        assert press("kill") in {302, 303}
        until(lambda: shows(3))
        dead = http.get("/shards/.json").json()["shards"]["shard-2"]["ping"]
        assert (dead["ok"], dead["error_type"]) == (False, "ShardUnavailable")
        for _ in range(20):
            visit()
        assert press("start") in {302, 303}
        until(lambda: shows(4))


@pytest.mark.skipif(chromium is None, reason="no chromium on the PATH (apt-get install chromium)")
def test_browser(site: str, tmp_path: Path) -> None:
    """A browser shows the page with its stylesheet: the policy that it is sent with allows it.

    ``SHARDCACHE_SCREENSHOT`` names a file to keep the picture in.
    """
    httpx.get(site, timeout=LONG)
    picture = Path(os.environ.get("SHARDCACHE_SCREENSHOT") or tmp_path / "status.png")
    command = (
        f"{chromium} --headless --no-sandbox --disable-gpu --disable-dev-shm-usage "
        f"--enable-logging=stderr --window-size=1100,640 --hide-scrollbars "
        f"--user-data-dir={tmp_path}"
    ).split()
    done = [
        subprocess.run(
            [*command, what, f"{site}/shards/?key=product:7"],
            capture_output=True,
            encoding="utf-8",
            timeout=LONG,
            check=True,
        )
        for what in ("--dump-dom", f"--screenshot={picture}")
    ]
    assert "<strong>shard-" in done[0].stdout
    assert not any("Security Policy" in one.stderr for one in done)
    assert picture.read_bytes().startswith(b"\x89PNG")
