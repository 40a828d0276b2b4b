"""`lock`: a command under a lock, as real processes on real servers; and the list of locks."""

import io
import json
import signal
import sys
import time
from pathlib import Path

import pytest

from shardcache.cli import main
from shardcache.cli.lock_run import Guarded
from shardcache.client import ShardCache
from shardcache.embedded import LocalShards
from tests.waiting import until

pytestmark = pytest.mark.long

# What a command under test runs: it says when it is there, and then waits to be ended.
WAIT = "import time; open(__import__('sys').argv[1], 'a').write('up\\n'); time.sleep(120)"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + WAIT


@pytest.fixture
def cache(url):
    with ShardCache.from_url(url, on_unavailable="raise") as client:
        yield client


@pytest.fixture
def mark(tmp_path) -> Path:
    """Where a command says that it is there."""
    return tmp_path / "mark"


def python(code: str, *args: object) -> list[str]:
    return ["--", sys.executable, "-c", code, *map(str, args)]


@pytest.fixture
def holding(command, url, mark):
    """Start a command that holds a lock until something ends it; returns when it is under way."""
    started = []

    def start(*options: str, code: str = WAIT, name: str = "job"):
        process = command.start("lock", "run", name, "--url", url, *options, *python(code, mark))
        started.append(process)
        until(lambda: mark.exists() or process.poll() is not None)
        assert process.poll() is None
        return process

    yield start
    for process in started:  # a killed one would leave its command behind
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.parametrize("code", [0, 1, 75, 255])
def test_exit_code_is_passed_on(command, url, code):
    """The exit code is the command's, whatever it is."""
    assert command.run(
        "lock", "run", "job", "--url", url, *python(f"raise SystemExit({code})")
    ) == (code, "", "")


def test_exit_by_a_signal(command, url):
    """A command that a signal ends is 128 + n, as shells say it."""
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert command.run("lock", "run", "job", "--url", url, *python(code)) == (137, "", "")


def test_command_knows_its_lock(command, url, cache):
    """Name and fencing token are in the command's environment; the token grows with each run."""
    code = (
        "from os import environ as e; print(e['SHARDCACHE_LOCK_NAME'], "
        "e['SHARDCACHE_FENCING_TOKEN'])"
    )
    runs = [command.run("lock", "run", "a job", "--url", url, *python(code)) for _ in range(2)]
    names, tokens = zip(*[out.rsplit(maxsplit=1) for _, out, _ in runs], strict=True)
    assert (names, int(tokens[0]) < int(tokens[1])) == (("a job",) * 2, True)


def test_arguments_are_left_alone(command, url):
    """Options and further dashes behind the first ones belong to the command."""
    code = "import sys; print(sys.argv[1:])"
    arguments = ["--ttl", "x", "--", "-c", "--url"]
    assert (
        command.run("lock", "run", "job", "--url", url, *python(code, *arguments))[1]
        == f"{arguments}\n"
    )


def test_second_runner_skips(holding, command, url):
    """While one process holds the lock the others run nothing, and end with a code of their own."""
    process = holding()
    asked = ["lock", "run", "job", "--url", url]
    silent = python("print('ran')")
    assert command.run(*asked, *silent) == (75, "", "")
    assert command.run(*asked, "--held-exit", "0", *silent) == (0, "", "")
    code, out, err = command.run(*asked, "--timeout", "0.3", "--verbose", *silent)
    assert (code, out, err) == (
        75,
        "",
        "shardcache: lock 'job' is held by somebody else: skipped\n",
    )
    assert process.poll() is None


def test_one_of_many_runs(command, url, tmp_path):
    """Of a fleet that starts in one moment exactly one process runs the job.

    It keeps the others out for a while afterwards.
    """
    ran = tmp_path / "ran"
    code = f"open({str(ran)!r}, 'a').write('x')"
    fleet = [
        command.start("lock", "run", "job", "--url", url, "--at-least", "60", *python(code))
        for _ in range(5)
    ]
    for process in fleet:
        process.communicate(timeout=60)
    assert (ran.read_text(), sorted(process.returncode for process in fleet)) == (
        "x",
        [0, 75, 75, 75, 75],
    )


def test_stays_taken_for_a_while(command, url, cache):
    """With --at-least the lock outlasts a quick command that ran, even one that failed."""
    asked = ["lock", "run", "job", "--url", url, "--at-least", "60"]
    short = ["--ttl", "5", "--timeout", "60"]  # voters on a busy machine may need several attempts
    assert command.run(*asked, *short, "--", "/no/such/command")[0] == 127
    assert command.run(*asked, *short, *python("raise SystemExit(5)"))[0] == 5
    assert cache.lock("job").owner().remaining > 50
    assert command.run(*asked, *python("print('ran')")) == (75, "", "")


