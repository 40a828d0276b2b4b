"""One connection through the proxy: two sockets, and a pipe for each direction.

Only the proxy's thread moves it on.
"""

import math
import selectors
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

from shardcache.testing.faults import Direction, Fault, strikes
from shardcache.testing.stream import Close, EndOfStream, Hold, Later, Pause, Step, Stream, Until

__all__ = ("Connection", "Pipe", "close_socket")

CHUNK = 65536  # bytes read at once
FULL = 1 << 22  # bytes that may wait in a pipe before its source is no longer read
_AT_ONCE = struct.pack("ii", 1, 0)  # struct linger: on, 0 s: close() sends a RST


def close_socket(sock: socket.socket, *, reset: bool = False) -> None:
    """Close a socket at once, even if a forked child still has a copy of it.

    ``sock``: the socket.
    ``reset``: whether the other side sees a RST; else it sees a FIN.
    """
    with suppress(OSError):
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        else:
            while sock.recv(CHUNK):  # unread bytes would turn the FIN into a RST
                pass
    if not reset:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
    sock.close()


class Pipe:
    """One direction: the bytes that were read wait here, as steps, until they may be sent.

    ``direction``: "request" or "reply".
    ``sink``: the socket to send to.
    ``clock``: returns seconds.
    ``on_strike``: called once for each fault that takes effect.
    """

    __slots__ = (
        "_aside",
        "_clock",
        "_sink",
        "_steps",
        "blocked",
        "direction",
        "size",
        "stream",
        "wake",
    )

    def __init__(
        self,
        direction: Direction,
        sink: socket.socket,
        clock: Callable[[], float],
        on_strike: Callable[[], None],
    ) -> None:
        self.direction: Direction = direction
        self.stream = Stream(on_strike)
        self.blocked = False  # the sink takes no more just now
        self.size = 0  # bytes waiting
        self.wake = math.inf  # when `pump` has something to do again, if no socket wakes it before
        self._sink = sink
        self._clock = clock
        self._steps: deque[Step] = deque()
        self._aside: list[tuple[float, bytes]] = []

    def feed(self, data: bytes) -> None:
        """Take bytes from the source, through the fault."""
        for step in self.stream.feed(data, self._clock()):
            self.put(step)

    def put(self, step: Step) -> None:
        """Add a step behind all others."""
        if isinstance(step, bytes):
            self.size += len(step)
        self._steps.append(step)

    def resume(self) -> None:
        """Lift every hold, and send what was set aside without a time."""
        self._steps = deque(step for step in self._steps if not isinstance(step, Hold))
        self._aside = [
            (-math.inf if when == math.inf else when, data) for when, data in self._aside
        ]

    def pump(self) -> Close | None:
        """Carry out the steps until one has to wait; return the `Close` if one was reached."""
        # First, bytes that were set aside for a time that has come go behind the other steps.
        self._take_due()
        steps = self._steps
        while steps and not self.blocked:
            # `continue` looks at the first step again, `break` waits; otherwise the step is done.
            match steps[0]:
                case bytes() as data:
                    if not self._send(data):
                        if self.direction == "reply":
                            return Close()
                        # The server has gone; the end of its replies tells the client.
                        steps.clear()
                        self.size = 0
                    continue
                case Pause(seconds):
                    steps[0] = Until(self._clock() + seconds)
                    continue
                case Until(time):
                    if self._clock() < time:
                        self.wake = min(self.wake, time)
                        break
                case Hold():
                    break
                case Later(data, seconds):
                    when = math.inf if seconds is None else self._clock() + seconds
                    self._aside.append((when, data))
                    self.wake = min(self.wake, when)
                case EndOfStream():
                    with suppress(OSError):
                        self._sink.shutdown(socket.SHUT_WR)
                case Close() as close:
                    return close
            steps.popleft()
        return None

    def _take_due(self) -> None:
        self.wake = math.inf
        if self._aside:
            now = self._clock()
            for when, data in self._aside:
                if when <= now:
                    self.put(data)
            self._aside = [(when, data) for when, data in self._aside if when > now]
            self.wake = min((when for when, _ in self._aside), default=math.inf)

    def _send(self, data: bytes) -> bool:
        """Send as much of the first step as the sink takes; return False if the sink is gone."""
        try:
            sent = self._sink.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            return False
        self.size -= sent
        if sent == len(data):
            self._steps.popleft()
        else:
            self._steps[0] = data[sent:]
            self.blocked = True
        return True


