"""A loop whose clock jumps from timer to timer, and a server whose brain is the test."""

import asyncio
import gc
import selectors
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import hiredis
import pytest

from shardcache import AsyncShardCache, Options
from shardcache.embedded import LocalShards
from shardcache.wire.aio.connection import AsyncConnection
from shardcache.wire.aio.dialer import AsyncDialer
from tests.aio.connection_bench import Bench
from tests.aio.losing_server import answer

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Jump(selectors.DefaultSelector):
    """Waits for nothing: the time that the loop would sleep passes at once."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        found = super().select(0)
        if not found:
            assert timeout is not None, "the test waits for something that will never happen"
            self.now += timeout
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time."""

    def __init__(self) -> None:
        self.jump = Jump()
        super().__init__(self.jump)

    def time(self) -> float:
        return self.jump.now


def runs_on(factory: Callable[[], asyncio.AbstractEventLoop]) -> Run:
    """Return a function that runs a coroutine.

    Then no task and no socket is left, and asyncio has no complaint.
    """

    def run(main: Coroutine[Any, Any, Any]) -> Any:
        said: list[dict[str, Any]] = []

        async def whole() -> Any:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: said.append(context))
            result = await main
            gc.collect()  # what was never retrieved says so now
            await asyncio.sleep(0.01)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            selector = getattr(loop, "_selector", None)  # uvloop has none
            if selector is not None:
                assert len(selector.get_map()) == 1  # the loop's own pipe
            return result

        with asyncio.Runner(loop_factory=factory) as runner:
            result = runner.run(whole())
        gc.collect()
        assert said == []
        return result

    return run


@pytest.fixture(autouse=True)
def _young(young: None) -> None:
    """Every test here collects garbage."""


@pytest.fixture
def virtual() -> Run:
    """Run in virtual time."""
    return runs_on(VirtualLoop)


@pytest.fixture
def run() -> Run:
    """Run in real time."""
    return runs_on(asyncio.SelectorEventLoop)


@pytest.fixture
def on_bench(virtual) -> Callable[[Callable[[Bench], Any]], None]:
    """Run a scene, a coroutine function, on a bench of its own."""

    def go(scene: Callable[[Bench], Any]) -> None:
        async def main() -> None:
            bench = Bench()
            try:
                await scene(bench)
            finally:
                bench.finish()

        virtual(main())

    return go


class Peer(asyncio.Transport):
    """The far end of one connection: what was asked, in order, and the means to answer it."""

    def __init__(self, server: "Server", connection: AsyncConnection) -> None:
        super().__init__()
        self.server = server
        self.connection = connection
        self.asked: list[list[bytes]] = []
        self.writes = 0
        self.closed = False
        self.stands_still = False
        self.address: Any = None  # the dialled one
        self.owed: list[list[bytes]] = []  # what has come since it stands still
        self._reader = hiredis.Reader()

    def write(self, data: Any) -> None:
        self.writes += 1
        self._reader.feed(bytes(data))
        while (command := self._reader.gets()) is not False:
            self.asked.append(command)
            self.server.on_command(self, command)
            self.stands_still |= self.server.loses(command)
            if self.stands_still:
                self.owed.append(command)
                continue
            if command == [b"PING"]:
                self.say(b"+PONG\r\n")
            elif (answer := self.server.answer(command)) is not None:
                self.say(answer)

    def say(self, data: bytes) -> None:
        """Send bytes to the client, in the next turn of the loop."""
        asyncio.get_running_loop().call_soon(
            lambda: self.closed or self.connection.data_received(data)
        )

    def resume(self) -> None:
        """Stand still no longer: answer what has come, in its order."""
        self.stands_still = False
        owed, self.owed = self.owed, []
        for command in owed:
            if (answer := self.server.answer(command)) is not None:
                self.say(answer)

    def drop(self, error: Exception | None = None) -> None:
        """Close the connection from the far end."""
        if not self.closed:
            self.closed = True
            self.connection.connection_lost(error)

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)

    close = abort

    def is_closing(self) -> bool:
        return self.closed


class Server:
    """Accepts connections from the dialer in this process.

    Answers what ``answer`` returns, None is silence.
    """

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.dials: list[float] = []
        self.refuses: BaseException | None = None
        self.hangs = False
        self.takes = 0.0  # seconds to connect
        self.loses: Callable[[list[bytes]], bool] = lambda command: False
        self.on_command: Callable[[Peer, list[bytes]], None] = lambda peer, command: None
        self.answer: Callable[[list[bytes]], bytes | None] = lambda command: None

    @property
    def live(self) -> list[Peer]:
        return [peer for peer in self.peers if not peer.closed]

    @property
    def asked(self) -> list[list[bytes]]:
        """All commands on all connections, probes left out."""
        return [command for peer in self.peers for command in peer.asked if command != [b"PING"]]

    async def dial(self, dialer: AsyncDialer, deadline: float, *rest: Any) -> AsyncConnection:
        loop = asyncio.get_running_loop()
        self.dials.append(loop.time())
        await asyncio.sleep(self.takes)
        if self.hangs:
            async with asyncio.timeout_at(deadline):
                await loop.create_future()
        if self.refuses is not None:
            raise self.refuses
        connection = AsyncConnection(dialer.shard, loop, *rest)
        peer = Peer(self, connection)
        peer.address = dialer.address
        connection.connection_made(peer)
        connection.latest = deadline + 1.0  # of the handshake, as far as a link can know
        self.peers.append(peer)
        return connection


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """The server that every client of this test connects to, without a socket."""
    found = Server()

    async def dial(dialer: AsyncDialer, *said: Any) -> AsyncConnection:
        return await found.dial(dialer, *said)

    monkeypatch.setattr(AsyncDialer, "__call__", dial)
    return found


def client(timeout: float = 1.0, on_unavailable: Any = "raise", **options: Any) -> AsyncShardCache:
    """Return a client of one shard that nobody listens at but `Server`."""
    chosen = Options(**options)
    return AsyncShardCache(
        {"a": "redis://127.0.0.1:1"}, timeout=timeout, on_unavailable=on_unavailable, options=chosen
    )


@pytest.fixture(name="client")
def client_fixture() -> Callable[..., AsyncShardCache]:
    """Make clients of the server without a socket."""
    return client


@pytest.fixture(scope="module")
def shards() -> Iterator[LocalShards]:
    """Two real servers of this module."""
    with LocalShards(2) as servers:
        yield servers


@pytest.fixture
def play(virtual, server, client) -> Callable[..., None]:
    """Run a scene, a coroutine function, with a client whose connection has served already."""

    def run_scene(scene: Callable[[AsyncShardCache], Any], **settings: Any) -> None:
        async def main() -> None:
            server.answer = answer
            async with client(**{"timeout": 1.0, **settings}) as cache:
                assert await cache.get("first") == 1
                await scene(cache)

        virtual(main())

    return run_scene
