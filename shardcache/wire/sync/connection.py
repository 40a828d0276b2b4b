"""One connection: a connected socket, and the parser of what comes back. It stays in step.

One thread uses a connection at a time. The thread releases it only if as many replies came as
commands were sent, and nothing is left over; in any other case it closes it (G1). So a reply that
comes late, twice or in part cannot be taken for the reply to a later request.

The socket never blocks. poll() waits until the deadline of the call, to the millisecond, in however
many pieces a reply comes (G4).
"""

import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

import hiredis

from shardcache.errors import OutOfStep, ReplyTooLarge, ShardError
from shardcache.flows.own_pause import longer
from shardcache.flows.steps import ServerRun
from shardcache.resp import Command, Reply
from shardcache.wire.reply_parser import NOT_YET, SLACK, ReplyParser

__all__ = (
    "BROKEN_INPUT",
    "PACKED_GET",
    "PACKED_LOOK",
    "Closed",
    "Connection",
    "mark",
    "pack",
    "pack_all",
    "unmark",
    "unpack",
)

READ = 64 * 1024
MAX_VALUE = 64 * 1024 * 1024
READ_MOST = 1024 * 1024
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_Push: Any = hiredis.PushNotification
# What hiredis raises for broken input. What a signal handler raises meanwhile is another matter: it
# goes to the caller.
BROKEN_INPUT = (hiredis.HiredisError, ArithmeticError, MemoryError, TypeError, ValueError)

# Bytes only (see `Command`). The stub types the argument as a tuple of one.
pack: Callable[[Command], bytes] = hiredis.pack_command  # type: ignore[assignment]
# `pack((b"GET", key))` of ``len(key), key``, in a third of the time.
PACKED_GET = b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n"
# Of ``len(key), key`` twice: value and time left.
PACKED_LOOK = PACKED_GET + b"*2\r\n$4\r\nPTTL\r\n$%d\r\n%b\r\n"


def pack_all(commands: list[Command]) -> bytes:
    """Return the bytes of several commands, one behind the other."""
    return b"".join(map(pack, commands))


def unpack(payload: bytes) -> list[Command]:
    """Return the commands that were packed."""
    reader = hiredis.Reader()
    reader.feed(payload)
    commands: list[Command] = []
    while (command := reader.gets()) is not False:
        commands.append(tuple(command))
    return commands


_numbers = count(1)


def mark() -> tuple[bytes, bytes]:
    """Return an ECHO command to send behind the commands of an exchange, and its only answer."""
    answer = b"%016x" % next(_numbers)
    return b"*2\r\n$4\r\nECHO\r\n$16\r\n" + answer + b"\r\n", answer


def unmark(shard: str, replies: list[Reply], answer: bytes) -> None:
    """Remove the answer to a mark from the end of ``replies``; raise `OutOfStep` if it differs."""
    if replies.pop() != answer:
        raise OutOfStep(shard, "the replies belong to other requests")


class Closed(ConnectionError):
    """The server closed the connection."""


