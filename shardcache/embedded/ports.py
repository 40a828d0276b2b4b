"""Ports of 127.0.0.1 that stay ours while nobody listens on them."""

import socket
import sys

__all__ = ("reserve_port",)


def reserve_port() -> tuple[int, socket.socket]:
    """Return a free port, and the socket that keeps it until it is closed.

    On Linux a bound socket that does not listen keeps the port: a server may bind it beside us (with
    SO_REUSEADDR, as all do), and no other process gets it from the system, not even for an outgoing
    connection (which could connect to itself while the server is down). Elsewhere this socket is
    closed already, and the port is only free just now.
    """
    holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port: int = holder.getsockname()[1]
    if sys.platform != "linux":
        holder.close()
    return port, holder
