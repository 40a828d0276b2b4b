"""What can be set about a client beyond the constructor's own parameters: one frozen object."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from shardcache.errors import InvalidOption
from shardcache.events import Hook
from shardcache.hooks import check_hook
from shardcache.value_type import ValueType

__all__ = ("TLS", "OnUnavailable", "Options", "check_on_unavailable", "check_timeout")

OnUnavailable = Literal["degrade", "raise"]


def _number(name: str, value: object, low: float, high: float, *, whole: bool = False) -> None:
    kind = "a whole number" if whole else "a number"
    if (
        isinstance(value, bool)
        or not isinstance(value, int if whole else (int, float))
        or not low <= value <= high
    ):
        raise InvalidOption(f"{name} must be {kind} from {low:g} to {high:g}, got {value!r:.80}")


def check_timeout(timeout: object) -> float:
    """Return the deadline of one call in seconds, or raise `InvalidOption`."""
    _number("timeout", timeout, 0.001, 3600)
    return float(timeout)  # type: ignore[arg-type]


def check_on_unavailable(choice: object) -> OnUnavailable:
    """Return what a call does when its shard is out, or raise `InvalidOption`."""
    if choice not in ("degrade", "raise"):
        raise InvalidOption(f"on_unavailable must be 'degrade' or 'raise', got {choice!r:.80}")
    return choice


@dataclass(frozen=True, slots=True)
class TLS:
    """How ``rediss://`` shards are checked: by default fully, against the system's authorities (G7).

    Paths are of PEM files. ``verify=False`` takes any certificate: for tests only.
    """

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True
    check_hostname: bool = True

    def __post_init__(self) -> None:
        for name in ("ca_file", "cert_file", "key_file"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise InvalidOption(
                    f"{name} must be the path of a PEM file, there is none at {path!r:.200}"
                )


@dataclass(frozen=True, slots=True)
class Options:
    """Settings that most callers never touch.

    ``signing_key``: values are HMAC-signed, bound to their keys, and checked before anything is
    decoded; a sequence of keys signs with the first and accepts all.
    ``types``: classes of your own that the serializer "safe" keeps as well: dataclasses, Enums, NamedTuples, and
    others as `ValueType`.
    ``compress_min``: bytes from which a value is worth compressing. ``max_value``: the largest
    value in bytes, encoded or decompressed. ``max_idle``: connections kept per shard (sync).
    ``max_in_flight``, ``max_bytes_in_flight``: calls and bytes sent to a shard and not yet answered,
    beyond which callers wait within their deadline (asyncio).
    ``placement``: "ring", "ketama", or a callable from the nodes to a placement.
    ``failures``, ``first_probe``, ``max_probe``: the breaker (failures in a row that open it;
    seconds to the first probe; longest seconds between probes). ``max_out``: the share of the
    shards that may be out at once, at least one; 0 turns the breakers off. ``on_event``: a plain function, called with an `Event`.
    ``max_loads``: loaders that run at once in this process (on one event loop); others wait for their turn. As many again may run on
    that were given up (`LoadPolicy.hard_timeout`), and as many refreshes may be at work in the background.
    ``load_batch``: keys that `get_or_set_many` gives its loader in one call, at most. Their load locks are held until all of them are stored, and
    whoever waits for one of them in this process waits for all.
    ``void_loads``: every write also voids the lock of a load of that key under way (one more command in the same
    exchange), so that what was loaded before cannot overwrite it. False only where nobody in the fleet uses `get_or_set` or `cached`.
    ``echo_check``: end every exchange with an ECHO of a fresh number, so that even a broken proxy that
    repeats bytes cannot pass one request's reply off as another's; costs a command per exchange.
    ``protocol``: RESP version to ask for; 3 falls back to 2 by itself.
    ``client_name``: what CLIENT LIST shows; where a server or a proxy refuses it, connections go without.
    ``credential_provider``: an object with redis-py's ``get_credentials()`` (asyncio: ``get_credentials_async()``, if
    it has it), for all shards; asked for each connection. One with ``on_next()`` renews the login of live connections.
    """

    signing_key: Any = field(default=None, repr=False)
    types: Sequence[type | ValueType[Any]] = ()
    compress_min: int = 1024
    max_value: int = 64 * 1024 * 1024
    max_idle: int = 64
    max_in_flight: int = 4096
    max_bytes_in_flight: int = 8 * 1024 * 1024
    placement: Any = "ring"
    failures: int = 3
    first_probe: float = 0.1
    max_probe: float = 2.0
    max_out: float = 1.0
    on_event: Hook | None = None
    protocol: int = 3
    max_loads: int = 64
    load_batch: int = 1000
    void_loads: bool = True
    echo_check: bool = False
    client_name: str | None = None
    tls: TLS = field(default_factory=TLS)
    credential_provider: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _number("compress_min", self.compress_min, 0, 2**31, whole=True)
        _number("max_value", self.max_value, 1, 512 * 1024 * 1024, whole=True)
        _number("max_idle", self.max_idle, 0, 100_000, whole=True)
        _number("max_in_flight", self.max_in_flight, 1, 1_000_000, whole=True)
        _number("max_loads", self.max_loads, 1, 1_000_000, whole=True)
        _number("load_batch", self.load_batch, 1, 10_000, whole=True)
        _number("max_bytes_in_flight", self.max_bytes_in_flight, 1, 2**40, whole=True)
        _number("failures", self.failures, 1, 1000, whole=True)
        _number("first_probe", self.first_probe, 0.001, 3600)
        _number("max_probe", self.max_probe, self.first_probe, 3600)
        _number("max_out", self.max_out, 0, 1)
        if self.protocol not in (2, 3):
            raise InvalidOption(f"protocol must be 2 or 3, got {self.protocol!r:.80}")
        if not (self.placement in ("ring", "ketama") or callable(self.placement)):
            raise InvalidOption(
                f"placement must be 'ring', 'ketama' or a callable, got {self.placement!r:.80}"
            )
        check_hook("on_event", self.on_event)
        if self.credential_provider is not None and not any(
            callable(getattr(self.credential_provider, name, None))
            for name in ("get_credentials", "get_credentials_async")
        ):
            raise InvalidOption(
                "credential_provider must have the method get_credentials or get_credentials_async, got an object of "
                f"type {type(self.credential_provider).__name__}"
            )
        if not isinstance(self.types, (list, tuple)):
            raise InvalidOption(
                f"types must be a list of classes and ValueTypes, got {type(self.types).__name__}"
            )
        if not isinstance(self.tls, TLS):
            raise InvalidOption(
                f"tls must be a shardcache.options.TLS, got {type(self.tls).__name__}"
            )
        if self.client_name is not None and not (
            isinstance(self.client_name, str)
            and self.client_name.isascii()
            and self.client_name.isprintable()
            and " " not in self.client_name
        ):
            raise InvalidOption(
                f"client_name must be printable ASCII without spaces, got {self.client_name!r:.80}"
            )
