"""The examples run, as a user would run them."""

import asyncio
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


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
    """A page is computed once, comes from the cache until it is deleted, and the shards end with the application."""
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
    shards = '"shards":{"shard-1":"closed","shard-2":"closed","shard-3":"closed"}'
    assert health[1] == f'{{{shards},"hits":1,"misses":2}}'


def test_every_example_is_tested() -> None:
    """An example that nothing runs would rot."""
    assert [path.stem for path in sorted(EXAMPLES.glob("*.py"))] == ["starlette_app"]
