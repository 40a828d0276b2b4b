"""What every load of one client needs, apart from the load itself."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shardcache.codecs import Codec, Loaded
from shardcache.codecs.loaded import refusal_text
from shardcache.errors import DamagedPayload
from shardcache.flows.ledger import Ledger
from shardcache.flows.load.job import Entry, Job
from shardcache.flows.lock.register import Register
from shardcache.flows.lock.room import LockRoom
from shardcache.keys import Key
from shardcache.load_result import LoadResult
from shardcache.policy import Freshness, LoadPolicy
from shardcache.policy.freshness import jittered, judge
from shardcache.stats import LoadTally
from shardcache.ttl import DEFAULT, milliseconds

__all__ = ("LoadDesk", "fingerprint")


@dataclass(slots=True)
class LoadDesk:
    """Codec, ledger and lock room of one client, and the clock, chance and names that loads are given."""

    codec: Codec
    ledger: Ledger
    room: LockRoom
    clock: Callable[[], float]
    luck: Callable[[], float]
    mint: Callable[[str], bytes]  # a token nobody else has
    version: Callable[[], bytes]  # 16 bytes nobody else has
    tally: LoadTally

    @property
    def register(self) -> Register:
        return self.room.register

    def job(self, key: Key, loader: Any, ttl_ms: int | None, policy: LoadPolicy, tags: tuple[bytes, ...]) -> Job:
        """Return the job of one key. A ``loader`` that cannot be called is the value itself."""
        plan = self.room.load_plan(key, policy.lock_ttl)
        call = loader if callable(loader) else lambda: loader
        return Job(key, self.room.wire(key), plan, call, ttl_ms, policy, tags)

    def judge(self, raw: bytes, pttl: int, wire: bytes, policy: LoadPolicy) -> tuple[Loaded, Freshness]:
        """Return what is stored and how fresh it is. Raises `DamagedPayload`."""
        found = self.codec.decode_loaded(raw, wire)
        if not found.grace and not found.delta:
            return found, Freshness.FRESH if pttl != -2 else Freshness.GONE
        return found, judge(pttl, found.grace, found.delta, policy, 1.0 - self.luck())

    def entry(self, job: Job, raw: bytes | None, pttl: int) -> Entry | None:
        """Return the entry that a load found when it looked again, if that makes loading unnecessary."""
        if raw is None:
            return None
        try:
            found, freshness = self.judge(raw, pttl, job.wire, job.policy)
        except DamagedPayload:
            return None
        if freshness in (Freshness.STALE, Freshness.GONE):
            return None
        return Entry(found if found.tags or found.negative else found.value, raw)

    def seal(
        self, job: Job, result: Any, took: float, tags: tuple[tuple[bytes, bytes], ...]
    ) -> tuple[Any, bytes, int | None]:
        """Return the value of a loader's result, what is to be stored for it, and its life in ms (0: not to be stored)."""
        ttl_ms = job.ttl_ms
        if isinstance(result, LoadResult):
            ttl_ms = ttl_ms if result.ttl is DEFAULT else milliseconds(result.ttl)
            result = result.value
        policy = job.policy
        ttl_ms = jittered(ttl_ms, policy.jitter, 1.0 - self.luck())
        delta = max(round(took * 1000), 1) if policy.early and ttl_ms is not None else 0
        grace = policy.grace_ms if ttl_ms else 0
        # An int that nobody has to know more about stays a number that INCR works on.
        if (type(result) is int and not grace and not tags) or not (delta or grace or tags):
            raw = self.codec.encode(result, job.wire)
        else:
            raw = self.codec.encode_loaded(result, job.wire, grace_ms=grace, delta_ms=delta, tags=tags)
        return result, raw, None if ttl_ms is None else ttl_ms + grace if ttl_ms else 0

    def seal_refusal(self, job: Job, error: BaseException) -> tuple[bytes, int]:
        """Return what is stored for a loader's refusal, and for how many ms."""
        raw = self.codec.encode_loaded(refusal_text(error), job.wire, negative=True)
        return raw, max(round((job.policy.negative_ttl or 0) * 1000), 1)


def fingerprint(raw: bytes | None) -> bytes:
    """Return what the fill script compares the stored value with."""
    return b"" if raw is None else hashlib.sha1(raw, usedforsecurity=False).hexdigest().encode()
