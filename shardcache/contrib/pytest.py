"""A plugin of pytest: shards for the tests of an application, and their outages.

Installing shardcache installs it. Nothing is started, and nothing else imported, before a test asks
for one of the fixtures.

    fixture               scope      what it is
    -------------------   --------   ---------------------------------------------------------
    shardcache_shards     session    servers for the whole run, emptied before each test
    shardcache_settings   function   the client's settings; to be overridden
    shardcache_client     function   a `ShardCache` on these shards
    shardcache_outage     function   kills, pauses, cuts off or slows one of them
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from shardcache.client import ShardCache
    from shardcache.testing.outage import ShardOutage
    from shardcache.testing.shard_set import ShardSet

__all__ = (
    "shardcache_client",
    "shardcache_outage",
    "shardcache_settings",
    "shardcache_shards",
)

_SHARDS = pytest.StashKey["ShardSet"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the command-line options.

    ``parser``: pytest's.
    """
    group = parser.getgroup("shardcache")
    group.addoption(
        "--shardcache-engine",
        choices=("embedded", "containers"),
        default="embedded",
        help="where the servers run: processes of this machine (default), or containers",
    )
    group.addoption(
        "--shardcache-shards", type=int, default=3, metavar="N", help="how many servers; default 3"
    )
    group.addoption(
        "--shardcache-image",
        default="",
        metavar="IMAGE",
        help="the image of the containers; default valkey/valkey:8",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Empty the servers before each test, if there are any.

    ``item``: the test.
    """
    shards = item.config.stash.get(_SHARDS, None)
    if shards is not None:
        shards.empty()


@pytest.fixture(scope="session")
def shardcache_shards(request: pytest.FixtureRequest) -> "Iterator[ShardSet]":
    """Servers for the whole run of tests; each test finds them empty and reachable.

    ``urls`` and ``url`` are for clients and settings, ``names`` for `shardcache_outage`.

    ``request``: pytest's.
    """
    from shardcache.errors import ShardCacheError
    from shardcache.testing.shard_set import ShardSet

    config = request.config
    problem = ""
    try:
        with ShardSet(
            config.getoption("--shardcache-shards"),
            engine=config.getoption("--shardcache-engine"),
            image=config.getoption("--shardcache-image"),
        ) as shards:
            config.stash[_SHARDS] = shards
            yield shards
            del config.stash[_SHARDS]
    except ShardCacheError as error:
        problem = str(error)
    if problem:  # told without the traceback of its reason
        pytest.fail(f"shardcache_shards: {problem}", pytrace=False)


@pytest.fixture
def shardcache_settings() -> dict[str, Any]:
    """Return the settings of `shardcache_client`: arguments of `ShardCache`, by name.

    Override it in a module or a ``conftest.py`` of yours.
    """
    return {"timeout": 5.0}


@pytest.fixture
def shardcache_client(
    shardcache_shards: "ShardSet", shardcache_settings: dict[str, Any]
) -> "Iterator[ShardCache]":
    """Return a client of the shards, which is closed after the test.

    ``shardcache_shards``, ``shardcache_settings``: the fixtures.
    """
    from shardcache.client import ShardCache

    with ShardCache(shardcache_shards.urls, **shardcache_settings) as client:
        yield client


@pytest.fixture
def shardcache_outage(shardcache_shards: "ShardSet") -> "ShardOutage":
    """Return what kills, pauses, cuts off or slows a shard for the length of a ``with``.

    ``shardcache_shards``: the fixture.
    """
    from shardcache.testing.outage import ShardOutage

    return ShardOutage(shardcache_shards)
