"""What all loads of one client share."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from shardcache.codecs import Codec, Loaded
from shardcache.codecs.load_record import refusal_text
from shardcache.errors import DamagedPayload
from shardcache.flows.budget import Budget
from shardcache.flows.load.load_outcome import LoadOutcome
from shardcache.flows.load.request import BULK_TIMEOUTS, LoadKey
from shardcache.flows.lock.planner import LockPlanner
from shardcache.flows.lock.voter_registry import VoterRegistry
from shardcache.flows.reply_policy import ReplyPolicy
from shardcache.keys import Key
from shardcache.policy import Freshness, LoadPolicy
from shardcache.policy.freshness import LONGEST_DRAW, jittered, judge, lock_ttl_ms, version_draw
from shardcache.policy.load_result import LoadResult
from shardcache.request_deadline import caller_end_by
from shardcache.stats import LoadTally
from shardcache.ttl import DEFAULT, milliseconds

__all__ = ("LoadContext", "fingerprint")

_MOST_PACES = 4096
_UNCHANGING = frozenset({type(None), bool, int, float, complex, str, bytes, Loaded})


@dataclass(slots=True)
class LoadContext:
    """What all loads of one client share.

    ``codec``: makes bytes of values, and values of bytes.
    ``reply_policy``: counts, and turns errors into what the client's policy says.
    ``planner``: names the voters of load locks.
    ``clock``: returns seconds.
    ``random``: returns a number from 0 to 1.
    ``new_token``: returns a token of a kind that nobody else has.
    ``version``: returns 16 bytes that nobody else has.
    ``tally``: the counters of loads.
    ``timeout``: the client's timeout, in seconds.
    ``batch``: how many keys one call of a loader of many gets at most.
    ``salt``: returns 16 bytes that no other process has. The draws of early refreshes are made of
        them if processes do not wait for each other.
    ``paces``: by wire key, the ms that loading took last time, if that was long.
    ``tended``: by wire key, until when no reader of this process need start a refresh.
    ``is_under_way``: whether an outer call of this thread loads a key: no call may wait for that.
    ``written``: called with keys whose refresh has ended.
    """

    codec: Codec
    reply_policy: ReplyPolicy
    planner: LockPlanner
    clock: Callable[[], float]
    random: Callable[[], float]
    new_token: Callable[[str], bytes]
    version: Callable[[], bytes]
    tally: LoadTally
    timeout: float
    batch: int
    salt: Callable[[], bytes]
    paces: dict[bytes, int] = field(default_factory=dict)
    tended: dict[bytes, float] = field(default_factory=dict)
    is_under_way: Callable[[bytes], bool] = lambda _: False
    written: Callable[[Iterable[bytes]], object] = lambda _: None

    @property
    def registry(self) -> VoterRegistry:
        return self.planner.load_register

    def load_key(
        self, key: Key, wire: bytes, policy: LoadPolicy, *, keys: int = 1, bulk: bool = False
    ) -> LoadKey:
        """Return what the load of one key needs.

        ``key``: the key.
        ``wire``: its wire key.
        ``policy``: how it is loaded.
        ``keys``: with how many keys it is loaded in one call of the loader.
        ``bulk``: whether the call has more keys than are sent at once.
        """
        ttl_ms = lock_ttl_ms(self.paces.get(wire, 0), policy, keys)
        return LoadKey(
            key,
            wire,
            self.planner.load_plan(key, wire, ttl_ms / 1000, BULK_TIMEOUTS if bulk else 1),
        )

    def paced(self, wires: Iterable[bytes], took: float, policy: LoadPolicy) -> None:
        """Remember how long loading took: the next lock must last as long."""
        took_ms = round(took * 1000)
        for wire in wires:
            if lock_ttl_ms(took_ms, policy) > lock_ttl_ms(0, policy):
                if len(self.paces) >= _MOST_PACES:
                    self.paces.clear()
                self.paces[wire] = took_ms
            else:
                self.paces.pop(wire, None)

    def tend(self, wires: Iterable[bytes], seconds: float) -> None:
        """Note for how long a refresh of these keys is under way: readers need not start one."""
        for wire in wires:
            if seconds:
                if len(self.tended) >= _MOST_PACES:
                    self.tended.clear()
                self.tended[wire] = self.clock() + seconds
            else:
                self.tended.pop(wire, None)

    def is_tended(self, wire: bytes) -> bool:
        """Whether a refresh of this key is under way."""
        return self.tended.get(wire, 0.0) > self.clock()

    def budget(self, began: float | None = None, *, background: bool = False) -> Budget:
        """Return the time for all exchanges of one call, less the time since it ``began``.

        ``background``: whether no caller waits for it, so that no caller's `deadline` ends it.
        """
        end = None if background else caller_end_by(self.clock)
        return Budget(self.timeout, self.clock, began, end)

    def abandoned(self) -> None:
        """Note that a loader was given up and runs on."""
        self.tally.abandoned += 1

    def joined(self, keys: int) -> None:
        """Note that a call waits for loads of this process."""
        self.tally.joined += keys

    def judge(
        self, raw: bytes, pttl: int, wire: bytes, policy: LoadPolicy
    ) -> tuple[Loaded, Freshness]:
        """Return what is stored, and how fresh it is. Raises `DamagedPayload`."""
        found = self.codec.decode_loaded(raw, wire)
        if not found.grace and not found.delta:
            return found, Freshness.FRESH if pttl != -2 else Freshness.GONE
        return found, judge(
            pttl, found.grace, found.delta, policy, self._draw(raw, pttl, wire, found, policy)
        )

    def _draw(self, raw: bytes, pttl: int, wire: bytes, found: Loaded, policy: LoadPolicy) -> float:
        """Return the draw of an early refresh: one for each stored version.

        Without any protection, every read may load, and each has a draw of its own.
        """
        if policy.protect == "none":
            return 1.0 - self.random()
        if pttl - found.grace > LONGEST_DRAW * found.delta * policy.beta:
            return 1.0  # whatever the draw, it is too soon
        return version_draw(raw, wire, b"" if policy.protect == "fleet" else self.salt())

    def own(self, brought: LoadOutcome, wire: bytes) -> LoadOutcome:
        """Return the result of another call's load, with an object of the caller's own.

        A value that cannot be changed is returned as it is. Raises `DamagedPayload` if the stored
        bytes do not decode.
        """
        if type(brought.value) in _UNCHANGING:
            return brought
        return brought._replace(value=self.codec.decode_loaded(brought.raw, wire).value)

    def newer(
        self, load_key: LoadKey, policy: LoadPolicy, raw: bytes | None, pttl: int
    ) -> Loaded | None:
        """Return what a load found when it looked again, if that makes loading unnecessary."""
        # A value to be refreshed is still the same if its time left has only become less.
        if raw is None or (load_key.seen is not None and 0 <= pttl <= load_key.seen):
            return None
        try:
            found, freshness = self.judge(raw, pttl, load_key.wire, policy)
        except DamagedPayload:
            return None
        return None if freshness in (Freshness.STALE, Freshness.GONE) else found

    def seal(
        self,
        wire: bytes,
        result: Any,
        policy: LoadPolicy,
        ttl_ms: int | None,
        took: float,
        tags: Any,
    ) -> tuple[Any, bytes, int | None]:
        """Return the value of a loader's result, the bytes to store, and their life in ms.

        ``wire``: the wire key.
        ``result``: what the loader returned.
        ``policy``: how it is loaded.
        ``ttl_ms``: the ttl of the call in ms; None: no expiry.
        ``took``: seconds that the loader took.
        ``tags``: the tags of the call with their versions.

        A life of None has no end; with 0 nothing is stored.
        """
        # The result may say its own ttl; jitter and grace are added to it.
        if isinstance(result, LoadResult):
            ttl_ms = ttl_ms if result.ttl is DEFAULT else milliseconds(result.ttl)
            result = result.value
        ttl_ms = jittered(ttl_ms, policy.jitter, 1.0 - self.random())
        delta = max(round(took * 1000), 1) if policy.early and ttl_ms is not None else 0
        grace = policy.grace_ms if ttl_ms else 0
        # An int without grace and tags stays a number that INCR works on.
        if (type(result) is int and not grace and not tags) or not (delta or grace or tags):
            raw = self.codec.encode(result, wire)
        else:
            raw = self.codec.encode_loaded(result, wire, grace_ms=grace, delta_ms=delta, tags=tags)
        return result, raw, None if ttl_ms is None else ttl_ms + grace if ttl_ms else 0

    def seal_refusal(
        self, wire: bytes, policy: LoadPolicy, error: BaseException
    ) -> tuple[bytes, int]:
        """Return the bytes to store for a loader's refusal, and their life in ms."""
        raw = self.codec.encode_loaded(refusal_text(error), wire, negative=True)
        return raw, max(round((policy.negative_ttl or 0) * 1000), 1)


def fingerprint(raw: bytes | None) -> bytes:
    """Return what the fill script compares the stored value with."""
    return b"" if raw is None else hashlib.sha1(raw, usedforsecurity=False).hexdigest().encode()
