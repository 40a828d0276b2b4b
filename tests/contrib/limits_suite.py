"""Makes limits' own tests ask our storages, and lets time pass only where they sleep.

Run by `test_limits.py` in a copy of their folder. They have windows of one or two seconds, whose
ends they measure to 10 ms or 30 ms: with the real time, a busy machine fails some of them.
"""

import re
import sys
from pathlib import Path

CONFTEST = """
import math
import os
import time

import pytest
import redis

import shardcache.contrib.limits as ours  # registers the schemes

servers = [redis.Redis.from_url(url) for url in os.environ["URLS"].split()]
now_ms = math.ceil(time.time()) * 1000
pass_time = '''
for _, key in ipairs(redis.call('KEYS', '*')) do
    local left = redis.call('PTTL', key)
    if left > 0 then redis.call('PEXPIRE', key, left - ARGV[1]) end
end
redis.call('RPUSH', 'clock', ARGV[2], ARGV[3])
redis.call('LTRIM', 'clock', -2, -1)
'''


def sleep(seconds):
    global now_ms
    slept = math.ceil(seconds * 1000)
    now_ms += slept
    for server in servers:
        server.eval(pass_time, 0, slept, now_ms // 1000, now_ms % 1000 * 1000)


time.time, time.sleep = (lambda: now_ms / 1000), sleep
for name in ("_ENTER", "_ENTERED", "_COUNT", "_COUNTED"):
    script = getattr(ours, name)
    assert script.count("'TIME'") == 1
    # Nor does a key expire by the server's own clock, which goes on.
    script = script.replace("redis.call('PEXPIRE'", "assert('PEXPIRE'")
    setattr(ours, name, script.replace("'TIME'", "'LRANGE', 'clock', 0, 1"))


@pytest.fixture
def emptied():
    for server in servers:
        server.flushall()
    sleep(0)
"""
STORAGE = 'pytest.param("{scheme}://", {{"timeout": 20}}, {kind}lf("emptied"), id="shardcache")'
# Loops of a millisecond each; one sleep does.
WAITING = re.compile(r"while time.time\(\) - start < (\w+):\n +(?:await asyncio|time).sleep\(.*\)")


def point_at_ours(tests: Path) -> None:
    """Put our storages in the place of all those that the tests name."""
    (tests / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    # The tests of strategies take them from here.
    utils = tests / "utils.py"
    text, count = WAITING.subn(
        r"time.sleep(max(\1 - (time.time() - start), 0))", utils.read_text(encoding="utf-8")
    )
    assert count == 4
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
