"""How fresh a value is, by its shard's own clock, and when to refresh it before it expires.

Theory of operation
-------------------
A loaded value is stored with PX = ttl + grace. Its shard
says how many milliseconds it has to live (PTTL, p), and r = p - grace of them are fresh. Only
differences of one clock are looked at.

    r > 0               FRESH   or EARLY, see below
    r ≤ 0, grace > 0    STALE   while not staler than this caller's ``stale_ttl``; else GONE
    no expiry           FRESH   (PTTL -1)
    not there           GONE    (PTTL -2)

If all readers waited for r = 0, all would miss at once. So each reader draws u, random in (0,
1], and refreshes early if

    -delta · beta · ln(u) ≥ r

where delta is how long loading took last time. This is XFetch: A. Vattani, F. Chierichetti, K.
Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", PVLDB 8(8), 2015; they show the
exponential distribution to be the best. Since u ≤ x with probability x,

    P(early | r left) = exp(-r / (beta · delta))

so with beta = 1 and delta = 0.4 s one read in 148 is early at r = 2 s, and more than one in three
at r = 0.4 s. With R reads a second the refresh begins about beta · delta · ln(R · beta · delta)
before the end: the busier the key, the earlier, which is the point. XFetch alone does not promise
one refresh (several readers may draw low), nor help with a value that is not there at all: both are
up to the load lock.

One draw for one version
------------------------
XFetch is for readers that cannot agree: the reader with the lowest draw refreshes, so with many
readers that is far too early. Where a load lock lets only one
of them load anyway, one draw is enough, and all should have the same. So with ``protect="fleet"``
the draw is a hash of what is stored (`version_draw`): each reader in each process computes the
same, and the next version has another. It is mapped so that a refresh begins at least beta · delta
before the end, one and a half times that on average. A load that takes as long as the last one has
then brought the next value in time. With ``protect="process"`` each process has a draw of its own
for each version, and with "none" each read has one, as in the paper.
"""

from enum import Enum
from hashlib import blake2b
from math import e, log, sqrt

from shardcache.policy.load_policy import LoadPolicy

__all__ = ("LONGEST_DRAW", "Freshness", "jittered", "judge", "lock_ttl_ms", "version_draw")

_NO_EXPIRY = -1  # PTTL's answers, https://redis.io/docs/latest/commands/pttl/
# How much longer than last time a load may take before its lock must be renewed.
_LOADS_PER_LOCK = 3
# No `version_draw` is early when more than so many times beta · delta is left.
LONGEST_DRAW = 1 + 32 * log(2)
# Bytes at either end that tell one version from another: a large value need not be hashed whole
_ENDS = 256
# What claiming, renewing and storing one key of many may take on a very busy machine.
_LOCK_MS_PER_KEY = 10
_LONGEST_LOCK_MS = 60_000  # a fleet should not wait longer for a loader that died


class Freshness(Enum):
    """What to do about a value that was read."""

    FRESH = "fresh"  # return it
    EARLY = "early"  # return it, and refresh it: its time is nearly over
    STALE = "stale"  # return it, and refresh it: its time is over
    GONE = "gone"  # it is not there, or staler than the policy allows


def judge(
    pttl_ms: int, grace_ms: int, delta_ms: int, policy: LoadPolicy, random: float
) -> Freshness:
    """Say how fresh a value is.

    ``pttl_ms``: what PTTL said of it.
    ``grace_ms``, ``delta_ms``: how it was stored, and how long its load took.
    ``random``: random in (0, 1], such as ``1 - random()``.

    A value whose delta is unknown (0) is never early. A value read with ``pttl_ms`` 0 is still
    there, in its last millisecond.
    """
    if pttl_ms < 0:
        return Freshness.FRESH if pttl_ms == _NO_EXPIRY else Freshness.GONE
    left = pttl_ms - grace_ms
    if left <= 0 < grace_ms:
        return Freshness.STALE if -left < policy.stale_ttl * 1000 else Freshness.GONE
    scale = delta_ms * policy.beta
    return Freshness.EARLY if scale > 0 and -scale * log(random) >= left else Freshness.FRESH


def version_draw(raw: bytes, wire_key: bytes, salt: bytes = b"") -> float:
    """Return the draw of `judge` for one stored version, equal for equal ``salt`` (to 16 bytes).

    From exp(-`LONGEST_DRAW`) to 1/e: the square root of a uniform draw, over e.
    """
    ends = raw if len(raw) <= 2 * _ENDS else raw[:_ENDS] + raw[-_ENDS:]
    draw = blake2b(ends, digest_size=8, key=wire_key[:64], salt=salt).digest()
    return sqrt((int.from_bytes(draw) + 1) / 2**64) / e


def jittered(ttl_ms: int | None, jitter: float, random: float) -> int | None:
    """Return ``ttl_ms`` shortened by up to its share ``jitter``, at random; at least 1.

    ``random`` in (0, 1]: the greater, the shorter. No expiry (None) stays none, and 0 ("do not keep
    it") stays 0.
    """
    if not ttl_ms:
        return ttl_ms
    return max(1, ttl_ms - int(ttl_ms * jitter * random))


def lock_ttl_ms(delta_ms: int, policy: LoadPolicy, keys: int = 1) -> int:
    """Return the ttl of the load lock in ms: three times what the last load took, within bounds.

    At least the policy's ``lock_ttl``; at most that, or a minute if that is more: the ttl is how
    long the fleet waits for a loader that died, and one that lives renews its lock.

    ``delta_ms``: how long the last load took; 0: unknown.
    ``keys``: how many keys are loaded together. All their locks must be renewed before the first
        one ends.
    """
    lowest = round(policy.lock_ttl * 1000)
    wanted = max(lowest, _LOADS_PER_LOCK * delta_ms, _LOCK_MS_PER_KEY * keys)
    return min(wanted, max(lowest, _LONGEST_LOCK_MS))
