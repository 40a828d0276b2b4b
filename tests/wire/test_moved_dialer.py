"""The dialer of a shard that moves: who is told of a host name, and what a dial finds."""

import asyncio
import socket
import time
from typing import Any
from urllib.parse import urlsplit

import pytest

import shardcache.wire.resolve
from shardcache import Options
from shardcache.embedded import LocalShards
from shardcache.urls import Address
from shardcache.wire.aio.dialer import AsyncDialer
from shardcache.wire.host_name import HostName
from shardcache.wire.sync.dialer import Dialer

FAR = 60.0


class User:
    """A shard that notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[OSError | None] = []

    def on_lookup(self, error: OSError | None) -> None:
        self.heard.append(error)

    def on_name_moved(self) -> None:
        """Nothing to note."""


def look_up(name: HostName) -> None:
    name.get(FAR, time.monotonic, None)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_name_of_the_address(monkeypatch, colour: str) -> None:
    """Of the present address, and of no former one; one without a name has nothing to tell."""
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("10.0.0.1", 0))])
    first, second = (HostName.of(f"{colour}-{number}.example") for number in range(2))
    addresses = [Address(f"{colour}-{number}.example") for number in range(2)]
    dialer: Any = (
        Dialer("a", addresses[0], Options(), time.monotonic)
        if colour == "sync"
        else AsyncDialer("a", addresses[0], Options())
    )
    dialer.move(Address("10.0.0.9"))
    dialer.move(addresses[0])
    user = User()
    dialer.watch(user)
    look_up(first)
    dialer.move(addresses[1])
    assert dialer.address == addresses[1]
    look_up(first)
    assert user.heard == [None]
    look_up(second)
    assert user.heard == [None, None]
    dialer.move(Address(path="/tmp/s"))
    dialer.refresh()
    look_up(second)
    assert user.heard == [None, None]


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_new_address_in_the_same_call(monkeypatch, names, host, colour: str) -> None:
    """Where the address that is known refuses, what the name stands for now is tried at once."""
    monkeypatch.setattr(shardcache.wire.resolve, "SECOND_LOOK", FAR)
    with socket.socket() as nobody, LocalShards(1, tcp=True) as servers:
        nobody.bind(("127.0.0.1", 0))
        names.say(host, nobody.getsockname())
        name = HostName.of(host)
        look_up(name)
        monkeypatch.setattr(HostName, "rested", FAR)  # it was a while ago
        names.say(host, ("127.0.0.1", urlsplit(servers.urls["shard-1"]).port or 0))
        if colour == "sync":
            connect = Dialer("a", Address(host), Options(), time.monotonic)
            connect(time.monotonic() + FAR).close()
        else:

            async def main() -> None:
                loop = asyncio.get_running_loop()
                connect = AsyncDialer("a", Address(host), Options())
                connection = await connect(loop.time() + FAR, FAR, ignored, ignored)
                connection.end(ConnectionError("enough"))
                await connection.wait_closed()

            asyncio.run(main())
        assert names.asked == [host] * 2


def ignored(*_: object) -> None:
    """Hear of nothing."""
