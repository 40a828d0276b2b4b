"""The engine of a fault proxy: one thread with all its sockets, which puts faults on streams."""

import errno
import math
import os
import selectors
import socket
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from shardcache.embedded.ports import reserve_port
from shardcache.errors import InvalidURL
from shardcache.system.threads import Worker
from shardcache.testing.connection import Connection, Pipe, close_socket
from shardcache.testing.faults import BlackHole, Fault, Refuse
from shardcache.urls import Address

__all__ = ("ConnectionInfo", "Relay", "Supply", "Traffic")

BACKLOG = 1024
_relays: "weakref.WeakSet[Relay]" = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class ConnectionInfo:
    """A new connection.

    ``index``: how many connections came before it.
    ``client``: the client's host and port.
    """

    index: int
    client: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went through a proxy so far.

    ``connections``: connections that were accepted.
    ``open``: connections that are open.
    ``request_bytes``: bytes received from clients, before any fault.
    ``reply_bytes``: bytes received from the server, before any fault.
    ``faults``: faults that took effect.
    """

    connections: int = 0
    open: int = 0
    request_bytes: int = 0
    reply_bytes: int = 0
    faults: int = 0


class Supply(Protocol):
    """The source of faults. The relay asks it with its lock held."""

    def for_connection(self, info: ConnectionInfo) -> Fault | None:
        """Return the fault that a new connection begins with."""

    def for_bytes(self, pipe: Pipe) -> Fault | None:
        """Return the fault for a pipe that has none and is about to pass bytes."""


class Relay:
    """Connects clients of a port on 127.0.0.1 to a server, and puts each stream through its fault.

    ``address``: the server.
    ``supply``: the source of faults.
    ``clock``: returns seconds.

    All sockets belong to one thread; `call` runs a function there. The thread holds ``lock`` while
    it moves bytes.
    """

    def __init__(self, address: Address, supply: Supply, clock: Callable[[], float]) -> None:
        self._family, self._target = _resolve(address)
        self.port, self._holder = reserve_port()
        self.lock = threading.RLock()
        self.connections: set[Connection] = set()
        self.closed = False
        self._supply = supply
        self._clock = clock
        self._sleeping: set[Connection] = set()
        self._accepted = self._requested = self._replied = self._faults = 0
        self._calls: deque[tuple[Callable[[], None], Future[None]]] = deque()
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._listener: socket.socket | None = None
        self.listen()
        self._thread = Worker(f"fault proxy {self.port}", self._loop)
        self._thread.begin(None, "proxy", undo=self.stop)
        _relays.add(self)

    def traffic(self) -> Traffic:
        """Return what went through so far."""
        with self.lock:
            return Traffic(
                self._accepted, len(self.connections), self._requested, self._replied, self._faults
            )

    def join(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def call(self, action: Callable[[], None]) -> None:
        """Run ``action`` in the thread that owns the sockets, and wait until it is done."""
        if threading.current_thread() is self._thread:
            action()
            return
        done: Future[None] = Future()
        with self.lock:
            if self.closed:
                return
            self._calls.append((action, done))
            self._wake_write.send(b"\0")
        done.result()

    def resume(self) -> None:
        """Lift all holds."""
        for connection in list(self.connections):
            for pipe in connection.pipes:
                pipe.resume()
            self._move(connection)

    def kill(self, *, reset: bool = False) -> None:
        """Close every open connection."""
        for connection in self.connections:
            connection.close(reset=reset)
        self.connections.clear()
        self._sleeping.clear()

    def listen(self) -> None:
        """Begin to accept connections, if that has not begun."""
        if self._listener is None:
            self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(("127.0.0.1", self.port))
            self._listener.listen(BACKLOG)
            self._listener.setblocking(False)
            self._selector.register(self._listener, selectors.EVENT_READ)

    def down(self) -> None:
        """Accept no more connections, and close the open ones."""
        if self._listener is not None:
            self._selector.unregister(self._listener)
            close_socket(self._listener)
            self._listener = None
        self.kill()

    def stop(self) -> None:
        """Close everything; the thread ends."""
        self.down()
        self._selector.close()
        for sock in (self._holder, self._wake_read, self._wake_write):
            sock.close()
        self.closed = True

    def leave(self) -> None:
        """In a forked child: close the child's copies of all sockets.

        Otherwise a connection that the parent cuts would stay open. The sockets stay registered
        with the selector, because its table in the kernel is shared with the parent.
        """
        self.closed = True
        sockets = [self._holder, self._wake_read, self._wake_write]
        sockets += [
            sock
            for connection in self.connections
            for sock in (connection.client, connection.upstream)
            if sock
        ]
        if self._listener is not None:
            sockets.append(self._listener)
        for sock in sockets:
            sock.close()
        self.connections.clear()
        self._selector.close()

    def _loop(self) -> None:
        while not self.closed:
            ready = self._selector.select(self._until_next())
            with self.lock:
                for key, events in ready:
                    if isinstance(key.data, Connection):
                        self._serve(key.data, key.fileobj, events)  # type: ignore[arg-type]
                    elif key.fileobj is self._listener:
                        self._accept(self._listener)
                    elif key.fileobj is self._wake_read:
                        self._wake_read.recv(4096)
                now = self._clock()
                for connection in [sleeper for sleeper in self._sleeping if sleeper.wake <= now]:
                    self._move(connection)
                while self._calls:
                    action, done = self._calls.popleft()
                    try:
                        done.set_result(None if self.closed else action())
                    except Exception as error:  # noqa: BLE001  the thread that called raises it
                        done.set_exception(error)

    def _until_next(self) -> float | None:
        wake = min((connection.wake for connection in self._sleeping), default=math.inf)
        return None if wake == math.inf else max(0.0, wake - self._clock())

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, address = listener.accept()
        except OSError:  # the client has gone again
            return
        fault = self._supply.for_connection(ConnectionInfo(self._accepted, address))
        self._accepted += 1
        upstream = None
        if isinstance(fault, Refuse | BlackHole):
            self._strike()
        else:
            upstream = self._connect()
        if upstream is None and not isinstance(fault, BlackHole):
            close_socket(client, reset=True)
            return
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(client, upstream, self._selector, self._clock, self._strike)
        connection.arm(fault)
        self.connections.add(connection)

    def _connect(self) -> socket.socket | None:
        upstream = socket.socket(self._family, socket.SOCK_STREAM)
        upstream.setblocking(False)
        if upstream.connect_ex(self._target) not in (0, errno.EINPROGRESS):
            upstream.close()
            return None
        if self._family != socket.AF_UNIX:
            upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return upstream

    def _serve(self, connection: Connection, sock: socket.socket, events: int) -> None:
        from_client = sock is connection.client
        if not connection.open:
            return
        if events & selectors.EVENT_WRITE:
            (connection.reply if from_client else connection.request).blocked = False
        if events & selectors.EVENT_READ and (data := connection.read(sock)):
            pipe = connection.request if from_client else connection.reply
            if from_client:
                self._requested += len(data)
            else:
                self._replied += len(data)
            if connection.upstream is not None:
                if pipe.stream.fault is None:
                    pipe.stream.arm(self._supply.for_bytes(pipe))
                pipe.feed(data)
        self._move(connection)

    def _move(self, connection: Connection) -> None:
        connection.move()
        self._sleeping.discard(connection)
        if not connection.open:
            self.connections.discard(connection)
        elif connection.wake != math.inf:
            self._sleeping.add(connection)

    def _strike(self) -> None:
        self._faults += 1


def _resolve(address: Address) -> tuple[int, str | tuple[str, int]]:
    if address.path:
        return socket.AF_UNIX, address.path
    try:
        family, *_, target = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM
        )[0]
    except OSError as error:
        raise InvalidURL(f"the upstream host {address.host!r} has no address: {error}") from error
    return family, target  # type: ignore[return-value]


_forking = threading.Lock()
_forked: list[Relay] = []


def _before_fork() -> None:
    """Wait until no relay is in the middle of a change, so that the child knows every socket."""
    _forking.acquire()
    _forked[:] = _relays
    for relay in _forked:
        relay.lock.acquire()


def _after_fork() -> None:
    for relay in _forked:
        relay.lock.release()
    _forked.clear()
    _forking.release()


def _after_fork_in_child() -> None:
    for relay in _forked:
        relay.leave()
    _after_fork()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
)
