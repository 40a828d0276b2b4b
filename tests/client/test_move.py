"""A shard that gets another address while it is used: real servers, both clients."""

import threading
import time
from contextlib import suppress
from typing import Any

import redis

from shardcache.errors import ShardCacheError
from shardcache.urls import parse_url
from tests.conftest import Awaited
from tests.waiting import until


def move(cache: Any, url: str) -> None:
    """Have the only shard of ``cache`` go on at another address."""
    address = parse_url(url).address
    driver = cache._driver
    if isinstance(cache, Awaited):
        cache._finish(lambda: driver.shards()[0].move(address))
    else:
        driver.shards[0].move(address)


def clients(url: str) -> int:
    """Return how many clients of a server are connected, without the one that asks."""
    with redis.Redis.from_url(url) as plain:
        return len(plain.client_list()) - 1


def test_next_call_goes_to_the_new_address(make, mortal) -> None:
    """Nothing is connected to the former one any more, also after a fan-out and a listener."""
    here, there, _ = mortal.urls.values()
    cache = make({"a": here}, on_unavailable="raise")
    cache.set_many({f"k{number}": "here" for number in range(300)})
    assert cache.get("k0") == "here"
    move(cache, there)
    assert cache.get("k0") is None
    assert cache.set("k0", "there")
    assert cache.get_many([f"k{number}" for number in range(300)]) == {"k0": "there"}
    until(lambda: not clients(here))
    move(cache, here)
    assert cache.get("k0") == "here"
    until(lambda: not clients(there))
    assert (cache.stats().shards["a"].moves, cache.stats().shards["a"].failures) == (2, 0)


def test_former_server_is_dead(make, mortal) -> None:
    """A shard that is out is back with the first call to its new address."""
    here, there, _ = mortal.urls.values()
    cache = make({"a": here}, on_unavailable="raise")
    cache.set("k", 1)
    mortal.servers[0].kill()
    while cache.explain("k").state != "open":
        with suppress(ShardCacheError):
            cache.get("k")
    move(cache, there)
    assert (cache.set("k", 2), cache.get("k")) == (True, 2)


def test_moved_under_load(make, mortal) -> None:
    """Every call is answered, by the server of before or of after."""
    urls = list(mortal.urls.values())[:2]
    for url in urls:
        with make({"a": url}) as one:
            one.set("k", url)
    cache = make({"a": urls[0]}, on_unavailable="raise")
    found: set[Any] = set()
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                found.add(cache.get("k"))
                found.update(cache.get_many(["k", "l"]).values())
            except Exception as error:
                found.add(repr(error))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(60):
        move(cache, urls[number % 2])
        time.sleep(0.005)
    over.set()
    for thread in threads:
        thread.join()
    assert found == set(urls)
    until(lambda: not clients(urls[0]))
