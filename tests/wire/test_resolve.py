"""The addresses of a host: their order, and hosts that have none."""

import asyncio
import socket
import ssl
import time

import pytest

from shardcache.wire.endpoint import Endpoint, interleaved, telling
from shardcache.wire.resolve import Resolver

FOUR = [Endpoint(socket.AF_INET, 1, 6, (f"10.0.0.{number}", 1)) for number in range(3)]
SIX = [Endpoint(socket.AF_INET6, 1, 6, (f"fd00::{number}", 1, 0, 0)) for number in range(2)]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([*SIX, *FOUR], [SIX[0], FOUR[0], SIX[1], FOUR[1], FOUR[2]]),
        ([*FOUR, *SIX], [FOUR[0], SIX[0], FOUR[1], SIX[1], FOUR[2]]),
        ([FOUR[0], FOUR[1], FOUR[0]], FOUR[:2]),
        (SIX[:1], SIX[:1]),
    ],
    ids=["v6 first", "v4 first", "twice", "one"],
)
def test_families_take_turns(found, expected) -> None:
    """A family that is silent as a whole holds up the other by one attempt only."""
    assert interleaved(found) == expected


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "fe80::1%1"])
def test_addresses_are_not_looked_up(monkeypatch, host) -> None:
    """What is an address already needs no thread and no resolver."""
    asked = []
    real = socket.getaddrinfo

    def look_up(*arguments, **named):
        asked.append(named["flags"])
        return real(*arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    [found] = Resolver(host, 6379, 30.0).get(time.monotonic() + 60, time.monotonic)
    [same] = asyncio.run(Resolver(host, 6379, 30.0).get_async(0))
    assert (found.where[0].partition("%")[0], found.where[1], found == same) == (
        host.partition("%")[0],
        6379,
        True,
    )
    assert asked == [socket.AI_NUMERICHOST] * 2


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..example"])
def test_no_host_name(host) -> None:
    """A host that DNS cannot be asked for is an OSError like any unknown one."""
    with pytest.raises(OSError, match="is no host name"):
        Resolver(host, 1, 30.0).get(time.monotonic() + 60, time.monotonic)


def test_nobody_home(monkeypatch) -> None:
    """A resolver that finds nothing is an error, not an empty list of attempts."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    with pytest.raises(OSError, match="no address is known"):
        Resolver("h.example", 1, 30.0).get(time.monotonic() + 60, time.monotonic)


def test_telling() -> None:
    """A certificate that is refused is told, whatever else went wrong; else the last error."""
    refused, tls, certificate = (
        ConnectionRefusedError(),
        ssl.SSLError("odd"),
        ssl.SSLCertVerificationError("no"),
    )
    assert telling([certificate, tls, refused]) is certificate
    assert telling([tls, refused]) is tls
    assert telling([refused, TimeoutError(), refused]) is refused
