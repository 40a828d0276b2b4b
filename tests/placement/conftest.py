"""A twemproxy in front of Redis servers, to be compared with."""

import shutil
import socket
import subprocess
import time
from contextlib import ExitStack, closing

import hiredis
import pytest

from shardcache.embedded.ports import reserve_port

BACKENDS = 5
# nutcracker lies in /usr/sbin, which is not on the path of every user.
FOUND = {
    name: shutil.which(name) or shutil.which(name, path="/usr/sbin")
    for name in ("nutcracker", "redis-server")
}
MISSING = [name for name, path in FOUND.items() if path is None]


class Talk:
    """A bare connection: twemproxy knows none of the commands that clients greet with."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.reader = hiredis.Reader()

    def ask(self, *commands):
        """Send the commands in one go and return their replies."""
        self.socket.sendall(b"".join(map(hiredis.pack_command, commands)))
        return [self._reply() for _ in commands]

    def _reply(self):
        while (reply := self.reader.gets()) is False:
            data = self.socket.recv(65536)
            assert data, "the server hung up"
            self.reader.feed(data)
        return reply

    def close(self):
        self.socket.close()


class Proxy:
    """Runs nutcracker with one pool after another, and tells on which server each key landed."""

    def __init__(self, folder, ports):
        self.folder = folder
        self.ports = ports

    def owners(self, keys, nodes, options):
        """Return the port of the server that got each key.

        ``nodes`` are lines of ``servers:`` such as ``2 alpha`` (weight and name), spread over the
        ports in turn.
        """
        listen, held = reserve_port()
        stats, held_too = reserve_port()
        servers = [
            f"   - 127.0.0.1:{self.ports[at % BACKENDS]}:{line}\n" for at, line in enumerate(nodes)
        ]
        lines = [f"  {name}: {value}\n" for name, value in options.items()]
        config = self.folder / "nutcracker.yml"
        config.write_text(
            f"pool:\n  listen: 127.0.0.1:{listen}\n  redis: true\n  distribution: ketama\n"
            f"{''.join(lines)}  servers:\n{''.join(servers)}"
        )
        with held, held_too, ExitStack() as stack:
            command = [
                FOUND["nutcracker"],
                "-c",
                config,
                "-a",
                "127.0.0.1",
                "-s",
                str(stats),
                "-o",
                self.folder / "log",
            ]
            run(stack, command)
            proxy = stack.enter_context(closing(answering(listen)))
            for at in range(0, len(keys), 500):
                replies = proxy.ask(*((b"SET", key, b"") for key in keys[at : at + 500]))
                assert set(replies) == {b"OK"}
            landed = {}
            for port in self.ports:
                with closing(Talk(port)) as talk:
                    landed.update(dict.fromkeys(talk.ask((b"KEYS", b"*"), (b"FLUSHALL",))[0], port))
        return [landed[key] for key in keys]


def run(stack, command):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.kill)


def answering(port):
    """Return a connection to a server that has just been started."""
    for _ in range(1000):
        try:
            return Talk(port)
        except ConnectionRefusedError:
            time.sleep(0.01)  # another process: there is no clock of ours to turn
    pytest.fail(f"nothing listens on port {port}")


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    """A twemproxy over its own servers; without Debian's nutcracker and redis-server, a skip."""
    if MISSING:
        pytest.skip(f"not installed: {', '.join(MISSING)}")
    folder = tmp_path_factory.mktemp("proxy")
    with ExitStack() as stack:
        ports = []
        for _ in range(BACKENDS):
            port, held = reserve_port()
            stack.enter_context(held)
            run(
                stack,
                [
                    FOUND["redis-server"],
                    "--port",
                    str(port),
                    "--bind",
                    "127.0.0.1",
                    "--save",
                    "",
                    "--dir",
                    folder,
                ],
            )
            ports.append(port)
        for port in ports:
            answering(port).close()
        yield Proxy(folder, ports)
