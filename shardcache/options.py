"""What can be set about a client beyond the constructor's own parameters: one frozen object."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from shardcache.address_map import AddressMap, check_address_map
from shardcache.errors import InvalidOption
from shardcache.events import Hook
from shardcache.hooks import check_hook
from shardcache.value_type import ValueType

__all__ = ("TLS", "OnUnavailable", "Options", "ReadFrom", "check_on_unavailable", "check_timeout")

OnUnavailable = Literal["degrade", "raise"]
ReadFrom = Literal["primary", "replica", "nearest"]


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
    """How ``rediss://`` shards are checked: fully by default, with the system's authorities (G7).

    ``ca_file``: path of a PEM file with the authorities; None: those of the system.
    ``cert_file``: path of a PEM file with the client's certificate; None: the client has none.
    ``key_file``: path of a PEM file with the key of that certificate; None: it is in ``cert_file``.
    ``verify``: False accepts any certificate: for tests only. Default: True.
    ``check_hostname``: whether the certificate must be for the host. Default: True.

    Raises `InvalidOption` for a path without a file.
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

    ``signing_key``: bytes or str of at least 16 bytes, or a list of such; None by default: values
        are not signed. Values are signed by keyed BLAKE2b with the first key, bound to their cache
        keys, and accepted if one of the keys made the signature. It is checked before anything is
        decoded.
    ``sign_plain``: whether str and bytes are signed too. False: they are neither signed nor checked
        while they are stored as they are, which nothing decodes: who can write to a shard can
        change them, or put one in the place of any value. Default: True.
    ``types``: a list of the application's own classes that the serializer "safe" keeps too:
        dataclasses, Enums, NamedTuples, and other classes as `ValueType`. Default: none.
    ``read_foreign``: whether bytes of other programs, without this library's header, are returned
        as they are; False: such a value is damaged, hence a miss. Ints in digits are read all the
        same. Default: True.
    ``compress_min``: bytes from which a value is compressed, 0 to 2³¹. Default: 1024.
    ``max_value``: bytes that a value may have, encoded or decompressed, 1 to 512 MiB. Default: 64
        MiB.
    ``max_idle``: connections that are kept for each shard (sync), 0 to 100 000. Default: 64.
    ``max_in_flight``: calls that are sent to a shard and not answered (asyncio), 1 to 1 000 000.
        Further calls wait within their deadline. Default: 4096.
    ``max_bytes_in_flight``: the same limit in bytes, 1 to 2⁴⁰. Default: 8 MiB.
    ``dns_ttl``: seconds after which a host name is looked up anew, in the background, when the next
        call opens a connection, 0 to 3600. Default: 30. What was found last is used until then, and
        for as long as the look-up fails or hangs.
    ``placement``: "ring" (the default), "ketama", or a callable from the nodes to a placement.
    ``failures``: failures in a row that open the breaker of a shard, 1 to 1000. Default: 3.
    ``first_probe``: seconds from the opening to the first probe, 0.001 to 3600. Default: 0.1.
    ``max_probe``: longest seconds between two probes, ``first_probe`` to 3600. Default: 2.
    ``max_out``: the share of the shards that may be out at once, 0 to 1; at least one shard may be,
        unless it is 0, which turns the breakers off. Default: 1.
    ``discovery_interval``: seconds between two polls of a source of nodes, 0.01 to 86 400, with a
        jitter of a quarter. Default: 10.
    ``read_from``: which servers of a Redis Cluster, or behind Sentinels, `get`, `get_many`,
        `fetch_many`, `contains` and `ttl` ask: the "primary" of the key (the default), a "replica"
        of it, or the "nearest" of all these by measured round trip. What a replica says may be old,
        without any bound; all else is asked of the primary (docs/cluster.md). Other nodes have
        "primary" only.
    ``on_event``: a plain function that is called with each `Event`, or None (the default).
    ``protocol``: the RESP version that is asked for, 2 or 3; 3 falls back to 2. Default: 3.
    ``max_loads``: loaders that run at once in this process (on one event loop), 1 to 1 000 000;
        other loads wait for their turn. As many loaders may still run that were given up
        (`LoadPolicy.hard_timeout`), and as many refreshes in the background. Default: 64.
    ``load_batch``: keys that `get_or_set_many` gives its loader in one call, 1 to 10 000. Their
        load locks are held until all of them are stored; a call in this process that waits for one
        of them waits for all. Default: 1000.
    ``void_loads``: whether a write also invalidates a load of that key under way (one more command
        in the same exchange), so that the loaded value cannot overwrite it. Default: True. Use
        False only where no process of the fleet calls `get_or_set` or `cached`.
    ``echo_check``: whether each exchange ends with an ECHO of a fresh number, so that a broken
        proxy that repeats bytes cannot give one request the reply of another. Default: False.
    ``client_name``: what CLIENT LIST shows: printable ASCII without spaces; None by default. Where
        a server or a proxy refuses the name, connections have none.
    ``tls``: how certificates are checked (`TLS`). Default: fully.
    ``credential_provider``: an object with redis-py's ``get_credentials()`` (asyncio:
        ``get_credentials_async()``, if it has it) for all shards; it is asked for each connection.
        A provider with ``on_next()`` renews the login of live connections. Default: None.
    ``address_map``: the addresses by which this client reaches servers that are announced under
        others, because of NAT, port-forwards or containers: a mapping of announced to reachable
        addresses, each "host:port" or (host, port), or a function of a (host, port) that returns
        such an address, or None for "as announced". It is for what Sentinels and the nodes of a
        cluster tell, and not for addresses that stand in a URL. Default: None.
    ``hot_keys``: for how many keys the client counts the reads of this process, so that `hot_keys`
        can tell which are read most, 0 to 10 000; some 300 bytes each. 0 (the default): for none.
    ``hot_keys_sample``: one read in so many is counted, on average, 1 to 1 000 000. Default: 16.

    Raises `InvalidOption` for a value of another type or outside its range.
    """

    signing_key: Any = field(default=None, repr=False)
    sign_plain: bool = True
    types: Sequence[type | ValueType[Any]] = ()
    read_foreign: bool = True
    compress_min: int = 1024
    max_value: int = 64 * 1024 * 1024
    max_idle: int = 64
    max_in_flight: int = 4096
    max_bytes_in_flight: int = 8 * 1024 * 1024
    dns_ttl: float = 30.0
    placement: Any = "ring"
    failures: int = 3
    first_probe: float = 0.1
    max_probe: float = 2.0
    max_out: float = 1.0
    discovery_interval: float = 10.0
    read_from: ReadFrom = "primary"
    on_event: Hook | None = None
    protocol: int = 3
    max_loads: int = 64
    load_batch: int = 1000
    void_loads: bool = True
    echo_check: bool = False
    client_name: str | None = None
    tls: TLS = field(default_factory=TLS)
    credential_provider: Any = field(default=None, repr=False)
    address_map: AddressMap | None = None
    hot_keys: int = 0
    hot_keys_sample: int = 16

    def __post_init__(self) -> None:
        # Numbers.
        _number("compress_min", self.compress_min, 0, 2**31, whole=True)
        _number("max_value", self.max_value, 1, 512 * 1024 * 1024, whole=True)
        _number("max_idle", self.max_idle, 0, 100_000, whole=True)
        _number("max_in_flight", self.max_in_flight, 1, 1_000_000, whole=True)
        _number("max_loads", self.max_loads, 1, 1_000_000, whole=True)
        _number("load_batch", self.load_batch, 1, 10_000, whole=True)
        _number("max_bytes_in_flight", self.max_bytes_in_flight, 1, 2**40, whole=True)
        _number("dns_ttl", self.dns_ttl, 0, 3600)
        _number("failures", self.failures, 1, 1000, whole=True)
        _number("first_probe", self.first_probe, 0.001, 3600)
        _number("max_probe", self.max_probe, self.first_probe, 3600)
        _number("max_out", self.max_out, 0, 1)
        _number("discovery_interval", self.discovery_interval, 0.01, 86400)
        _number("hot_keys", self.hot_keys, 0, 10_000, whole=True)
        _number("hot_keys_sample", self.hot_keys_sample, 1, 1_000_000, whole=True)
        # Choices and functions.
        if self.protocol not in (2, 3):
            raise InvalidOption(f"protocol must be 2 or 3, got {self.protocol!r:.80}")
        if not (self.placement in ("ring", "ketama") or callable(self.placement)):
            raise InvalidOption(
                f"placement must be 'ring', 'ketama' or a callable, got {self.placement!r:.80}"
            )
        if self.read_from not in ("primary", "replica", "nearest"):
            raise InvalidOption(
                f"read_from must be 'primary', 'replica' or 'nearest', got {self.read_from!r:.80}"
            )
        check_hook("on_event", self.on_event)
        check_address_map(self.address_map)
        if self.credential_provider is not None and not any(
            callable(getattr(self.credential_provider, name, None))
            for name in ("get_credentials", "get_credentials_async")
        ):
            raise InvalidOption(
                "credential_provider must have the method get_credentials or "
                "get_credentials_async, got an object of "
                f"type {type(self.credential_provider).__name__}"
            )
        # Objects of other classes, and text that goes to the server.
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
