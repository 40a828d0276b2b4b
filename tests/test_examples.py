"""The examples run, as a user would run them."""

import asyncio
import importlib.util
import json
import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import ModuleType

import pytest

import shardcache

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


@pytest.fixture
def example(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import an example by its file name, as fresh as a new process would."""
    monkeypatch.delenv("SHARDCACHE_URL", raising=False)
    path = EXAMPLES / f"{request.param}.py"
    spec = importlib.util.spec_from_file_location(request.param, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("example", ["starlette_app"], indirect=True)
def test_starlette_app(example: ModuleType) -> None:
    """A page is computed once, then cached until deleted; the shards end with the application."""
    pytest.importorskip("starlette", reason="the extra `test` brings starlette")
    httpx = pytest.importorskip("httpx", reason="the extra `test` brings httpx")

    async def visit() -> list[tuple[str, str]]:
        seen = []
        transport = httpx.ASGITransport(app=example.app)
        async with (
            example.lifespan(example.app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as http,
        ):
            for method, path in [
                ("GET", "/squares/3"),
                ("GET", "/squares/3"),
                ("DELETE", "/squares/3"),
                ("GET", "/squares/3"),
                ("GET", "/health"),
            ]:
                answer = await http.request(method, path)
                assert answer.status_code == 200
                seen.append((answer.headers.get("X-Cache", ""), answer.text))
        return seen

    first, second, deleted, third, health = asyncio.run(visit())
    assert (first[0], second[0], third[0]) == ("miss", "hit", "miss")
    assert first[1] == second[1] == third[1] == example.render(3)
    assert deleted[1] == '{"deleted":true}'
    told = json.loads(health[1])
    assert (told["hits"], told["misses"]) == (1, 2)
    assert {name: one["ok"] for name, one in told["shards"].items()} == dict.fromkeys(
        ("shard-1", "shard-2", "shard-3"), True
    )


@pytest.mark.parametrize("example", ["sqlite_shards"], indirect=True)
def test_sqlite_shards(example: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """A file is added and one taken away, and what moves is what the ring foretold."""
    example.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.endswith("all others stayed")] == [
        "  771 of 3000 rows moved (25.18% foretold), all others stayed",
        "  760 of 3000 rows moved (24.69% foretold), all others stayed",
    ]
    assert lines[-1] == "customer:42 is 'Customer No. 42', in db-c"


@pytest.mark.parametrize("example", ["sqlite_shards"], indirect=True)
@pytest.mark.parametrize("steps", range(6))
def test_sqlite_shards_stopped_halfway(example: ModuleType, steps: int, tmp_path: Path) -> None:
    """Wherever a resize is stopped, every customer is found; the next leaves each in one file."""
    names = {f"customer:{number}": f"No. {number}" for number in range(300)}
    with closing(example.ShardedCustomers(tmp_path, ["db-a", "db-b"])) as customers:
        customers.put(names)
        resize = customers.resize(customers.ring.with_node("db-c").without_node("db-a"))
        for _ in range(steps):
            next(resize, None)
        resize.close()
    with closing(example.ShardedCustomers(tmp_path)) as customers:
        assert {customer: customers.get(customer) for customer in names} == names
        assert customers.ring.names == (("db-b", "db-c") if steps >= 4 else ("db-a", "db-b"))
        customers.put({"customer:7": "renamed"})
        example.resize(customers, customers.ring.with_node("db-d"))
        found = [row for file in customers.ring.names for row in customers.rows(file)]
        assert sorted(found) == sorted({**names, "customer:7": "renamed"}.items())
        assert {path.stem for path in tmp_path.glob("*.sqlite")} == set(customers.ring.names)


@pytest.mark.parametrize("example", ["sqlite_shards"], indirect=True)
def test_sqlite_shards_seen_by_another(example: ModuleType, tmp_path: Path) -> None:
    """A process with the database open reads and writes in the new places after a resize."""
    with (
        closing(example.ShardedCustomers(tmp_path, ["db-a", "db-b"])) as customers,
        closing(example.ShardedCustomers(tmp_path)) as other,
    ):
        names = {f"customer:{number}": f"No. {number}" for number in range(100)}
        other.put(names)
        for ring in (
            customers.ring.with_node("db-c"),
            customers.ring.without_node("db-a"),
            customers.ring,
        ):
            example.resize(customers, ring)
            names["customer:8"] = f"on {len(ring)}, {ring.names[0]}"
            other.put({"customer:8": names["customer:8"]})
            for one in (other, customers):
                assert {customer: one.get(customer) for customer in names} == names


def run(name: str) -> list[str]:
    """Run an example as a user would, and return its output.

    It starts processes of its own, which import it anew.
    """
    home = Path(shardcache.__path__[0]).parent
    environ = {key: value for key, value in os.environ.items() if key != "SHARDCACHE_URL"}
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")],
        env={**environ, "PYTHONPATH": str(home)},
        capture_output=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout.splitlines()


@pytest.mark.long
def test_shared_file() -> None:
    """Four processes rewrite one file and lose nothing; one that overslept is refused."""
    count, sleeper, last = run("shared_file")
    assert (count, last) == ("40 lines by 4 processes, none lost", "the last line: 41 by the other")
    assert "is refused: the lock has a newer holder" in sleeper


@pytest.mark.long
def test_shared_schedule() -> None:
    """Each task is done once per tick, though a worker dies in the middle of one."""
    *done, count = run("shared_schedule")
    assert (len(done), count) == (15, "15 tasks done, each once; 1 of 3 workers died")


def test_every_example_is_tested() -> None:
    """An example that nothing runs would rot."""
    assert [path.stem for path in sorted(EXAMPLES.glob("*.py"))] == [
        "django_site",  # these three: tests/contrib/test_example_sites.py
        "fastapi_service",
        "local_site",
        "shared_file",
        "shared_schedule",
        "sqlite_shards",
        "starlette_app",
        "test_prices",
    ]


PAGES = [
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "README.md",
    *sorted((ROOT / "examples").glob("*.py")),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_name_their_nodes(page: Path) -> None:
    """An example's client of several servers names each: a renamed host would lose its keys.

    The nodes of a cluster, and Sentinels, are only asked where the keys are.
    """
    makes = re.compile(r"SHARDCACHE_URL=|from_url\(|(?:Cache|Lock)\(\[|--url")
    for line in page.read_text(encoding="utf-8").splitlines():
        if makes.search(line) and (urls := re.findall(r"(?<![\w+])\w+://[^\s'\"`,]+", line)):
            unnamed = [url for url in urls if "name=" not in url]
            assert unnamed == [] or (
                len(urls) == 1 and "," not in line.partition(urls[0])[2][:1]
            ), line


def test_prices() -> None:
    """The tests of a small application pass, outages and all."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull]
    done = subprocess.run(
        [*command, f"--rootdir={EXAMPLES}", str(EXAMPLES / "test_prices.py")],
        capture_output=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )
    assert "4 passed" in done.stdout, done.stdout + done.stderr