class Connection:
    """A client, and its connection to the server.

    ``client``: the socket to the client.
    ``upstream``: the socket to the server; None for a black hole.
    ``selector``: the proxy's selector, where both sockets are registered.
    ``clock``: returns seconds.
    ``on_strike``: called once for each fault that takes effect.
    """

    def __init__(
        self,
        client: socket.socket,
        upstream: socket.socket | None,
        selector: selectors.BaseSelector,
        clock: Callable[[], float],
        on_strike: Callable[[], None],
    ) -> None:
        self.client = client
        self.upstream = upstream
        self.request = Pipe("request", upstream or client, clock, on_strike)
        self.reply = Pipe("reply", client, clock, on_strike)
        self.open = True
        self._selector = selector
        self._ended: set[socket.socket] = set()  # the sockets that will send no more
        self._interest: dict[socket.socket, int] = {}
        if upstream is not None:
            self.request.blocked = True  # until it is connected
        self.watch()

    @property
    def pipes(self) -> tuple[Pipe, Pipe]:
        """Requests and replies."""
        return self.request, self.reply

    @property
    def wake(self) -> float:
        """When `move` has something to do, if no socket wakes it before."""
        return min(self.request.wake, self.reply.wake)

    def arm(self, fault: Fault | None) -> None:
        """Put the fault on its direction, and none on the other one."""
        for pipe in self.pipes:
            pipe.stream.arm(fault if fault is not None and strikes(fault, pipe.direction) else None)

    def read(self, sock: socket.socket) -> bytes:
        """Return the next bytes from ``sock``, or none.

        The end of its stream is passed on as a step, behind the bytes that still wait.
        """
        try:
            data = sock.recv(CHUNK)
        except BlockingIOError:
            return b""
        except OSError:
            self._ended.add(sock)
            if sock is self.client:
                self.close()
            else:
                self.reply.put(Close(reset=True))
            return b""
        if not data:
            self._ended.add(sock)
            if self.upstream is None:
                self.close()
            elif sock is self.client:
                self.request.put(EndOfStream())
            else:
                self.reply.put(Close())
        return data

    def move(self) -> None:
        """Send what may be sent, and watch for what this connection waits for next."""
        for pipe in self.pipes:
            if self.open and (close := pipe.pump()) is not None:
                self.close(reset=close.reset)
        if self.open:
            self.watch()

    def watch(self) -> None:
        """Tell the selector what this connection waits for."""
        for sock, source, sink in self._sides():
            wanted = 0
            if sock not in self._ended and source.size < FULL:
                wanted |= selectors.EVENT_READ
            if sink.blocked:
                wanted |= selectors.EVENT_WRITE
            had = self._interest.get(sock, 0)
            if wanted == had:
                continue
            self._interest[sock] = wanted
            if not had:
                self._selector.register(sock, wanted, self)
            elif wanted:
                self._selector.modify(sock, wanted, self)
            else:
                self._selector.unregister(sock)

    def close(self, *, reset: bool = False) -> None:
        """Close both sides; ``reset`` is what the client sees."""
        if self.open:
            self.open = False
            for sock, *_ in self._sides():
                if self._interest.get(sock):
                    self._selector.unregister(sock)
                close_socket(sock, reset=reset and sock is self.client)

    def _sides(self) -> Iterator[tuple[socket.socket, Pipe, Pipe]]:
        """Each socket with the pipe that it feeds and the pipe that feeds it."""
        yield self.client, self.request, self.reply
        if self.upstream is not None:
            yield self.upstream, self.reply, self.request
