"""`up`: local shards as a process, and that they end with it."""

import re
import shlex
import signal
import socket

import pytest

from shardcache.client import ShardCache


def read_until(process, end: str) -> str:
    """Return what the process prints up to the line that starts with ``end``."""
    seen = ""
    for line in process.stdout:
        seen += line
        if line.startswith(end):
            return seen
    raise AssertionError(f"it ended before {end!r}: {seen} {process.stderr.read()}")


def test_up_as_a_cluster(command):
    """It says who has which slots, prints a URL of the cluster, and leaves nothing behind."""
    process = command.start("up", "--cluster", "--shards", "2", "--replicas", "1")
    seen = read_until(process, "Ctrl-C")
    assert seen.startswith("A cluster of 2 masters and 2 replicas is up on 127.0.0.1")
    rows = re.findall(r"^  (node-\d) +redis://127.0.0.1:(\d+)/0 +(.*)$", seen, re.MULTILINE)
    assert [(name, role) for name, _, role in rows] == [
        ("node-1", "slots 0-8191"),
        ("node-2", "slots 8192-16383"),
        ("node-3", "replica of node-1"),
        ("node-4", "replica of node-2"),
    ]
    seeds = ",".join(f"127.0.0.1:{port}" for _, port, _ in rows)
    assert f"export SHARDCACHE_URL=redis+cluster://{seeds}\n" in seen
    with ShardCache.from_url(
        f"redis+cluster://{seeds}", on_unavailable="raise", timeout=20
    ) as cache:
        assert cache.set("k", "v")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert (command.processes(), command.files()) == ([], [])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--replicas", "1"], "--replicas needs --cluster"),
        (["--cluster", "--shards", "17"], "masters must be a whole number from 1 to 16, got 17"),
        (["--cluster", "--port", "60000"], "port must be a whole number from 1 to 55533"),
    ],
)
def test_up_refuses(command, arguments, complaint):
    """What does not go together is wrong usage, in one line, before anything starts."""
    code, out, err = command.run("up", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert complaint in err
    assert command.files() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up(command, number):
    """It prints a URL that works, and at a signal ends with code 0 and leaves nothing behind."""
    process = command.start("up", "--shards", "2")
    seen = read_until(process, "Ctrl-C")
    [line] = re.findall(r"^ *export (SHARDCACHE_URL=.*)$", seen, re.MULTILINE)
    [setting] = shlex.split(line)
    with ShardCache.from_url(
        setting.partition("=")[2], on_unavailable="raise", timeout=20
    ) as cache:
        assert cache.set("k", "v")
        assert sorted(cache.ping()) == ["shard-1", "shard-2"]
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert (command.processes(), command.files()) == ([], [])


def test_up_on_given_ports(command):
    """With --port the addresses are those asked for, so that a configured URL stays right."""
    seen = ""
    while not seen:  # between looking and starting somebody else may be given one of the ports
        port = consecutive_ports(2)
        process = command.start("up", "--shards", "2", "--port", str(port))
        try:
            seen = read_until(process, "Ctrl-C")
        except AssertionError as ended:
            if "in use" not in str(ended):
                raise
    assert re.findall(r"redis://127.0.0.1:(\d+)/0$", seen, re.MULTILINE) == [
        str(port),
        str(port + 1),
    ]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")


def test_up_on_a_port_in_use(command):
    """A port that somebody has is an error that names it, and nothing is left running."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = command.run("up", "--shards", "1", "--port", str(port))
    why = f"ended at its start; port {port} is in use by another program"
    assert (code, out, err) == (3, "", f"shardcache: server 'shard-1' {why}\n")
    assert (command.processes(), command.files()) == ([], [])


def consecutive_ports(count: int) -> int:
    """Return the first of ``count`` ports in a row that are free just now."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = first.getsockname()[1]
            try:
                for number in range(port + 1, port + count):
                    socket.create_server(("127.0.0.1", number)).close()
            except OSError:
                continue
        return port


def test_up_killed(command):
    """Even if it is killed itself, its servers end and its directory goes."""
    process = command.start("up", "--shards", "1")
    read_until(process, "Ctrl-C")
    process.kill()
    process.wait(timeout=60)
    assert (command.processes(), command.files()) == ([], [])


def test_up_tells_of_a_server_that_ended(command):
    """Shards that are gone are reported; when none is left, it ends with code 3."""
    process = command.start("up", "--shards", "1")
    url = re.findall(r"redis://\S+/0", read_until(process, "Ctrl-C"))[0]
    import redis

    with redis.Redis.from_url(url) as server, pytest.raises(redis.exceptions.ConnectionError):
        server.execute_command("SHUTDOWN", "NOSAVE")
        server.ping()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (3, "shardcache: shard-1 has ended; 0 left\n")


def test_up_without_a_server_program(command):
    """Where there is no server to run, one line says what to install."""
    code, out, err = command.run("up", SHARDCACHE_SERVER="no-such-server")
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert "no-such-server" in err
