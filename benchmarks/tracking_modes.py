"""What CLIENT TRACKING costs a server and its clients, by mode: off, by connection, broadcast.

Eight connections read 20,000 keys each by Zipf's law, of 100,000; then 20,000 keys are written, all
of them equally often. Then a client with a near cache hears of 50,000 writes of another process.
``python benchmarks/tracking_modes.py``
"""

import bisect
import itertools
import multiprocessing
import random
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import hiredis
from redis import Redis

from shardcache import NearCache, ShardCache
from shardcache.embedded import LocalShards

CLIENTS = 8
KEYS = [b"ns:%d" % number for number in range(100_000)]
READS = WRITES = 20_000
HEARD = 50_000
MODES = {
    "off": (b"CLIENT", b"TRACKING", b"OFF"),
    "by connection": (b"CLIENT", b"TRACKING", b"ON"),
    "broadcast": (b"CLIENT", b"TRACKING", b"ON", b"BCAST", b"PREFIX", b"ns:"),
}


class Peer:
    """A bare connection in RESP3, which counts the keys that it is told of."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.sock = socket.create_connection((parts.hostname, parts.port))
        self.invalidations = 0
        self._parser = hiredis.Reader()
        self.call([(b"HELLO", b"3")])

    def call(self, commands: list[tuple[bytes, ...]]) -> None:
        """Send commands, and wait for as many replies."""
        self.sock.sendall(b"".join(map(hiredis.pack_command, commands)))
        left = len(commands)
        while left:
            self._parser.feed(self.sock.recv(1 << 20))
            left -= sum(1 for _ in self._replies())

    def listen(self) -> None:
        """Take what is still under way."""
        self.sock.settimeout(0.3)
        try:
            while data := self.sock.recv(1 << 20):
                self._parser.feed(data)
                list(self._replies())
        except TimeoutError:
            pass

    def _replies(self) -> Iterator[object]:
        while (reply := self._parser.gets()) is not False:
            if isinstance(reply, hiredis.PushNotification):
                self.invalidations += len(reply[1])
            else:
                yield reply


def measured(admin: Redis) -> tuple[float, int]:
    """Return the seconds of its processor that the server has used, and its bytes of memory."""
    cpu = admin.info("cpu")
    used = cpu["used_cpu_user"] + cpu["used_cpu_sys"]
    return used, admin.info("memory")["used_memory"]


def server_side(mode: str) -> str:
    """Return what the server and each of its clients did in this mode."""
    rng = random.Random(1)
    sums = list(itertools.accumulate(1 / rank for rank in range(1, len(KEYS) + 1)))
    with LocalShards(1, tcp=True) as servers, ExitStack() as stack:
        [url] = servers.urls.values()
        admin = stack.enter_context(Redis.from_url(url))
        peers = [Peer(url) for _ in range(CLIENTS)]
        writer = Peer(url)
        writer.call([(b"SET", key, b"v" * 100) for key in KEYS])
        before = measured(admin)
        for peer in peers:
            stack.callback(peer.sock.close)
            peer.call([MODES[mode]])
            for _ in range(READS // 1000):
                ranks = [bisect.bisect_left(sums, rng.random() * sums[-1]) for _ in range(1000)]
                peer.call([(b"GET", KEYS[rank]) for rank in ranks])
        between = measured(admin)
        for _ in range(WRITES):
            writer.call([(b"SET", rng.choice(KEYS), b"w" * 100)])
        after = measured(admin)
        writer.sock.close()
        for peer in peers:
            peer.listen()
        told = sum(peer.invalidations for peer in peers) / CLIENTS
        return (
            f"{mode:15} a read {(between[0] - before[0]) / READS / CLIENTS * 1e6:5.2f} µs, "
            f"a write {(after[0] - between[0]) / WRITES * 1e6:5.1f} µs of the server's processor, "
            f"{(between[1] - before[1]) / 1e6:4.1f} MB, {told:6.0f} invalidations for each client"
        )


def write(urls: dict[str, str]) -> None:
    """Write some keys again and again."""
    with ShardCache(urls, namespace="ns", timeout=5) as cache:
        for number in range(HEARD):
            cache.set(str(number % 10_000), "w")


def client_side() -> str:
    """Return what hearing of the writes of another process costs one that reads nothing."""
    with (
        LocalShards(1, tcp=True) as servers,
        ShardCache(servers.urls, namespace="ns", timeout=5, near=NearCache()) as cache,
    ):
        cache.set("x", 1)
        while not (near := cache.stats().near) or not near.hits:
            cache.get("x")
        before, used = near.invalidations, time.process_time()
        other = multiprocessing.get_context("spawn").Process(target=write, args=(servers.urls,))
        other.start()
        other.join()
        time.sleep(0.5)
        heard = cache.stats().near.invalidations - before
        used = time.process_time() - used
        return (
            f"near cache: {used / heard * 1e6:.1f} µs for each of {heard} writes that it heard of"
        )


if __name__ == "__main__":
    for name in MODES:
        print(server_side(name), flush=True)
    print(client_side())