class Split:
    """A lock for which others contend, so that nobody gets a majority at first."""

    def __init__(self, attempts: int) -> None:
        self.attempts = attempts

    def acquire(self, *, blocking: bool) -> bool:
        self.attempts -= 1
        return self.attempts <= 0

    def locked(self) -> bool:
        return False


def test_split_vote_is_nobody():
    """Who fails to get a lock that nobody has tries again: else all of a fleet might skip."""
    split = Split(3)
    assert Guarded(split, ["true"], grace=0, at_least=0)._acquire(0)
    assert split.attempts == 0


def test_waits_for_the_lock(command, url, cache):
    """With --timeout it waits until the lock is free."""
    lock = cache.lock("job", ttl=60)
    assert lock.acquire()
    process = command.start(
        "lock", "run", "job", "--url", url, "--timeout", "60", *python("print('ran')")
    )
    until(lambda: any(b"wait" in key for key in waiting_keys(cache)))
    lock.release()
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "ran\n", "")


def waiting_keys(cache):
    """Return the signs that somebody waits, as the servers have them."""
    import redis

    found = []
    for server in cache._context.topology.members:
        with redis.Redis(unix_socket_path=server.address.path) as client:
            found += client.keys("*@shardcache:wait:*")
    return found


def test_lock_is_free_after(command, url, cache):
    """A command that fails leaves the lock free; one that cannot be started is code 127 or 126."""
    assert command.run("lock", "run", "job", "--url", url, *python("raise SystemExit(3)"))[0] == 3
    assert not cache.lock("job").locked()
    code, _, err = command.run("lock", "run", "job", "--url", url, "--", "/no/such/command")
    assert (code, err) == (
        127,
        "shardcache: cannot run '/no/such/command': No such file or directory\n",
    )
    assert command.run("lock", "run", "job", "--url", url, "--", "/")[0] == 126
    assert not cache.lock("job").locked()


def test_renewed_while_it_runs(holding, cache):
    """A command may run for much longer than the ttl."""
    process = holding("--ttl", "0.3")
    first = cache.lock("job").owner()
    end = time.monotonic() + 1.0
    until(lambda: time.monotonic() > end)
    assert (cache.lock("job").owner().token, process.poll()) == (first.token, None)


@pytest.mark.parametrize("code", [WAIT, DEAF], ids=["obeys", "ignores-sigterm"])
def test_loss_ends_the_command(holding, command, url, mark, code):
    """When the operator breaks the lock, the command is ended, and that has a code of its own."""
    process = holding("--ttl", "3", "--grace", "0.5", code=code)
    assert command.run("lock", "break", "job", "--yes", "--url", url)[0] == 0
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (76, "")
    assert err.startswith("shardcache: lock 'job' is lost: ending ")
    assert command.processes() == []


def test_loss_ends_the_whole_group(holding, command, url, mark):
    """What the command has started ends with it, even if it outlives it and ignores signals."""
    code = (
        "import subprocess, sys, time; "
        f"subprocess.Popen([sys.executable, '-c', {DEAF!r}, sys.argv[1]]); time.sleep(120)"
    )
    process = holding("--ttl", "3", "--grace", "0.5", code=code)
    assert command.run("lock", "break", "job", "--yes", "--url", url)[0] == 0
    assert (process.wait(timeout=60), command.processes()) == (76, [])


def test_voters_that_go_out_end_the_command(command, mark):
    """A lock that cannot be renewed is lost: the command is ended though no voter answers."""
    with LocalShards(3) as servers:
        asked = ["lock", "run", "job", "--url", servers.url, "--ttl", "1.5", "--grace", "30"]
        process = command.start(*asked, *python(DEAF, mark))
        until(mark.exists)
        for server in servers.servers:
            server.pause()
        _, err = process.communicate(timeout=60)
    assert (process.returncode, command.processes()) == (76, [])
    assert "lock 'job' is lost" in err


