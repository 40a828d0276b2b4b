"""`stats`, `keys`, `clear` and `completion`."""

import io
import json
import shutil
import subprocess
import sys

import pytest

from shardcache.cli import clear, main
from shardcache.client import ShardCache

DEAD = "redis://:s3cret@127.0.0.1:1?name=gone"


@pytest.fixture
def filled(url):
    with ShardCache.from_url(url) as cache:
        cache.set_many({f"user:{number}": number for number in range(40)})
        cache.set("other", b"\x00")
    return url


def test_stats(filled, shards, capsys):
    """Every shard has a row: server, role, and the number of its keys."""
    assert main(["stats", "--url", filled]) == 0
    head, *rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert [head[0], *[row[0] for row in rows]] == ["SHARD", *sorted(shards.urls)]
    assert all(row[1].strip().startswith("valkey ") for row in rows)


def test_stats_as_json(filled, shards, capsys):
    """--json has the server's own fields."""
    assert main(["stats", "--url", filled, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == shards.urls.keys()
    assert sum(int(info["keys"]) for info in found.values()) >= 41
    assert {info["role"] for info in found.values()} == {"master"}


def test_stats_of_a_dead_shard(url, capsys):
    """A shard that does not answer is named with the reason, others are shown, the code is 3."""
    assert main(["stats", "--url", f"{url},{DEAD}"]) == 3
    out = capsys.readouterr().out
    assert "gone: cannot connect" in out
    assert "s3cret" not in out
    assert out.count("valkey ") == 2


def test_keys(filled, capsys):
    """All keys of the namespace, one a line."""
    assert main(["keys", "--url", filled]) == 0
    assert sorted(capsys.readouterr().out.split()) == sorted(
        ["other", *(f"user:{number}" for number in range(40))]
    )


def test_keys_by_glob_as_json(filled, capsys):
    """A glob chooses, and --json is an array."""
    assert main(["keys", "user:1*", "--url", filled, "--json"]) == 0
    assert sorted(json.loads(capsys.readouterr().out)) == sorted(
        ["user:1", *(f"user:1{digit}" for digit in range(10))]
    )


def test_keys_with_a_limit(filled, capsys):
    """--limit stops."""
    assert main(["keys", "--url", filled, "--limit", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_keys_that_a_terminal_would_act_on(url, capsys):
    """Control characters and bytes are escaped."""
    with ShardCache.from_url(url) as cache:
        cache.set("a\x1b[31m", 1)
        cache.set(b"\xff", 1)
    assert main(["keys", "--url", url]) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == ["\\xff", "a\\x1b[31m"]


def test_clear(filled, shards, capsys):
    """With --yes the namespace is emptied, and only that."""
    other = f"{shards.url}&namespace=another"
    with ShardCache.from_url(other) as cache:
        cache.set("stays", 1)
    assert main(["clear", "--yes", "--url", filled]) == 0
    assert capsys.readouterr().out == "41\n"
    with ShardCache.from_url(other) as cache, ShardCache.from_url(filled) as emptied:
        assert (cache.delete("stays"), list(emptied.scan())) == (True, [])


@pytest.mark.parametrize(
    ("answer", "code", "left"), [("y\n", 0, 0), ("\n", 2, 41), ("no\n", 2, 41)]
)
def test_clear_asks(filled, capsys, monkeypatch, answer, code, left):
    """On a terminal it names the namespace and the shards; any answer but yes deletes nothing."""
    stdin = io.StringIO(answer)
    stdin.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["clear", "--url", filled]) == code
    namespace = filled.rpartition("=")[2]
    assert (
        f"Delete every key that begins with '{namespace}:' on shard-1, shard-2?"
        in capsys.readouterr().err
    )
    with ShardCache.from_url(filled) as cache:
        assert len(set(cache.scan())) == left


def test_clear_where_nobody_can_answer(filled, failing, monkeypatch):
    """Without a terminal and without --yes nothing is deleted."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert "--yes" in failing(main(["clear", "--url", filled]), 2)
    with ShardCache.from_url(filled) as cache:
        assert len(set(cache.scan())) == 41


def test_clear_without_a_namespace(shards, capsys, monkeypatch):
    """A URL without a namespace means every key, and the question says so."""
    asked = []
    monkeypatch.setattr(clear, "ask_to_confirm", lambda *question: asked.append(question) or 1 / 0)
    monkeypatch.setenv("SHARDCACHE_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        main(["clear", "--url", shards.url])
    assert "every key, since the URL names no namespace," in asked[0][0]


def test_completion_of_bash(command, tmp_path):
    """The script for bash completes commands and options."""
    if shutil.which("bash") is None:
        pytest.skip("bash is not there")
    code, out, err = command.run("completion", "bash")
    assert (code, err) == (0, "")
    script = tmp_path / "completion"
    script.write_text(out)
    ask = 'source "$1"; COMP_WORDS=(shardcache "$2"); COMP_CWORD=1; _shtab_shardcache; '
    ask += 'echo "${COMPREPLY[@]}"'
    found = subprocess.run(
        ["bash", "-c", ask, "bash", script, "w"], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["where"]


@pytest.mark.parametrize("shell", ["zsh", "fish", "tcsh"])
def test_completion_of_others(shell, capsys):
    """Every other shell that is named gets a script of its own with the commands in it."""
    assert main(["completion", shell]) == 0
    out = capsys.readouterr().out
    assert "where" in out
    assert "shardcache" in out


def test_completion_without_shtab(failing, monkeypatch):
    """Without the library that makes the scripts, one line says what to install."""
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert "shardcache[cli]" in failing(main(["completion", "bash"]), 2)
