"""What holds for every command: the URL, one line for an error, the exit code."""

import sys

import pytest

from shardcache.cli import entry, main, ping

DEAD = "redis://:s3cret@127.0.0.1:1?name=gone"  # nothing listens on port 1


def test_url_before_the_command(url, capsys):
    """--url may stand before the command's name."""
    assert main(["--url", url, "set", "k", "v"]) == 0
    assert capsys.readouterr().out == "stored\n"


def test_url_out_of_the_environment(url, monkeypatch, capsys):
    """Without --url, SHARDCACHE_URL is taken."""
    monkeypatch.setenv("SHARDCACHE_URL", url)
    assert main(["set", "k", "v"]) == 0
    assert capsys.readouterr().out == "stored\n"


def test_url_wins_over_the_environment(url, monkeypatch):
    """What was typed counts more than what was set before."""
    monkeypatch.setenv("SHARDCACHE_URL", DEAD)
    assert main(["set", "k", "v", "--url", url]) == 0


@pytest.mark.parametrize("command", ["get k", "set k v", "del k", "where k", "ping", "ring"])
def test_no_url(command, monkeypatch, failing):
    """Without any URL a command says how to give one."""
    monkeypatch.delenv("SHARDCACHE_URL", raising=False)
    line = failing(main(command.split()), 2)
    assert "--url" in line
    assert "SHARDCACHE_URL" in line


@pytest.mark.parametrize("url", ["http://h", "redis://", "redis://:s3cret@h:99999", "redis://:s3cret@h?nonsense=1"])
@pytest.mark.parametrize("command", ["get k", "where k", "ping", "ring", "demo"])
def test_wrong_url(command, url, failing):
    """A URL that cannot be understood is wrong input, and its password stays unseen."""
    assert "s3cret" not in failing(main([*command.split(), "--url", url]), 2)


@pytest.mark.parametrize("command", ["get k", "set k v", "del k", "demo"])
def test_shard_that_is_out(command, failing):
    """A shard that does not answer is exit code 3, by name, without its password."""
    line = failing(main([*command.split(), "--url", DEAD]), 3)
    assert "'gone'" in line
    assert "s3cret" not in line


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["get"],
        ["get", "k", "redis://:s3cret@h"],
        ["up", "--shards", "0"],
        ["up", "--shards", "many"],
        ["demo", "--shards", "1"],
        ["demo", "--seconds", "nan"],
        ["demo", "--seconds", "1e9"],
    ],
    ids=" ".join,
)
def test_wrong_usage(arguments, capsys):
    """Arguments that make no sense are one line and exit code 2."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    out, err = capsys.readouterr()
    assert (caught.value.code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("shardcache: ")
    assert "s3cret" not in err


@pytest.mark.parametrize("command", ["", "demo", "up", "ring", "where", "get", "set", "del", "ping"])
def test_help(command, capsys):
    """Every command explains itself."""
    with pytest.raises(SystemExit) as caught:
        main([*command.split(), "--help"])
    assert caught.value.code == 0
    assert "usage: shardcache" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("raised", "code"), [(KeyboardInterrupt(), 130), (RuntimeError("two\nlines"), 70)], ids=["ctrl-c", "bug"]
)
def test_unforeseen_end(raised, code, url, monkeypatch, failing):
    """Ctrl-C and mistakes of our own are one line and a code too."""

    def broken(_):
        raise raised

    monkeypatch.delenv(entry.TRACEBACK, raising=False)
    monkeypatch.setattr(ping, "connect", broken)
    failing(main(["ping", "--url", url]), code)


def test_traceback_on_request(url, monkeypatch):
    """Who looks for a mistake gets to see where it happened."""

    def broken(_):
        raise RuntimeError

    monkeypatch.setenv(entry.TRACEBACK, "1")
    monkeypatch.setattr(ping, "connect", broken)
    with pytest.raises(RuntimeError):
        main(["ping", "--url", url])


def test_light(command):
    """A command other than the demo imports neither rich nor multiprocessing."""
    code, out, err = command.run("where", "k", "--url", "redis://h", PYTHONPROFILEIMPORTTIME="1")
    imported = {line.rpartition("|")[2].strip() for line in err.splitlines()}
    assert (code, imported & {"rich", "multiprocessing", "shardcache.cli.demo_run"}) == (0, set())
    assert out.startswith("'k' is stored as b'k'")


def test_as_a_process(url, command):
    """The command works as a process, and its exit code is the shell's."""
    assert command.run("set", "k", "v", "--url", url) == (0, "stored\n", "")
    assert command.run("get", "k", SHARDCACHE_URL=url) == (0, "v\n", "")
    code, out, err = command.run("get", "other", "--url", url)
    assert (code, out, err.count("\n")) == (1, "", 1)
    code, out, err = command.run("get", "k", "--url", DEAD)
    assert (code, out, err.count("\n")) == (3, "", 1)


def test_reader_that_went_away(url, command):
    """Output into a closed pipe ends the command quietly."""
    process = command.start("where", "k", "--url", url)
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "")


def test_ping(shards, url, capsys):
    """Ping shows every shard with the time that it took."""
    assert main(["ping", "--url", url]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(shards.urls)
    assert all(line.endswith(" ms") for line in lines)


def test_ping_of_a_dead_shard(url, capsys):
    """One shard that is out makes ping fail, and all are shown."""
    assert main(["ping", "--url", f"{url},{DEAD}"]) == 3
    out, err = capsys.readouterr()
    assert [line.split()[1] for line in out.splitlines() if line.startswith("gone")] == ["out:"]
    assert len(out.splitlines()) == 3
    assert "s3cret" not in out + err


def test_where(url, shards, capsys):
    """Where says on which shard a key lives."""
    assert main(["where", "--url", url, "user:1"]) == 0
    out = capsys.readouterr().out
    assert "'user:1' is stored as" in out
    assert any(name in out for name in shards.urls)
    assert sys.stdout
