"""Tests of an application whose cache is spread over shards: also of what it does when one is out.

Run it: ``pip install 'shardcache[embedded]' pytest && pytest test_prices.py``. The servers are
local ones, started and ended by the plugin of pytest that shardcache brings.
"""

import pytest

from shardcache import ShardCache
from shardcache.testing import ShardOutage


class Prices:
    """The application: prices that are slow to compute, kept for a minute."""

    def __init__(self, cache: ShardCache) -> None:
        self.cache = cache
        self.computed = 0

    def of(self, item: str) -> int:
        """Return the price of an item, in cents."""
        return self.cache.get_or_set(f"price:{item}", lambda: self._compute(item), ttl=60)

    def _compute(self, item: str) -> int:
        self.computed += 1
        return 100 * len(item)


@pytest.fixture
def prices(shardcache_client: ShardCache) -> Prices:
    """Prices on a cache that is empty."""
    return Prices(shardcache_client)


def test_computed_once(prices: Prices) -> None:
    """The second visitor gets the price from the cache."""
    assert (prices.of("lamp"), prices.of("lamp")) == (400, 400)
    assert prices.computed == 1


@pytest.mark.parametrize("outage", ["kill", "pause", "cut_off"])
def test_without_a_shard(prices: Prices, shardcache_outage: ShardOutage, outage: str) -> None:
    """Whatever happens to the shard of a price, visitors see the price; others stay cached."""
    items = [f"item {number}" for number in range(30)]
    for item in items:
        prices.of(item)
    computed = prices.computed
    where = {item: prices.cache.explain(f"price:{item}").shard for item in items}
    with getattr(shardcache_outage, outage)("shard-1"):
        assert [prices.of(item) for item in items] == [100 * len(item) for item in items]
    lost = sum(shard == "shard-1" for shard in where.values())
    assert prices.computed >= computed + lost


@pytest.fixture
def shardcache_settings() -> dict[str, float]:
    """Return settings of the client: a shard that hangs costs a visitor half a second."""
    return {"timeout": 0.5}
