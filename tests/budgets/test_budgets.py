"""What a call costs, in bytecodes, with a budget for each interpreter.

Whoever makes a call cheaper lowers its budget; whoever makes it dearer by more than 3 % sees it
here, and says in the commit what it is worth.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shardcache import AsyncShardCache, ShardCache
from shardcache.embedded import LocalShards
from shardcache.per_key import COMPILED
from tests.budgets.bytecodes import least_bytecodes, least_bytecodes_async

BUDGETS: dict[str, dict[str, int]] = json.loads(
    Path(__file__).with_name("budgets.json").read_text(encoding="utf-8")
)
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
MARGIN = 0.03
FAR = 60.0  # seconds: tracing is slow
KEYS = [f"user:{number}:profile" for number in range(100)]
DATA = dict.fromkeys(KEYS, "v" * 100)

pytestmark = [
    pytest.mark.skipif(COMPILED, reason="the budgets are those of pure Python"),
    pytest.mark.skipif(PYTHON not in BUDGETS, reason=f"no budgets for CPython {PYTHON} yet"),
]


def load() -> str:
    raise AssertionError("the value is there")


SYNC: dict[str, Callable[[ShardCache], object]] = {
    "get": lambda cache: cache.get("user:1:profile"),
    "set": lambda cache: cache.set("user:1:profile", "v" * 100),
    "incr": lambda cache: cache.incr("counter", initial=1),
    "get_many(100)": lambda cache: cache.get_many(KEYS),
    "set_many(100)": lambda cache: cache.set_many(DATA),
    "get_or_set, a hit": lambda cache: cache.get_or_set("user:1:profile", load),
}
ASYNC: dict[str, Callable[[AsyncShardCache], Any]] = {
    "get": lambda cache: cache.get("user:1:profile"),
    "set": lambda cache: cache.set("user:1:profile", "v" * 100),
    "get_many(100)": lambda cache: cache.get_many(KEYS),
    "get_or_set, a hit": lambda cache: cache.get_or_set("user:1:profile", load),
}


@pytest.fixture(scope="module")
def shards() -> Iterator[LocalShards]:
    with LocalShards(4) as servers:
        yield servers


def judge(name: str, found: int) -> None:
    """Fail if a call left its budget, upwards or downwards."""
    budget = BUDGETS[PYTHON].get(name, 1)
    low, high = budget * (1 - MARGIN), budget * (1 + MARGIN)
    assert low <= found <= high, (
        f"{name} runs {found} bytecodes, its budget is {budget} ({found / budget - 1:+.1%}): "
        f"if that is right, write {found} into tests/budgets/budgets.json"
    )


@pytest.mark.parametrize("name", SYNC)
def test_sync_call_keeps_its_budget(shards: LocalShards, name: str) -> None:
    """A call of `ShardCache` runs as many bytecodes as its budget says, 3 % more or less."""
    with ShardCache(shards.urls, namespace=name, timeout=FAR) as cache:
        cache.set_many(DATA)
        judge(name, least_bytecodes(lambda: SYNC[name](cache)))


@pytest.mark.parametrize("name", ASYNC)
def test_async_call_keeps_its_budget(shards: LocalShards, name: str) -> None:
    """The same for `AsyncShardCache`, with what its connections do in between."""

    async def main() -> int:
        async with AsyncShardCache(shards.urls, namespace=name, timeout=FAR) as cache:
            await cache.set_many(DATA)
            return await least_bytecodes_async(lambda: ASYNC[name](cache))

    judge(f"asyncio: {name}", asyncio.run(main()))


def test_no_call_of_a_test_is_missing() -> None:
    """Each interpreter has a budget for each call, and no others."""
    names = {*SYNC, *(f"asyncio: {name}" for name in ASYNC)}
    assert {python: set(budgets) for python, budgets in BUDGETS.items()} == dict.fromkeys(
        BUDGETS, names
    )
