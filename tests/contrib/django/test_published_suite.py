"""Django's own tests, from its source archive, against our backend."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shardcache.embedded import LocalShards

pytestmark = pytest.mark.timeout(600)

SETTINGS = """
import os
from test_sqlite import *
CACHES = {
    "default": {
        "BACKEND": "shardcache.contrib.django.ShardCacheBackend",
        "LOCATION": os.environ["URL"],
        "OPTIONS": {"timeout": 20},
    }
}
"""
# Caches, sessions of all kinds (sync and asyncio), template fragments.
LABELS = ("cache.test_shardcache", "sessions_tests", "template_tests.syntax_tests.test_cache")


def test_published_suite(shards: LocalShards, published: Callable[[str], Path]) -> None:
    """All of them pass but those about culling, which have no cache to run on."""
    tests = published("django") / "tests"
    shutil.copy(Path(__file__).parent / "django_suite.py", tests / "cache" / "test_shardcache.py")
    (tests / "shardcache_settings.py").write_text(SETTINGS)
    done = subprocess.run(
        [
            *(sys.executable, "runtests.py", "--parallel=1", "--verbosity=2"),
            *("--settings=shardcache_settings", *LABELS),
        ],
        capture_output=True,
        check=False,
        cwd=tests,
        env={**os.environ, "URL": shards.url},
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    ours = re.findall(r"^(test_\w+) \(cache\.test_shardcache\..*skipped", done.stderr, re.MULTILINE)
    assert sorted(ours) == ["test_cull", "test_cull_delete_when_store_empty", "test_zero_cull"]
    [count] = re.findall(r"^Ran (\d+) tests", done.stderr, re.MULTILINE)
    assert int(count) >= 500
