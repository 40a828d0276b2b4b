"""The floor of asyncio: one connection that all tasks share, and nothing else."""

import asyncio
from collections import deque
from typing import Any
from urllib.parse import urlsplit

import hiredis

__all__ = ("BarePipe",)


class BarePipe(asyncio.Protocol):
    """The floor: one write for all commands of a turn, hiredis reads, futures resolve in order.

    It has no deadline and knows no health of a shard.
    """

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.reader = hiredis.Reader()
        self.waiting: deque[asyncio.Future[object]] = deque()
        self.out: list[bytes] = []

    @classmethod
    async def to(cls, url: str) -> "BarePipe":
        where = urlsplit(url)
        return (
            await asyncio.get_running_loop().create_connection(cls, where.hostname, where.port)
        )[1]

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self, *command: Any) -> "asyncio.Future[object]":
        return self.send_packed(hiredis.pack_command(command))

    def send_packed(self, payload: bytes) -> "asyncio.Future[object]":
        future = self.loop.create_future()
        self.waiting.append(future)
        if not self.out:
            self.loop.call_soon(self.flush)
        self.out.append(payload)
        return future

    def get(self, key: bytes) -> "asyncio.Future[object]":
        return self.send(b"GET", key)

    def flush(self) -> None:
        self.transport.write(b"".join(self.out))
        self.out.clear()

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        while (reply := self.reader.gets()) is not False:
            self.waiting.popleft().set_result(reply)
