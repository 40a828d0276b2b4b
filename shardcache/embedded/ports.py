"""Ports of 127.0.0.1 that no other program gets while nobody listens on them."""

import socket
import sys

__all__ = ("MAX_CLUSTER_PORT", "reserve_cluster_port", "reserve_port")

BUS = 10000  # a server's cluster bus has the server's port, plus this
MAX_CLUSTER_PORT = 65535 - BUS
TRIES = 1000


def reserve_port() -> tuple[int, socket.socket]:
    """Return a free port, and the socket that keeps it until it is closed.

    On Linux a bound socket that does not listen keeps the port. A server can still bind it too,
    with SO_REUSEADDR as all servers do. No other process gets the port from the system, not even
    for an outgoing connection, which could connect to itself while the server is down. On other
    systems this socket is closed already, and the port is only free at this moment.
    """
    return _bound(0)


def reserve_cluster_port() -> tuple[int, tuple[socket.socket, socket.socket]]:
    """Return a free port whose cluster bus has a free port too, and what keeps both.

    Raises OSError if the system gives no such port.
    """
    refused: list[socket.socket] = []
    try:
        for _ in range(TRIES):
            port, holder = reserve_port()
            if port <= MAX_CLUSTER_PORT:
                try:
                    return port, (holder, _bound(port + BUS)[1])
                except OSError:  # the port of the bus is somebody else's
                    pass
            # It is kept until the search ends, so that the system does not give it once more.
            refused.append(holder)
    finally:
        for holder in refused:
            holder.close()
    raise OSError(f"no port below {MAX_CLUSTER_PORT + 1} is free together with its port + {BUS}")


def _bound(wanted: int) -> tuple[int, socket.socket]:
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Bound without SO_REUSEADDR, it cannot share a port that another holder keeps.
        holder.bind(("127.0.0.1", wanted))
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except OSError:
        holder.close()
        raise
    port: int = holder.getsockname()[1]
    if sys.platform != "linux":
        holder.close()
    return port, holder
