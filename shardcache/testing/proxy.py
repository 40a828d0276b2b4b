"""A proxy that breaks the byte stream between a client and a server, exactly where it is told to."""

import time
from collections import deque
from collections.abc import Callable
from typing import Self
from urllib.parse import quote, urlencode

from shardcache.errors import InvalidOption
from shardcache.testing.connection import Pipe
from shardcache.testing.faults import BlackHole, Fault, Refuse, strikes
from shardcache.testing.relay import ConnectionInfo, Relay, Traffic
from shardcache.urls import ParsedURL, parse_url

__all__ = ("FaultProxy",)

FOR_NEW = (Refuse, BlackHole)  # what is armed for the next new connection, not for the next bytes


class FaultProxy:
    """A TCP proxy on a port of 127.0.0.1 in front of ``upstream``, with faults on demand; a context manager.

    ``upstream`` is the URL of the server (``redis://…``, ``unix://…``; with ``rediss://`` the
    encrypted bytes pass as they are). `url` is the same with the proxy's address. Faults come from

    - ``plan``, asked once for each new connection: the fault that it has from its first byte on;
    - `set`: every connection, the open ones from their next byte, new ones from their first;
    - `arm`: only where the next bytes come. So a handshake passes, and the fault hits at the
      offset that is meant: ``proxy.arm(Cut(after=7)); cache.get("key")``.

    On one direction of a connection one fault is active at a time; when it has done its work,
    bytes pass unharmed again. One thread serves all connections. All methods may be called from any
    thread and have taken effect when they return; after `close` they do nothing.
    """

    def __init__(
        self,
        upstream: str,
        *,
        plan: Callable[[ConnectionInfo], Fault | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        parsed = parse_url(upstream)
        self._plan = plan
        self._always: Fault | None = None
        self._armed: deque[Fault] = deque()
        self._error: Exception | None = None
        self._relay = Relay(parsed.address, self, clock)
        self.port = self._relay.port
        self.url = _url(parsed, self.port)

    def set(self, fault: Fault | None) -> None:
        """Give every connection this fault, now and later; None: no more faults (what is held stays held)."""
        with self._relay.lock:
            self._always = fault
            for connection in self._relay.connections:
                connection.arm(fault)

    def arm(self, fault: Fault, *, times: int = 1) -> None:
        """Give this fault to the next ``times`` connections over which bytes come, counting from those bytes.

        Several armed faults are given away in order. `Refuse` and `BlackHole` wait for new connections.
        """
        if isinstance(times, bool) or not isinstance(times, int) or times < 1:
            raise InvalidOption(f"times must be a whole number from 1, got {times!r:.80}")
        with self._relay.lock:
            self._armed.extend([fault] * times)

    def resume(self) -> None:
        """Let go of all that `Stall` holds back and `Replay` keeps: late replies arrive now."""
        self._relay.call(self._relay.resume)

    def clear(self) -> None:
        """Back to normal: no faults set, armed or active, nothing held; the plan stays."""
        with self._relay.lock:
            self._armed.clear()
            self.set(None)
        self.resume()

    def kill(self, *, reset: bool = False) -> None:
        """Close every open connection, at once; with ``reset`` clients see a RST."""
        self._relay.call(lambda: self._relay.kill(reset=reset))

    def down(self) -> None:
        """Look like a dead server: connections are closed, new ones refused. The port stays ours (on Linux)."""
        self._relay.call(self._relay.down)

    def up(self) -> None:
        """Accept connections again after `down`, at the same port."""
        self._relay.call(self._relay.listen)

    def traffic(self) -> Traffic:
        """Return what went through so far."""
        return self._relay.traffic()

    def close(self) -> None:
        """Close everything and end the thread. Raise what the plan raised, if it did."""
        if not self._relay.closed:
            self._relay.call(self._relay.stop)
            self._relay.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FaultProxy on 127.0.0.1:{self.port}{' closed' if self._relay.closed else ''}>"

    def for_connection(self, info: ConnectionInfo) -> Fault | None:
        """Answer the relay: the fault that a new connection begins with."""
        if self._armed and isinstance(self._armed[0], FOR_NEW):
            return self._armed.popleft()
        try:
            planned = self._plan(info) if self._plan is not None else None
        except Exception as error:  # noqa: BLE001  raised again by close(): the relay's thread must live
            self._error = self._error or error
            planned = Refuse()
        return planned or self._always

    def for_bytes(self, pipe: Pipe) -> Fault | None:
        """Answer the relay: the armed fault that has waited for these bytes."""
        if (
            self._armed
            and not isinstance(self._armed[0], FOR_NEW)
            and strikes(self._armed[0], pipe.direction)
        ):
            return self._armed.popleft()
        return None


def _url(upstream: ParsedURL, port: int) -> str:
    """The upstream's URL with the proxy's address in it."""
    address = upstream.address
    login = ""
    if address.username is not None or address.password is not None:
        password = "" if address.password is None else f":{quote(address.password, safe='')}"
        login = f"{quote(address.username or '', safe='')}{password}@"
    query = f"?{urlencode(upstream.query)}" if upstream.query else ""
    return f"redis{'s' if address.tls else ''}://{login}127.0.0.1:{port}/{address.db}{query}"
