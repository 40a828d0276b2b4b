"""One run of the application for a page, and what becomes of its answer.

Theory
------
The run is a task of its own: it goes on when the client that began it has left, since others may
wait for its page. What the application sends is kept until it is decided what the answer is:

    PAGE        complete, small enough, and to be stored
    UNSTORABLE  not to be stored, streaming, or too large
    FAILED      an error of the server, an exception, or half an answer

The first message of an answer already says UNSTORABLE or FAILED if its headers do. After that the
application is held in its next `send`, until the request that began the run takes it over
(`forward`) and sends on, message by message, or nobody wants it (`leave`) and it is cancelled.

An answer is streaming if its first part says that more comes and no Content-Length says how much.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from enum import Enum

from shardcache.contrib.starlette.asgi import (
    App,
    Headers,
    Message,
    Receive,
    Scope,
    Send,
    header_values,
)

__all__ = ("AppRun", "Decision")

_logger = logging.getLogger("shardcache.starlette")
_running: set["asyncio.Task[None]"] = set()  # a loop keeps only weak references to its tasks


class Decision(Enum):
    """What an answer is."""

    PAGE = "page"
    UNSTORABLE = "unstorable"
    FAILED = "failed"


class AppRun:
    """One run.

    ``app``: the application.
    ``scope``: what it gets as the request.
    ``storable``: tells of a status and headers whether such an answer is to be stored.
    ``max_body``: bytes, the longest body that is stored.
    """

    def __init__(
        self, app: App, scope: Scope, storable: Callable[[int, Headers], bool], max_body: int
    ) -> None:
        self._storable = storable
        self._max_body = max_body
        self._messages: list[Message] = []
        self._length: int | None = None
        self.status = 0
        self.headers: Sequence[tuple[bytes, bytes]] = ()
        self.body = bytearray()
        self._asked = False
        self._left = False
        self._cancelled = False
        loop = asyncio.get_running_loop()
        self._taken: asyncio.Future[tuple[Receive, Send]] = loop.create_future()
        self._decision: asyncio.Future[Decision] = loop.create_future()
        self.task = loop.create_task(self._run(app, scope), name="shardcache page")
        _running.add(self.task)
        self.task.add_done_callback(self._ended)

    async def decision(self) -> Decision:
        """Wait until it is known what the answer is."""
        return await asyncio.shield(self._decision)

    @property
    def goes_on(self) -> bool:
        """Whether its answer can still be had."""
        return not self._cancelled

    async def forward(self, receive: Receive, send: Send) -> None:
        """Send the answer as the application makes it; raise what it raises."""
        for message in self._messages:
            await send(message)
        self._taken.set_result((receive, send))
        await self.finish()

    async def finish(self) -> None:
        """Wait for the end of the application, which may have tasks to do behind its answer."""
        try:
            await asyncio.shield(self.task)
        except asyncio.CancelledError:
            self.leave(cancel=True)
            raise

    def leave(self, *, cancel: bool = False) -> None:
        """The request that began this waits for nothing more.

        ``cancel``: whether nobody else does either.
        """
        self._left = True
        if cancel or (self._decision.done() and self._decision.result() is not Decision.PAGE):
            self._cancelled = True
            self.task.cancel()

    async def _run(self, app: App, scope: Scope) -> None:
        await app(scope, self._receive, self._send)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        _running.discard(task)
        self._decide(Decision.FAILED)
        error = None if task.cancelled() else task.exception()
        if error is not None and self._left:
            _logger.error("a page that was made in the background failed", exc_info=error)

    def _decide(self, decision: Decision) -> None:
        if not self._decision.done():
            self._decision.set_result(decision)
            if self._left:
                self.leave()

    async def _receive(self) -> Message:
        """Give the application a request without a body; later, what the client says."""
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        receive, _ = await asyncio.shield(self._taken)
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return message

    async def _send(self, message: Message) -> None:
        if self._taken.done():
            _, send = self._taken.result()
            await send(message)
            return
        self._messages.append(message)
        if not self._decision.done():
            self._read(message)
        if self._decision.done() and self._decision.result() is not Decision.PAGE:
            await asyncio.shield(self._taken)

    def _read(self, message: Message) -> None:
        """Take one message of the answer, and decide if it can be decided."""
        kind = message["type"]
        if kind == "http.response.start" and not self.status:
            self._read_start(message)
        elif kind == "http.response.body" and self.status:
            more = bool(message.get("more_body"))
            if more and self._length is None:
                self._decide(Decision.UNSTORABLE)
                return
            self.body += message.get("body", b"")
            if len(self.body) > self._max_body:
                self._decide(Decision.UNSTORABLE)
            elif not more:
                whole = self._length is None or self._length == len(self.body)
                self._decide(Decision.PAGE if whole else Decision.FAILED)
        else:
            self._decide(Decision.UNSTORABLE)

    def _read_start(self, message: Message) -> None:
        self.status = message["status"]
        self.headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
        lengths = header_values(self.headers, b"content-length")
        with contextlib.suppress(ValueError):
            self._length = int(lengths[0]) if lengths else None
        if self.status >= 500:
            self._decide(Decision.FAILED)
        else:
            too_long = self._length is not None and self._length > self._max_body
            if too_long or message.get("trailers") or not self._storable(self.status, self.headers):
                self._decide(Decision.UNSTORABLE)
