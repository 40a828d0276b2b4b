"""A judge of reads from memory, who knows when each write was acknowledged."""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.background import beside

__all__ = ("NearJudge",)


class NearJudge:
    """Knows which values were acknowledged when.

    ``keys``: those that are written and read.
    ``bound``: seconds after which an acknowledged write must be seen.

    ``stale``: each read that was older: the key, what came, and what should have come at least.
    """

    def __init__(self, keys: Sequence[str], bound: float) -> None:
        self.keys = keys
        self.bound = bound
        self.written: dict[str, list[tuple[float, int]]] = defaultdict(list)
        self.reads = 0
        self.stale: list[tuple[str, int, int]] = []

    def read(self, cache: Any, key: str) -> None:
        """Read a key, and count what is older than the bound allows."""
        self.reads += 1
        due = time.monotonic() - self.bound
        got = cache.get(key)
        if got is None:
            return
        for acknowledged, number in reversed(self.written[key]):
            if acknowledged <= due:
                if got < number:
                    self.stale.append((key, got, number))
                return

    @contextmanager
    def writing(self, writer: Any, seed: int) -> Iterator[None]:
        """Write keys in a thread, about one in a millisecond."""
        rng = random.Random(seed)

        def write(stop: threading.Event) -> None:
            number = 0
            while not stop.wait(0.001):
                key, number = rng.choice(self.keys), number + 1
                if writer.set(key, number, ttl=None):
                    self.written[key].append((time.monotonic(), number))

        with beside(write):
            yield

    @contextmanager
    def reading(self, cache: Any, seed: int) -> Iterator[None]:
        """Read keys in a thread, all the time."""
        rng = random.Random(seed)

        def read(stop: threading.Event) -> None:
            while not stop.wait(0.0002):
                self.read(cache, rng.choice(self.keys))

        with beside(read):
            yield
