"""How a missing or ageing value is loaded: one frozen object, and presets for common needs."""

from dataclasses import dataclass
from typing import Literal, Self

from shardcache.errors import InvalidOption

__all__ = ("LoadPolicy", "OnWaitOver", "Preset", "Protect")

OnWaitOver = Literal["load", "raise"]
Protect = Literal["fleet", "process", "none"]
Preset = Literal["simple", "swr", "strict"]

_LONGEST = 100 * 365.25 * 24 * 3600.0  # seconds, as for a ttl
_SWR_GRACE = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class LoadPolicy:
    """What `get_or_set` does about a value that is absent or will soon expire. Times in seconds.

    What may be served:

    ``stale_ttl``: how long a value may be served after its ttl while it is loaded again, 0 to 100
        years. Default: 0.
    ``stale_if_error``: whether such a value is also served when the loader fails. Default: True.
    ``beta``: how early a value is refreshed before its ttl ends, in multiples of the time that its
        last load took, 0 to 1000; 0: never early (see the module `freshness`). Default: 1.
    ``jitter``: the share of the ttl by which it is shortened at random, 0 to 1, so that values
        that were stored together do not expire together. Default: 0.
    ``negative_on``: a tuple of Exception types; when the loader raises one, that is remembered, and
        callers get `errors.NegativeHit` meanwhile. Default: none.
    ``negative_ttl``: how long that is remembered, 0.001 to 100 years. Needed with ``negative_on``.

    Which call loads, and which calls wait:

    ``protect``: "fleet": one loader for a key in all processes, by the quorum lock (the default);
        "process": one in each process, without a lock; "none": every caller loads.
    ``background``: whether a refresh runs in the background; if not, the one caller that has the
        load lock loads before it returns. Default: True.
    ``lock_ttl``: the ttl of the load lock, at first and at least, 0.1 to 3600; it grows with the
        measured time of loading. Default: 3.
    ``wait``: how long the other callers wait for the value, 0 to 3600. A call that waits for one of
        the places for loaders (`Options.max_loads`) gets `errors.TooManyLoaders` if no loader ends
        for as long (1 s at least). Default: 5.
    ``on_wait_over``: what they do then: "load" it themselves (the default), or "raise"
        `errors.LoadWaitTimeout`.
    ``poll``: two delays, 0.001 to 60 each, the second not below the first. The other callers are
        woken when the value is stored. A caller that is not woken looks for the value when the
        loader's lock has been over for up to the first delay; if the key's shard is out, after half
        to all of the second. Default: (0.005, 0.1).
    ``soft_timeout``: a caller that loads is given the stale value after this time, while the loader
        goes on; 0.001 to 86 400, less than ``hard_timeout``; needs ``stale_ttl``. Default: None.
    ``hard_timeout``: after this time, the wait for a place for loaders included, the load is given
        up with `errors.LoadTimeout`; 0.001 to 86 400. The loader runs in a thread or task of its
        own. Default: None: there is no limit.

    Raises `InvalidOption` for values outside their range and for values that contradict each other.
    To change a preset: ``dataclasses.replace(LoadPolicy.strict(), wait=1)``.
    """

    stale_ttl: float = 0
    stale_if_error: bool = True
    beta: float = 1.0
    jitter: float = 0.0
    negative_on: tuple[type[Exception], ...] = ()
    negative_ttl: float | None = None
    protect: Protect = "fleet"
    background: bool = True
    lock_ttl: float = 3
    wait: float = 5
    on_wait_over: OnWaitOver = "load"
    poll: tuple[float, float] = (0.005, 0.1)
    soft_timeout: float | None = None
    hard_timeout: float | None = None

    def __post_init__(self) -> None:
        _number("stale_ttl", self.stale_ttl, 0, _LONGEST)
        _flag("stale_if_error", self.stale_if_error)
        _number("beta", self.beta, 0, 1000)
        _number("jitter", self.jitter, 0, 1)
        _choice("protect", self.protect, ("fleet", "process", "none"))
        _flag("background", self.background)
        _number("lock_ttl", self.lock_ttl, 0.1, 3600)
        _number("wait", self.wait, 0, 3600)
        _choice("on_wait_over", self.on_wait_over, ("load", "raise"))
        self._check_poll()
        self._check_negative()
        self._check_timeouts()

    @property
    def early(self) -> bool:
        """Whether values are refreshed before their ttl is over."""
        return self.beta > 0

    @property
    def grace_ms(self) -> int:
        """``stale_ttl`` in whole milliseconds, as it is stored with a value."""
        return round(self.stale_ttl * 1000)

    @classmethod
    def simple(cls) -> Self:
        """Return the default: one loader in the fleet, all other callers wait, nothing is stale."""
        return cls()

    @classmethod
    def swr(cls, stale_ttl: float = _SWR_GRACE) -> Self:
        """Return "stale while revalidate": a value is served after its ttl while it is refreshed.

        ``stale_ttl``: for how many seconds, more than 0. Default: 60. Raises `InvalidOption` for 0.
        """
        if stale_ttl == 0:
            raise InvalidOption(
                "stale_ttl must be more than 0 for swr: with 0 nothing stale is ever served"
            )
        return cls(stale_ttl=stale_ttl)

    @classmethod
    def strict(cls) -> Self:
        """Return "only one load": nothing early or stale; a caller that waited too long raises."""
        return cls(stale_if_error=False, beta=0, on_wait_over="raise")

    @classmethod
    def of(cls, policy: "LoadPolicy | Preset | None") -> "LoadPolicy":
        """Return a policy.

        ``policy``: the policy itself, the name of a preset, or None for the default.

        Raises `InvalidOption` for anything else.
        """
        if isinstance(policy, LoadPolicy):
            return policy
        try:
            return _PRESETS[policy]
        except (KeyError, TypeError):
            names = "', '".join(name for name in _PRESETS if isinstance(name, str))
            raise InvalidOption(
                f"policy must be a LoadPolicy or one of '{names}', got {policy!r:.80}"
            ) from None

    def _check_poll(self) -> None:
        if not isinstance(self.poll, tuple) or len(self.poll) != 2:
            raise InvalidOption(
                f"poll must be a pair of first and longest delay, got {self.poll!r:.80}"
            )
        first, longest = self.poll
        _number("the first delay of poll", first, 0.001, 60)
        _number("the longest delay of poll", longest, first, 60)

    def _check_negative(self) -> None:
        kinds = self.negative_on
        if not isinstance(kinds, tuple) or not all(
            isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds
        ):
            # What is no Exception (KeyboardInterrupt, a cancellation) is about the caller, not
            # about the value.
            raise InvalidOption(
                f"negative_on must be a tuple of Exception types, got {kinds!r:.80}"
            )
        if self.negative_ttl is not None:
            _number("negative_ttl", self.negative_ttl, 0.001, _LONGEST)
        if (self.negative_ttl is None) != (not kinds):
            raise InvalidOption(
                "negative_ttl and negative_on go together: which errors are remembered, and for "
                "how long; "
                f"got negative_ttl={self.negative_ttl!r} and negative_on={kinds!r:.80}"
            )

    def _check_timeouts(self) -> None:
        for name in ("soft_timeout", "hard_timeout"):
            if (timeout := getattr(self, name)) is not None:
                _number(name, timeout, 0.001, 24 * 3600)
        if self.soft_timeout is None:
            return
        if self.stale_ttl == 0:
            raise InvalidOption(
                "soft_timeout serves a stale value, so stale_ttl must be more than 0"
            )
        if self.hard_timeout is not None and self.soft_timeout >= self.hard_timeout:
            raise InvalidOption(
                f"soft_timeout must be less than hard_timeout, got {self.soft_timeout!r} and "
                f"{self.hard_timeout!r}"
            )


def _number(name: str, value: object, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InvalidOption(f"{name} must be a number from {low:g} to {high:g}, got {value!r:.80}")


def _flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise InvalidOption(f"{name} must be True or False, got {value!r:.80}")


def _choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidOption(
            f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r:.80}"
        )


_PRESETS: dict[object, LoadPolicy] = {
    None: LoadPolicy.simple(),
    "simple": LoadPolicy.simple(),
    "swr": LoadPolicy.swr(),
    "strict": LoadPolicy.strict(),
}