class Connection:
    """One connection to ``shard``, ready for use from the moment it exists."""

    __slots__ = (
        "__weakref__",
        "_gets",
        "_has_data",
        "_pending",
        "_poll",
        "_recv",
        "_size",
        "born",
        "clock",
        "fd",
        "generation",
        "got",
        "marked",
        "parser",
        "run_id",
        "shard",
        "sock",
    )

    def __init__(
        self,
        shard: str,
        sock: socket.socket,
        clock: Callable[[], float],
        generation: int = 0,
        max_value: int = MAX_VALUE,
    ) -> None:
        sock.setblocking(False)
        self.shard = shard
        self.sock = sock
        self.fd = sock.fileno()
        self.clock = clock
        self.generation = generation
        self.marked = False
        # The run of the server. It began at ``born`` or before.
        self.run_id: bytes | None = None
        self.born = 0.0
        self._size = READ
        self.got = 0  # bytes of what is being received
        self.parser = ReplyParser(shard, max_value)
        self._pending = sock.pending if isinstance(sock, ssl.SSLSocket) else None
        # Bound methods are kept as attributes: a call looks them up for every reply.
        self._gets = self.parser.gets
        self._has_data = self.parser.has_data
        self._recv = sock.recv
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        self._poll = poll.poll

    def set_server_run(self, run: ServerRun | None) -> None:
        """Note which run of the server answers on this connection."""
        if run is not None:
            self.run_id, self.born = run.id, self.clock() - run.age

    @property
    def run(self) -> ServerRun | None:
        """The run of the server, with its age now."""
        return None if self.run_id is None else ServerRun(self.run_id, self.clock() - self.born)

    def close(self) -> None:
        self.sock.close()

    def finish(self) -> None:
        """Send nothing more. The server carries out what it has got, and then closes."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def is_finished(self, until: float) -> bool:
        """Whether the server has closed by ``until``; what still comes is thrown away."""
        while self._poll(max(until - self.clock(), 0.0) * 1000):
            try:
                if not self.sock.recv(READ):
                    return True
            except _WOULD_BLOCK:
                continue
            except OSError:
                return True
        return False

    def stale(self) -> bool:
        """Whether the connection ended, or got bytes without a request, while it was idle."""
        if not self._poll(0):
            return False
        try:
            self._recv(READ)
        except _WOULD_BLOCK:  # TLS housekeeping, not data
            return False
        except OSError:
            return True
        return True

    def call(self, payload: bytes, deadline: float, values: int = 0) -> Reply:
        """Send one command and return its reply.

        This and `call_many` are the fast paths of one connection; several at once use `Transfer`.
        Raises OSError (`Closed`, TimeoutError among them) or `OutOfStep`; the connection is
        useless then.

        ``values``: how many stored values the reply can hold.
        """
        self.got = 0
        self.parser.answers = values
        rest = self.send_some(payload)
        # If one send took it all, no answer can have come yet.
        if rest is None:
            reply = NOT_YET
        else:
            self._send_rest(rest, deadline)
            reply = self.next()
        while reply is NOT_YET:
            wait = (deadline - self.clock()) * 1000
            if wait <= 0 or not self._poll(wait):
                replies: list[Reply] = []
                self._look_again(replies, 1, deadline)
                return replies[0]
            self.feed()
            reply = self.next()
        # Nothing may be left over.
        if self._has_data() or self.parser.held:
            self.settled()
        return reply

    def call_many(
        self, payload: bytes, number: int, deadline: float, values: int = 0
    ) -> list[Reply]:
        """Send several commands and return their replies, as `call` does."""
        self.got = 0
        self.parser.answers = values
        replies: list[Reply] = []
        rest = self.send_some(payload)
        if rest is not None:
            self._send_rest(rest, deadline)
        # Of a payload that one send took no answer can have come yet.
        unanswered = rest is None
        while unanswered or not self.drain(replies, number):
            unanswered = False
            wait = (deadline - self.clock()) * 1000
            if wait <= 0 or not self._poll(wait):
                self._look_again(replies, number, deadline)
                break
            self.feed()
        return replies

    def _look_again(self, replies: list[Reply], number: int, deadline: float) -> None:
        """Read what has come in although the time is over; raise TimeoutError if it is not all."""
        now = self.clock()
        wait = longer(now, deadline)
        end = now + wait
        while self._poll(wait * 1000):
            self.feed()
            if self.drain(replies, number):
                return
            wait = end - self.clock()
            if wait <= 0:
                break
        raise TimeoutError("no reply before the deadline")

    def send_some(self, data: bytes | memoryview) -> memoryview | None:
        """Send what the kernel takes without waiting; return what is left, None if nothing is."""
        try:
            sent = self.sock.send(data)
        except _WOULD_BLOCK:
            sent = 0
        return None if sent == len(data) else memoryview(data)[sent:]

    def feed(self) -> None:
        """Hand a piece of what has come in to the parser.

        It never waits, and returns soon, so that the caller can look at the clock.
        Raises `ReplyTooLarge` if more has come since ``got`` was 0 than the answer can hold.
        """
        try:
            data = self._recv(self._size)
            if self._pending is not None:
                while more := self._pending():  # decrypted already, so poll() does not report it
                    data += self._recv(more)
        except _WOULD_BLOCK:
            return
        if not data:
            raise Closed("the server closed the connection")
        size = len(data)
        if size >= self._size:
            self._size = min(self._size * 2, READ_MOST)
        self.got = got = self.got + size
        if got > SLACK and got > self.parser.most():
            raise ReplyTooLarge(
                self.shard, f"{got} bytes have come, more than can be in the answer"
            )
        self.parser.feed(data)

    def next(self) -> Reply:
        """Return the next whole reply, or `NOT_YET`."""
        try:
            reply = self._gets()
        except BROKEN_INPUT as error:
            raise self._broken(error) from error
        # A push message (RESP3) is no answer to anything, and the parser may hold more.
        while reply.__class__ is _Push or (reply is NOT_YET and self.parser.held):
            reply = self.message()
            if reply is NOT_YET:
                break
        return reply

    def message(self) -> Reply:
        """Return the next whole reply or push message, or `NOT_YET`."""
        parser = self.parser
        try:
            reply = self._gets()
            while reply is NOT_YET and parser.held and parser.more():
                reply = self._gets()
        except ShardError:
            raise
        except BROKEN_INPUT as error:
            raise self._broken(error) from error
        return reply

    def _broken(self, error: Exception) -> OutOfStep:
        """Return the error for broken input, for which hiredis raises TypeError and others too."""
        return OutOfStep(self.shard, f"the reply breaks the protocol: {error}")

    def drain(self, into: list[Reply], count: int) -> bool:
        """Move whole replies into ``into`` until it holds ``count``; return whether it does."""
        # This is `next` written out, because the loop runs once for every reply.
        gets, append = self._gets, into.append
        left = count - len(into)
        try:
            while left > 0:
                reply = gets()
                if reply is NOT_YET:
                    reply = self.message()
                    if reply is NOT_YET:
                        return False
                if reply.__class__ is not _Push:
                    append(reply)
                    left -= 1
        except ShardError:
            raise
        except BROKEN_INPUT as error:
            raise self._broken(error) from error
        if self._has_data() or self.parser.held:
            self.settled()
        return True

    def last_words(self) -> list[Reply]:
        """Return a reply that came before the connection ended, if there is one."""
        replies: list[Reply] = []
        with suppress(OSError, ShardError):
            self.feed()
            self.drain(replies, 1)
        return replies

    def settled(self) -> None:
        """Raise `OutOfStep` if more came than was asked for: then no reply can be trusted.

        Push messages do not count.
        """
        # `has_data` is asked first: a parser that has begun with a piece no longer reports it.
        while self._has_data() or self.parser.held:
            try:
                more = self.message()
            except OutOfStep as error:
                raise OutOfStep(
                    self.shard, f"more came back than was asked for, and {error.reason}"
                ) from error
            if more.__class__ is not _Push:
                raise OutOfStep(self.shard, "more came back than was asked for")

    def _send_rest(self, data: memoryview, deadline: float) -> None:
        poll = select.poll()
        poll.register(self.sock, select.POLLOUT | select.POLLIN)
        rest: memoryview | None = data
        while rest is not None:
            wait = (deadline - self.clock()) * 1000
            if wait <= 0 or not (ready := poll.poll(wait)):
                raise TimeoutError("the request could not be sent before the deadline")
            if ready[0][1] & select.POLLIN:
                self.feed()
            rest = self.send_some(rest)
