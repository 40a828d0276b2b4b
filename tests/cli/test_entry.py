"""What holds for every command: the URL, one line for an error, the exit code."""

import argparse
import re
import shlex
import sys
from collections.abc import Iterator
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path

import pytest

from shardcache.cli import entry, main, ping
from shardcache.per_key import COMPILED

DEAD = "redis://:s3cret@127.0.0.1:1?name=gone"  # nothing listens on port 1


def parser_of(path: tuple[str, ...]) -> argparse.ArgumentParser:
    parser = entry.build_parser()
    for name in path:
        parser = choices(parser)[name]
    return parser


def choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = [
        action.choices
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
    ]
    return found[0] if found else {}


def commands(path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the names of every command and of its actions, the command itself (no name) first."""
    yield path
    for name in choices(parser_of(path)):
        yield from commands((*path, name))


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


@pytest.mark.parametrize(
    "command",
    ["get k", "set k v", "del k", "where k", "ping", "ring", "keys", "clear", "stats", "hot"],
)
def test_no_url(command, monkeypatch, failing):
    """Without any URL a command says how to give one."""
    monkeypatch.delenv("SHARDCACHE_URL", raising=False)
    line = failing(main(command.split()), 2)
    assert "--url" in line
    assert "SHARDCACHE_URL" in line


@pytest.mark.parametrize(
    "url", ["http://h", "redis://", "redis://:s3cret@h:99999", "redis://:s3cret@h?nonsense=1"]
)
@pytest.mark.parametrize("command", ["get k", "where k", "ping", "ring", "demo"])
def test_wrong_url(command, url, failing):
    """A URL that cannot be understood is wrong input, and its password stays unseen."""
    assert "s3cret" not in failing(main([*command.split(), "--url", url]), 2)


@pytest.mark.parametrize("command", ["get k", "set k v", "del k", "demo", "keys", "clear --yes"])
def test_shard_that_is_out(command, failing):
    """A shard that does not answer is exit code 3, by name, without its password."""
    line = failing(main([*command.split(), "--url", DEAD]), 3)
    assert "'gone'" in line
    assert "s3cret" not in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["get"],
        ["get", "k", "redis://:s3cret@h"],
        ["up", "--shards", "0"],
        ["up", "--shards", "many"],
        ["up", "--port", "0"],
        ["keys", "--limit", "0"],
        ["completion", "cmd.exe"],
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


@pytest.mark.parametrize("command", [" ".join(path) for path in commands()])
def test_help(command, capsys):
    """Every command explains itself: what it does, in a sentence, and an example to copy."""
    with pytest.raises(SystemExit) as caught:
        main([*command.split(), "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: shardcache {command}".rstrip())
    assert re.search(r"\n\n[A-Z][^\0]*?\.( .*)?\n\n", out)
    assert re.search(
        rf"^Examples?:\n(  shardcache .*\n)*  shardcache .*{command}", out, re.MULTILINE
    )


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_help_fits_the_terminal(columns, monkeypatch, capsys):
    """Sentences are wrapped to the terminal's width; only what is to be copied may be longer."""
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        main(["where", "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert [
        line for line in lines if len(line) > columns and not line.startswith("  shardcache")
    ] == []


def test_alone(capsys):
    """Without arguments the command prints its help."""
    with pytest.raises(SystemExit) as caught:
        main([])
    alone = capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["--help"])
    assert (caught.value.code, alone.err, alone.out) == (0, "", capsys.readouterr().out)


def test_examples_of_the_help_are_commands():
    """The parser understands every example of the help, as far as a pipe or a redirection."""
    for path in commands():
        for line in parser_of(path).epilog.splitlines():
            if line.startswith("  shardcache "):
                words = list(takewhile(lambda word: word not in "|>", shlex.split(line)[1:]))
                assert entry.build_parser().parse_args(words).run, line


def test_version(capsys):
    """--version says which one it is."""
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert (caught.value.code, capsys.readouterr().out) == (
        0,
        f"shardcache {version('shardcache')} ({'compiled' if COMPILED else 'pure Python'})\n",
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device on this system")
@pytest.mark.parametrize("arguments", ["ring --node a", "--help", "--version", "completion bash"])
def test_output_on_a_full_disk(arguments, command):
    """Output that cannot be written is one line and a code, not a traceback, and not success."""
    with open("/dev/full", "w") as full:
        process = command.start(*arguments.split(), stdout=full.fileno())
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (
        74,
        "shardcache: cannot write the output: No space left on device\n",
    )


@pytest.mark.parametrize("arguments", ["ring --node a", "--help"])
def test_closed_output(arguments, command):
    """A standard output that was closed is an error for what wants to write, in one line."""
    code, _, err = command.run(*arguments.split(), closed=1)
    assert (code, err) == (74, "shardcache: cannot write the output: Bad file descriptor\n")


def test_closed_streams_do_not_matter_to_who_is_silent(url, command):
    """A command that only has an exit code to give works without any standard stream."""
    code, _, _ = command.run(
        "lock", "run", "job", "--url", url, "--", sys.executable, "-c", "exit(7)", closed=2
    )
    assert code == 7


SITE = """
import sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
"""


@pytest.mark.parametrize("module", ["mmh3", "hiredis", "rich"])
def test_interrupted_while_importing(module, command, tmp_path):
    """Ctrl-C while it still imports ends it with one line and the code for it."""
    (tmp_path / "sitecustomize.py").write_text(SITE.format(module=module))
    code, out, err = command.run("ring", "--node", "a", PYTHONPATH=str(tmp_path))
    # `rich` is imported by the demo alone.
    expected = (0, "") if module == "rich" else (130, "shardcache: interrupted\n")
    assert (code, err) == expected, out


@pytest.mark.parametrize(
    ("raised", "code"),
    [(KeyboardInterrupt(), 130), (RuntimeError("two\nlines"), 70)],
    ids=["ctrl-c", "bug"],
)
def test_unforeseen_end(raised, code, url, monkeypatch, failing):
    """Ctrl-C and mistakes of our own are one line and a code too."""

    def broken(_):
        raise raised

    monkeypatch.delenv(entry.TRACEBACK, raising=False)
    monkeypatch.setattr(ping, "open_client", broken)
    failing(main(["ping", "--url", url]), code)


def test_traceback_on_request(url, monkeypatch):
    """Who looks for a mistake gets to see where it happened."""

    def broken(_):
        raise RuntimeError

    monkeypatch.setenv(entry.TRACEBACK, "1")
    monkeypatch.setattr(ping, "open_client", broken)
    with pytest.raises(RuntimeError):
        main(["ping", "--url", url])


def test_light(command):
    """A command other than the demo imports neither rich nor multiprocessing."""
    code, out, err = command.run(
        "where", "k", "--offline", "--url", "redis://h?name=h", PYTHONPROFILEIMPORTTIME="1"
    )
    imported = {line.rpartition("|")[2].strip() for line in err.splitlines()}
    assert (code, imported & {"rich", "multiprocessing", "shardcache.cli.demo.run"}) == (0, set())
    assert "stored as  k, hashed by all of it" in out


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
    process = command.start("where", "k", "--offline", "--url", url)
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
