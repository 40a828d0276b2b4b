"""The servers of a scenario: started on loopback when a peer first needs them."""

import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

from shardcache.bench.scenarios.case import Case
from shardcache.embedded import LocalCluster, LocalServer, LocalShards, find_server
from shardcache.embedded.ports import reserve_port
from shardcache.errors import ServerNotStarted, ShardCacheError

__all__ = ("Addresses", "Servers", "Unavailable")

START = 5.0  # seconds that memcached may take
# The server ends with this process, however that ends: then the input of the shell does.
GUARD = 'trap "" HUP INT TERM; "$@" & read -r _; kill -KILL "$!"; wait'
CERTIFICATE = (
    *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
    *("-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=localhost"),
    *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
)


class Unavailable(ShardCacheError):
    """A server that cannot be had here; the text says why."""


@dataclass(frozen=True)
class Addresses:
    """Where servers are.

    ``urls``: by name, of shards.
    ``ports``: of 127.0.0.1: those of a cluster's nodes or of memcached.
    ``ca_file``: the authority of their certificates, with TLS.
    ``servers``: what can be killed and paused.
    """

    urls: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = ()
    ca_file: str | None = None
    servers: tuple[LocalServer, ...] = ()


class Servers:
    """Starts what is asked for, as a context manager; at its end all servers end.

    What cannot be started raises `Unavailable`, each time that it is asked for.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._found: dict[tuple[str, int, str], Addresses | Unavailable] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        *_: object,
    ) -> None:
        self._stack.close()

    def find(self, kind: str, case: Case) -> Addresses:
        """Return the addresses of ``case.shards`` servers of a kind, the same ones each time.

        ``kind``: "shards", "cluster" or "memcached".
        ``case``: how many, and by which transport.
        """
        place = kind, case.shards, case.transport
        if place not in self._found:
            try:
                self._found[place] = self._start(*place)
            except (ServerNotStarted, Unavailable, OSError) as error:
                self._found[place] = Unavailable(str(error))
        found = self._found[place]
        if isinstance(found, Unavailable):
            raise found
        return found

    def _start(self, kind: str, count: int, transport: str) -> Addresses:
        if kind == "memcached":
            return Addresses(ports=tuple(self._memcached() for _ in range(count)))
        if kind == "cluster":
            cluster = self._stack.enter_context(LocalCluster(count))
            ports = tuple(server.port for server in cluster.servers)
            return Addresses(ports=ports, servers=cluster.servers)
        if transport == "tls":
            return self._tls(count)
        shards = self._stack.enter_context(LocalShards(count, tcp=transport == "tcp"))
        return Addresses(urls=shards.urls, servers=shards.servers)

    def _memcached(self) -> int:
        program = shutil.which("memcached")
        if program is None:
            raise Unavailable("memcached is not installed: apt install memcached")
        port = self._port()
        where = ("-l", "127.0.0.1", "-p", str(port), "-m", "1024", "-U", "0", "-u", "nobody")
        process = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "sh", program, *where],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._stack.callback(process.communicate)  # closes its input
        deadline = time.monotonic() + START
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=START).close()
            except OSError:
                time.sleep(0.01)
            else:
                return port
        raise Unavailable(f"memcached did not listen within {START:g} s")

    def _tls(self, count: int) -> Addresses:
        if (openssl := shutil.which("openssl")) is None:
            raise Unavailable("TLS needs the program openssl, which is not installed")
        folder = Path(self._stack.enter_context(TemporaryDirectory()))
        subprocess.run([openssl, *CERTIFICATE], cwd=folder, check=True, capture_output=True)
        cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
        options = {"tls-cert-file": cert, "tls-key-file": key, "tls-ca-cert-file": cert}
        ports = [self._port() for _ in range(count)]
        for number, port in enumerate(ports):
            self._tls_server({**options, "tls-auth-clients": "no", "tls-port": str(port)}, number)
        urls = {f"shard-{port}": f"rediss://127.0.0.1:{port}/0" for port in ports}
        return Addresses(urls=urls, ca_file=cert)

    def _tls_server(self, options: Mapping[str, str], number: int) -> None:
        # Not each build of a server has TLS.
        programs = (find_server(), *map(shutil.which, ("valkey-server", "redis-server")))
        for program in filter(None, programs):
            try:
                self._stack.enter_context(LocalShards(1, tcp=True, options=options, binary=program))
            except ServerNotStarted:
                continue
            return
        raise Unavailable(f"no server program with TLS is installed (server {number + 1})")

    def _port(self) -> int:
        # The socket keeps the port from others, and not from the server.
        port, holder = reserve_port()
        self._stack.callback(holder.close)
        return port
