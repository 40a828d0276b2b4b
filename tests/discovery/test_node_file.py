"""Nodes out of a file: lines and JSON, and files that are half written."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardcache import errors, nodes_from_file
from shardcache.discovery.node_file import LARGEST, NodeFile
from shardcache.topology.nodes import members


def source_of(path: Path, meanwhile: Callable[[], object] = lambda: None) -> NodeFile:
    """Return a source that does something instead of waiting between two reads."""
    return NodeFile(path, lambda _: meanwhile())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("redis://h1\n", ["redis://h1"], id="line"),
        pytest.param("h1:1\r\n\r\n# more\r\n  h2:2  \r\n", ["h1:1", "h2:2"], id="lines"),
        pytest.param("\ufeffredis://h1\n", ["redis://h1"], id="bom"),
        pytest.param('["redis://h1", "h2:1"]', ["redis://h1", "h2:1"], id="list"),
        pytest.param('\n {"a": "redis://h1"}', {"a": "redis://h1"}, id="object"),
    ],
)
def test_forms(tmp_path, text, expected) -> None:
    """One URL a line, a list, or an object of names to URLs; what a client takes."""
    path = tmp_path / "nodes"
    path.write_bytes(text.encode())
    found = source_of(path)()
    assert found == expected
    assert members(found)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        pytest.param(b"", "it is empty", id="empty"),
        pytest.param(b" \n\n", "it is empty", id="blank"),
        pytest.param(b"# none\n", "nothing but comments", id="comments"),
        pytest.param(b"redis://h1\nredis://h2", "as if half written", id="no-last-break"),
        pytest.param(b"redis://h1\n\nredis://:secret@h2:x\n", "line 3: .*port", id="line"),
        pytest.param(b'["redis://h1",', "not JSON, or half written", id="half-list"),
        pytest.param(b'{"a": "redis://h1"', "not JSON, or half written", id="half-object"),
        pytest.param(b"[" * 100_000, "not JSON, or half written", id="deep"),
        pytest.param(b"[]", "it names no nodes", id="empty-list"),
        pytest.param(b"{}", "it names no nodes", id="empty-object"),
        pytest.param(b"[1]", "URL 1 is not a URL but int", id="number"),
        pytest.param(b'{"a": {"url": "secret"}}', "node 'a' is not a URL", id="object-of-objects"),
        pytest.param(b'{"a": "redis://:secret@h:x"}', "node 'a': .*port", id="wrong-url"),
        pytest.param(b'{"a": "h:1", "a": "h:2"}', "one name twice", id="twice"),
        pytest.param(b"redis://h\xff\n", "not UTF-8", id="bytes"),
        pytest.param(b"#" * LARGEST + b"\n", "larger than", id="large"),
    ],
)
def test_what_is_not_believed(tmp_path, raw, why) -> None:
    """A file that is no list of nodes, or half of one, is an error that quotes no secret."""
    path = tmp_path / "nodes"
    path.write_bytes(raw)
    with pytest.raises(errors.DiscoveryFailed, match=why) as caught:
        source_of(path)()
    assert "secret" not in str(caught.value)


def test_missing_file(tmp_path) -> None:
    """The path is checked when it is read, not before; a folder is no file."""
    for path in (tmp_path / "none", tmp_path):
        source = nodes_from_file(path)
        with pytest.raises(errors.DiscoveryFailed, match=r"No such file|directory") as caught:
            source()
        assert str(path) in repr(source)
        assert str(path) in str(caught.value)


def test_file_that_is_being_written(tmp_path) -> None:
    """Content that changes between two reads is not believed, until it stays."""
    path = tmp_path / "nodes"
    path.write_text("redis://h1\n")

    def write_on() -> None:
        with path.open("a") as file:
            file.write("redis://h2\n")

    source = source_of(path, write_on)
    with pytest.raises(errors.DiscoveryFailed, match="being written"):
        source()
    assert source_of(path)() == ["redis://h1", "redis://h2"]


def test_time_of_change_does_not_count(tmp_path) -> None:
    """A file that is replaced by one of the same time and size is seen."""
    path = tmp_path / "nodes"
    path.write_text("redis://h1\n")
    source = source_of(path)
    assert source() == ["redis://h1"]
    before = path.stat()
    path.write_text("redis://h2\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert source() == ["redis://h2"]


def test_unchanged_file_is_read_once(tmp_path) -> None:
    """There is no second look, and no pause, at what is believed already."""
    path = tmp_path / "nodes"
    path.write_text("redis://h1\n")
    pauses: list[None] = []
    source = source_of(path, lambda: pauses.append(None))
    assert [source() for _ in range(3)] == [["redis://h1"]] * 3
    assert len(pauses) == 1


def test_directory_of_the_program(tmp_path, monkeypatch) -> None:
    """A relative path stays the same file when the program changes its directory."""
    (tmp_path / "nodes").write_text("redis://h1\n")
    monkeypatch.chdir(tmp_path)
    source = nodes_from_file("nodes")
    monkeypatch.chdir("/")
    assert source() == ["redis://h1"]


names = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=20)
hosts = st.from_regex(r"[a-z]{1,10}", fullmatch=True)


@given(st.dictionaries(names, hosts, min_size=1), st.data())
def test_no_half_of_a_json_file_is_believed(tmp_path_factory, nodes, data) -> None:
    """However much is missing at the end, what is left is an error, never fewer nodes."""
    path = tmp_path_factory.mktemp("files") / "nodes"
    raw = json.dumps({name: f"redis://{host}" for name, host in nodes.items()}).encode()
    path.write_bytes(raw)
    assert source_of(path)() == json.loads(raw)
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw) - 1))])
    with pytest.raises(errors.DiscoveryFailed):
        source_of(path)()


def test_replaced_while_it_is_read(tmp_path) -> None:
    """Files that are renamed into place are read as the old or the new one, never as a mixture."""
    path = tmp_path / "nodes"
    contents = [["redis://h1\n"], ["redis://h2\n"], [f"redis://h{n}\n" for n in range(50)]]
    path.write_text("".join(contents[0]))
    stop = threading.Event()

    def replace() -> None:
        at = 0
        while not stop.is_set():
            at += 1
            other = tmp_path / "other"
            other.write_text("".join(contents[at % 3]))
            other.rename(path)

    writer = threading.Thread(target=replace)
    writer.start()
    good: list[Any] = []
    bad: list[str] = []
    try:
        source = source_of(path)
        for _ in range(300):
            try:
                found = source()
            except errors.DiscoveryFailed as error:
                bad.append(error.reason)
            else:
                good.append([f"{line}\n" for line in found])
    finally:
        stop.set()
        writer.join()
    assert all(one in contents for one in good)
    assert set(bad) <= {"it is being written"}
