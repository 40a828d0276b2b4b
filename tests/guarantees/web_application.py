"""A small web application for test_web_workers.py; it makes and uses its client at import."""

import json
import os
import time
from urllib.parse import parse_qs

from shardcache import LoadPolicy, Options, ShardCache

cache = ShardCache(
    json.loads(os.environ["SHARDS"]),
    namespace="app",
    timeout=5,
    options=Options(first_probe=0.01, max_probe=0.1),
)
cache.set("warm", 1, ttl=60)
cache.get_or_set("warmed", lambda: 1, ttl=60)
SWR = LoadPolicy(stale_ttl=60, hard_timeout=20)


def slowly():
    time.sleep(0.2)
    return os.urandom(8).hex()


def locked(_):
    with cache.lock("l", 10, timeout=20, auto_renew=True) as lock:
        time.sleep(0.02)
        return lock.fencing_token


PATHS = {
    "/load": lambda key: cache.get_or_set(key, slowly, ttl=60),
    "/refreshed": lambda key: cache.get_or_set(key, lambda: "value", ttl=0.001, policy=SWR),
    "/lock": locked,
    "/set": lambda key: cache.set(key, "value", ttl=60),
    "/get": cache.get,
    "/states": lambda _: sorted({shard.state for shard in cache.stats().shards.values()}),
}


def application(environ, start_response):
    key = parse_qs(environ["QUERY_STRING"]).get("key", ["k"])[0]
    body = json.dumps(PATHS[environ["PATH_INFO"]](key)).encode()
    start_response(
        "200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    )
    return [body]
