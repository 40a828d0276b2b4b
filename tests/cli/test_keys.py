"""`get`, `set` and `del`, in this process against two real shards."""

import datetime as dt
import io
import json
import sys

import pytest

from shardcache.cli import main
from shardcache.client import ShardCache


def test_set_then_get(url, capsys):
    """What was set is printed by get."""
    assert main(["set", "--url", url, "user:1", "Ada Łąka"]) == 0
    assert main(["get", "--url", url, "user:1"]) == 0
    assert capsys.readouterr().out == "stored\nAda Łąka\n"


def test_get_of_nothing(url, failing):
    """A miss is exit code 1 and a line that names the key."""
    assert "'nobody'" in failing(main(["get", "--url", url, "nobody"]), 1)


def test_get_of_none_is_no_miss(url, capsys):
    """A stored None is a value."""
    with ShardCache.from_url(url) as cache:
        cache.set("nothing", None)
    assert main(["get", "--url", url, "nothing"]) == 0
    assert capsys.readouterr().out == "None\n"


def test_get_of_bytes_is_raw(url, capfdbinary):
    """Bytes go out as they are, without a line end."""
    with ShardCache.from_url(url) as cache:
        cache.set("raw", b"\x00\xff\r")
    assert main(["get", "--url", url, "raw"]) == 0
    sys.stdout.flush()
    assert capfdbinary.readouterr().out == b"\x00\xff\r"


@pytest.mark.parametrize(
    "value", [5, -1.5, (1, "a"), {"a": {1, 2}}, dt.date(2024, 2, 29)], ids=repr
)
def test_get_of_other_types_is_repr(url, capsys, value):
    """Other values are shown as Python writes them, so that the type is seen."""
    with ShardCache.from_url(url) as cache:
        cache.set("k", value)
    assert main(["get", "--url", url, "k"]) == 0
    assert capsys.readouterr().out == f"{value!r}\n"


@pytest.mark.parametrize("text", ["5", "null", "true", '"é"', '{"a": [1, 2.5, "x"]}'])
def test_json_goes_in_and_out(url, capsys, text):
    """With --json a value is JSON both ways."""
    assert main(["set", "--url", url, "k", "--json", text]) == 0
    capsys.readouterr()
    assert main(["get", "--url", url, "--json", "k"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(text)


def test_json_number_counts(url):
    """A JSON number is stored as a number, which incr works on."""
    assert main(["set", "--url", url, "n", "--json", "41"]) == 0
    with ShardCache.from_url(url) as cache:
        assert cache.incr("n") == 42


def test_value_that_is_no_json(url, failing):
    """Broken JSON is refused before anything is stored."""
    assert "is not JSON" in failing(main(["set", "--url", url, "k", "--json", "{"]), 2)
    with ShardCache.from_url(url) as cache:
        assert "k" not in cache


def test_value_without_json_form(url, failing):
    """A value that JSON cannot say is an error with --json, not something similar."""
    with ShardCache.from_url(url) as cache:
        cache.set("k", {1, 2})
    assert "JSON" in failing(main(["get", "--url", url, "--json", "k"]), 2)


@pytest.mark.parametrize(
    ("given", "low", "high"), [("none", None, None), ("20", 1, 20)], ids=["none", "seconds"]
)
def test_ttl(url, given, low, high):
    """--ttl takes seconds, or none for no expiry."""
    assert main(["set", "--url", url, "k", "v", "--ttl", given]) == 0
    with ShardCache.from_url(url) as cache:
        left = cache.ttl("k")
    assert left is None if low is None else low <= left <= high


@pytest.mark.parametrize("given", ["0", "-3", "nan", "soon", "1e99"])
def test_wrong_ttl(url, capsys, given):
    """A ttl that is no time to keep something is refused in one line."""
    with pytest.raises(SystemExit) as caught:
        main(["set", "--url", url, "k", "v", f"--ttl={given}"])
    err = capsys.readouterr().err
    assert (caught.value.code, err.count("\n")) == (2, 1)
    assert repr(given) in err


def test_del_counts(url, capsys):
    """Del prints how many of the keys were there."""
    with ShardCache.from_url(url) as cache:
        cache.set_many({"a": 1, "b": 2})
    assert main(["del", "--url", url, "a", "b", "c"]) == 0
    assert capsys.readouterr().out == "2\n"
    with ShardCache.from_url(url) as cache:
        assert cache.get_many(["a", "b"]) == {}


@pytest.mark.parametrize(
    "arguments", [["get", ""], ["set", "", "v"], ["del", ""], ["where", ""]], ids=" ".join
)
def test_empty_key(url, failing, arguments):
    """A key that no cache takes is wrong input."""
    failing(main([*arguments, "--url", url]), 2)


def test_output_that_cannot_show_it(url, monkeypatch):
    """A terminal without the characters gets escapes, not an error."""
    with ShardCache.from_url(url) as cache:
        cache.set("k", "zażółć")
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert main(["get", "--url", url, "k"]) == 0
    assert out.buffer.getvalue() == b"za\\u017c\\xf3\\u0142\\u0107\n"