def test_loss_that_comes_to_light_at_the_end(command, url, cache, mark):
    """A command that ended before its lost lock was noticed is reported as without the lock."""
    code = f"import time; open({str(mark)!r}, 'w'); time.sleep(1)"
    process = command.start("lock", "run", "other", "--url", url, "--ttl", "60", *python(code))
    until(mark.exists)
    assert cache.lock("other").force_release() == 2
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (
        76,
        "shardcache: lock 'other' was lost before the command was done\n",
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_go_to_the_command(holding, command, cache, number):
    """A signal ends the command, not the guard before it; the lock is free afterwards."""
    process = holding()
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert (command.processes(), cache.lock("job").locked()) == ([], False)


def test_nohup(command, url, cache, tmp_path):
    """What nohup started is not ended by SIGHUP; the command ends with its own code."""
    go = tmp_path / "go"
    code = (
        f"import os, time\nwhile not os.path.exists({str(go)!r}): "
        "time.sleep(0.01)\nraise SystemExit(5)"
    )
    process = command.start("lock", "run", "job", "--url", url, *python(code), nohup=True)
    until(lambda: cache.lock("job").locked())
    process.send_signal(signal.SIGHUP)
    go.touch()
    process.communicate(timeout=60)
    assert process.returncode == 5


def test_signal_while_waiting(holding, command, url, cache):
    """A signal that comes while another process holds the lock ends the waiting."""
    holding()
    until(lambda: not waiting_keys(cache))  # the holder itself may have waited for a moment
    waiting = command.start(
        "lock", "run", "job", "--url", url, "--timeout", "60", *python("print('ran')")
    )
    until(lambda: waiting_keys(cache))
    waiting.send_signal(signal.SIGTERM)
    out, err = waiting.communicate(timeout=60)
    assert (waiting.returncode, out, err) == (143, "", "")


def test_voters_that_are_out(command):
    """Without a majority of voters nothing is run; that is neither "held" nor "lost"."""
    dead = "redis://127.0.0.1:1?name=gone"
    code, out, err = command.run("lock", "run", "job", "--url", dead, *python("print('ran')"))
    assert (code, out, err.count("\n")) == (69, "", 1)
    assert "gone" in err


@pytest.mark.parametrize("action", ["show job", "break job --yes"])
def test_voters_that_are_out_for_the_operator(action, failing):
    """Where nothing can be known of a lock, the operator is told which voter does not answer."""
    assert "gone" in failing(
        main(["lock", *action.split(), "--url", "redis://127.0.0.1:1?name=gone"]), 69
    )


def test_ls(url, cache, capsys):
    """All locks of the namespace are listed: who, since when, on which voters, how long still."""
    before = time.time()
    names = ["report", "clean {up}", "{}", "a}b", "zażółć"]
    locks = {name: cache.lock(name, ttl=60, label=f"holder of {name}") for name in names}
    for lock in locks.values():
        assert lock.acquire()
    assert main(["lock", "ls", "--json", "--url", url]) == 0
    listed = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert {name: (one["holder"], one["held"], one["of"]) for name, one in listed.items()} == {
        name: (f"holder of {name}", True, 2) for name in names
    }
    for name, one in listed.items():
        assert set(one["voters"]) == set(locks[name].voters)
        assert before - 1 < one["since"] < time.time() + 1
        assert 0 < one["remaining"] <= 60
    assert main(["lock", "ls", "--url", url]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert (head.split()[0], len(lines)) == ("LOCK", len(names))


def test_ls_of_nothing(url, capsys):
    """Where nothing is held nothing is printed; locks of other namespaces are theirs."""
    with ShardCache.from_url(url, namespace="elsewhere") as other, other.lock(url, ttl=60):
        assert main(["lock", "ls", "--url", url]) == 0
    assert capsys.readouterr().out == ""


def test_ls_of_a_part(url, cache, capsys, shards):
    """A key on too few voters is listed as that; escape codes in it do not reach the terminal."""
    import redis

    lock = cache.lock("part")
    with redis.Redis.from_url(shards.servers[0].url) as client:
        client.set(lock._holder.plan.keys.lock, b"\x1b[2J|nan|x|y|z")
    assert main(["lock", "ls", "--url", url]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert "1 of 2 (no majority)" in line
    assert ("\\x1b[2J" in line, "\x1b" in line, "no end" in line) == (True, False, True)
    assert main(["lock", "ls", "--json", "--url", url]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert (found["held"], found["remaining"], found["since"]) == (False, None, None)


def test_ls_with_a_dead_server(url, cache, capsys):
    """What the other servers know is listed, and the dead one is named."""
    with cache.lock("job", ttl=60):
        assert main(["lock", "ls", "--url", f"{url},redis://127.0.0.1:1?name=gone"]) == 3
    out, err = capsys.readouterr()
    assert ("job" in out, "'gone'" in err) == (True, True)


def test_ls_of_chosen_voters(url, cache, capsys, shards):
    """A lock with other voters than the ring's is listed, without a claim on how many there are."""
    more = f"{url}," + ",".join(f"redis://127.0.0.1:1?name=gone-{number}" for number in range(20))
    with ShardCache.from_url(more) as wide:
        name = next(
            name
            for name in map(str, range(100))
            if not set(shards.urls) <= set(wide.lock(name).voters)
        )
        with wide.lock(name, ttl=60, voters=list(shards.urls)):
            assert main(["lock", "ls", "--json", "--url", more]) == 3
            [found] = json.loads(capsys.readouterr().out)
            assert (found["name"], found["of"], sorted(found["voters"])) == (
                name,
                None,
                sorted(shards.urls),
            )
            chosen = [argument for voter in shards.urls for argument in ("--voter", voter)]
            assert main(["lock", "show", name, "--url", more, *chosen]) == 0


def test_show(url, cache, capsys):
    """Show says who holds a lock, since when, and what each voter has."""
    with cache.lock("job", ttl=60, label="web-1") as lock:
        assert main(["lock", "show", "job", "--url", url]) == 0
        first, *lines = capsys.readouterr().out.splitlines()
        assert first == "lock 'job' is held by web-1"
        assert [line.split()[0] for line in lines] == ["since", "left", "fencing", *lock.voters]
        assert main(["lock", "show", "job", "--json", "--url", url]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert (shown["holder"], shown["fence"], set(shown["voters"])) == (
            "web-1",
            lock.fencing_token,
            set(lock.voters),
        )


def test_show_of_a_free_lock(url, capsys, failing):
    """Nobody holding a lock is exit code 1, as for a key that is not there."""
    assert "'job'" in failing(main(["lock", "show", "job", "--url", url]), 1)
    assert main(["lock", "show", "job", "--json", "--url", url]) == 1
    assert capsys.readouterr().out == "null\n"


def test_break(url, cache, capsys):
    """Break takes the lock from its holder, and the next one may have it."""
    lock = cache.lock("job", ttl=60)
    assert lock.acquire()
    assert main(["lock", "break", "job", "--yes", "--url", url]) == 0
    assert capsys.readouterr().out == "lock 'job' is free: it was on 2 of 2 voters\n"
    assert cache.lock("job").acquire(blocking=False)
    assert main(["lock", "break", "other", "--yes", "--url", url]) == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("answer", "code"), [("y\n", 0), ("YES\n", 0), ("\n", 2), ("", 2), ("n\n", 2), ("yet\n", 2)]
)
def test_break_asks(url, cache, monkeypatch, capsys, answer, code):
    """Without --yes it shows the holder and asks; anything but yes leaves the lock alone."""
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    with ShardCache.from_url(url) as other:
        assert other.lock("job", ttl=60, label="web-1").acquire()
        assert main(["lock", "break", "job", "--url", url]) == code
    assert "web-1" in capsys.readouterr().out
    assert cache.lock("job").locked() == (code != 0)


def test_break_without_a_terminal(url, cache, monkeypatch, capsys):
    """Where nobody can be asked, --yes is needed."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with cache.lock("job", ttl=60):
        assert main(["lock", "break", "job", "--url", url]) == 2
        assert cache.lock("job").locked()
    assert "--yes" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        "lock",
        "lock run",
        "lock run job",
        "lock run job --",
        "lock run job --ttl 0 -- x",
        "lock run job --held-exit 256 -- x",
    ],
)
def test_wrong_usage(arguments, capsys):
    """Arguments that make no sense are one line and exit code 2."""
    with pytest.raises(SystemExit) as caught:
        main(arguments.split())
    out, err = capsys.readouterr()
    assert (caught.value.code, out, err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("action", ["", "run", "ls", "show", "break"])
def test_help(action, capsys):
    """Every action explains itself; that of run lists its exit codes."""
    with pytest.raises(SystemExit) as caught:
        main(["lock", *action.split(), "--help"])
    out = capsys.readouterr().out
    assert (caught.value.code, "usage: shardcache lock" in out) == (0, True)
    assert ("75" in out) == (action == "run")


@pytest.mark.parametrize("arguments", ["run", "show", "break --yes"])
def test_wrong_name(arguments, url, failing):
    """A name that no lock can have is wrong input."""
    action, *options = arguments.split()
    failing(
        main(["lock", action, "", *options, "--url", url, *(["x"] if action == "run" else [])]), 2
    )
