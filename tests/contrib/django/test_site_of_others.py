"""What other packages make of our backend: throttles, cached queries, whole pages."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

for package in ("cachalot", "django_ratelimit", "rest_framework"):
    pytest.importorskip(package)


def test_site_of_others() -> None:
    """Each does what it is for; a dead shard is no error.

    Two of them warn of any backend that they do not know by name. One forbids what it cannot count.
    """
    site = Path(__file__).parent / "site_of_others.py"
    done = subprocess.run(
        [sys.executable, site], capture_output=True, check=False, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "warnings": ["cachalot.W001", "django_ratelimit.W001"],
        "limited": [200, 200, 403, 403],
        "throttled": [200, 200, 429, 429],
        "pages": ["a", "a", "b"],
        "made": ["a", "b"],
        "queries": [0, 0],
        "after a write": [1, 0],
        # django-ratelimit lets a request through then if RATELIMIT_FAIL_OPEN says so.
        "out": {"limited": 403, "throttled": 200, "page": "a", "queries": 1},
    }
