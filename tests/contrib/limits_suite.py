"""Makes limits' own tests ask our storages: run by `test_limits.py` in a copy of their folder."""

import re
import sys
from pathlib import Path

CONFTEST = """
import os

import pytest
import redis

import shardcache.contrib.limits  # registers the schemes


@pytest.fixture
def emptied():
    for url in os.environ["URLS"].split():
        with redis.Redis.from_url(url) as server:
            server.flushall()
"""
STORAGE = 'pytest.param("{scheme}://", {{"timeout": 20}}, {kind}lf("emptied"), id="shardcache")'


def point_at_ours(tests: Path) -> None:
    """Put our storages in the place of all those that the tests name."""
    (tests / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    # The tests of strategies take them from here.
    utils = tests / "utils.py"
    text = utils.read_text(encoding="utf-8")
    before, mark, after = text.partition("all_storage = ")
    ours = "".join(
        f'{name} = {{"shardcache": {STORAGE.format(scheme=scheme, kind="")}}}\n'
        for name, scheme in (
            ("ALL_STORAGES", "shardcache"),
            ("ALL_STORAGES_ASYNC", "async+shardcache"),
        )
    )
    utils.write_text(f"{before}{ours}{mark}{after}", encoding="utf-8")
    # Those of storages have a list of their own.
    for folder, scheme, kind in (
        (tests, "shardcache", "ShardCacheStorage"),
        (tests / "aio", "async+shardcache", "AsyncShardCacheStorage"),
    ):
        page = folder / "test_storage.py"
        listed, count = re.subn(
            r'("uri, args, expected_instance, fixture",\n    \[).*?(\n    \],\n\)\n)',
            rf"\1{STORAGE.format(scheme=scheme, kind=kind + ', ')}\2",
            page.read_text(encoding="utf-8"),
            flags=re.DOTALL,
        )
        assert count == 1
        imported = f"from shardcache.contrib.limits import {kind}\n"
        page.write_text(
            listed.replace("import pytest\n", f"import pytest\n{imported}", 1), encoding="utf-8"
        )


if __name__ == "__main__":
    point_at_ours(Path(sys.argv[1]))
