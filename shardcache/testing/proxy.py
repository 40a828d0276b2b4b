"""A proxy that breaks the byte stream between a client and a server at a given place."""

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

# Faults that `arm` keeps for a new connection, not for the next bytes.
FOR_NEW = (Refuse, BlackHole)


class FaultProxy:
    """A TCP proxy on a port of 127.0.0.1 in front of a server, with faults on demand.

    ``upstream``: the URL of the server (``redis://…`` or ``unix://…``; with ``rediss://`` the
        encrypted bytes pass as they are).
    ``plan``: called once for each new connection with its `ConnectionInfo`; returns the fault that
        the connection has from its first byte on, or None.
    ``clock``: returns seconds; by default the monotonic clock.

    It is a context manager. `port` is its port; `url` is the URL of the server with the proxy's
    address in it, for the client. Besides ``plan``, faults come from

    - `set`: for every connection, open ones from their next byte, new ones from their first;
    - `arm`: only for the connection over which the next bytes come. So a handshake passes, and the
      fault takes effect at the right offset: ``proxy.arm(Cut(after=7)); cache.get("key")``.

    On one direction of a connection one fault is active at a time. When it has done its work, bytes
    pass unharmed again. One thread serves all connections. All methods may be called from any
    thread, and have taken effect when they return; after `close` they do nothing.

    Raises `InvalidURL` for an ``upstream`` without an address.
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
        """Give every connection, open or new, a fault.

        ``fault``: the fault; None for no more faults. Bytes that are held back stay held back.
        """
        with self._relay.lock:
            self._always = fault
            for connection in self._relay.connections:
                connection.arm(fault)

    def arm(self, fault: Fault, *, times: int = 1) -> None:
        """Give a fault to the connections over which the next bytes come, from those bytes on.

        ``fault``: the fault. `Refuse` and `BlackHole` wait for new connections.
        ``times``: to how many connections, from 1.

        Several armed faults are given away in order. Raises `InvalidOption` for ``times`` below 1.
        """
        if isinstance(times, bool) or not isinstance(times, int) or times < 1:
            raise InvalidOption(f"times must be a whole number from 1, got {times!r:.80}")
        with self._relay.lock:
            self._armed.extend([fault] * times)

    def resume(self) -> None:
        """Send all bytes that `Stall` and `Replay` hold back: overdue replies arrive now."""
        self._relay.call(self._relay.resume)

    def clear(self) -> None:
        """Remove all faults that are set, armed or active, and resume; the plan stays."""
        with self._relay.lock:
            self._armed.clear()
            self.set(None)
        self.resume()

    def kill(self, *, reset: bool = False) -> None:
        """Close every open connection at once.

        ``reset``: whether clients see a RST; else they see a FIN.
        """
        self._relay.call(lambda: self._relay.kill(reset=reset))

    def down(self) -> None:
        """Look like a dead server: close all connections, and refuse new ones.

        On Linux no other program can take the port meanwhile.
        """
        self._relay.call(self._relay.down)

    def up(self) -> None:
        """Accept connections again after `down`, at the same port."""
        self._relay.call(self._relay.listen)

    def traffic(self) -> Traffic:
        """Return the counters of what went through so far."""
        return self._relay.traffic()

    def close(self) -> None:
        """Close everything, and end the thread. If the plan raised an exception, raise it here."""
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
        """Return to the relay the fault that a new connection begins with.

        ``info``: the connection.
        """
        if self._armed and isinstance(self._armed[0], FOR_NEW):
            return self._armed.popleft()
        try:
            planned = self._plan(info) if self._plan is not None else None
        # The relay's thread must live; `close` raises the error.
        except Exception as error:  # noqa: BLE001
            self._error = self._error or error
            planned = Refuse()
        return planned or self._always

    def for_bytes(self, pipe: Pipe) -> Fault | None:
        """Return to the relay the armed fault that has waited for these bytes.

        ``pipe``: the direction of a connection that is about to pass bytes.
        """
        if (
            self._armed
            and not isinstance(self._armed[0], FOR_NEW)
            and strikes(self._armed[0], pipe.direction)
        ):
            return self._armed.popleft()
        return None


def _url(upstream: ParsedURL, port: int) -> str:
    """Return the upstream's URL with the proxy's address in it."""
    address = upstream.address
    login = ""
    if address.username is not None or address.password is not None:
        password = "" if address.password is None else f":{quote(address.password, safe='')}"
        login = f"{quote(address.username or '', safe='')}{password}@"
    query = f"?{urlencode(upstream.query)}" if upstream.query else ""
    return f"redis{'s' if address.tls else ''}://{login}127.0.0.1:{port}/{address.db}{query}"
