"""Nodes out of a file: one URL a line, or JSON.

What is read is believed only as a whole. A writer may be in the middle of it, so new content is
read twice, and lines need a last one that ends; JSON has an end of its own. The time of change is
not looked at: a file may be put in place of another with an older time, or be changed twice within
one tick of the file system's clock.
"""

import json
import os
import time
from collections.abc import Callable
from typing import Any, NoReturn

from shardcache.errors import DiscoveryFailed, InvalidArgument
from shardcache.topology.nodes import Nodes
from shardcache.urls import parse_url

__all__ = ("NodeFile", "nodes_from_file")

LARGEST = 1024 * 1024  # bytes
SETTLE = 0.05  # seconds between two reads of new content


def nodes_from_file(path: str | os.PathLike[str]) -> "NodeFile":
    """Return a source for ``nodes=``: the nodes that a file names.

    ``path``: of a file of at most 1 MiB in UTF-8, which has either one URL a line (empty lines and
        lines that begin with ``#`` do not count; the last line must end with a line break), or
        JSON: a list of URLs, or an object of names to URLs.

    Nothing is read before the first call of the client. A file that is missing, or half written,
    leaves the last good nodes in service. It is best replaced in one step: write another file, and
    rename it.
    """
    return NodeFile(path)


class NodeFile:
    """Reads the file each time it is called; see `nodes_from_file`.

    ``sleep``: waits for some seconds.

    Raises `DiscoveryFailed` for a file that cannot be read or is being written, and
    `InvalidArgument` for one with other content. No message quotes a line: it may hold a password.
    """

    __slots__ = ("_last", "_path", "_sleep", "shown")

    def __init__(
        self, path: str | os.PathLike[str], sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self._path = os.path.abspath(path)  # the program may change its directory
        self._sleep = sleep
        self._last: tuple[bytes, Nodes] = (b"", [])
        self.shown = f"nodes_from_file({self._path!r})"

    def __repr__(self) -> str:
        return self.shown

    def __call__(self) -> Nodes:
        raw = self._read()
        before, nodes = self._last
        if raw == before and raw:
            return nodes
        self._sleep(SETTLE)
        if self._read() != raw:
            self._fail("it is being written")
        nodes = self._parsed(raw)
        self._last = (raw, nodes)
        return nodes

    def _fail(self, reason: str) -> NoReturn:
        raise DiscoveryFailed(self.shown, reason)

    def _read(self) -> bytes:
        try:
            with open(self._path, "rb") as file:
                raw = file.read(LARGEST + 1)
        except OSError as error:
            self._fail(error.strerror or type(error).__name__)
        if len(raw) > LARGEST:
            self._fail(f"it is larger than {LARGEST} bytes")
        return raw

    def _parsed(self, raw: bytes) -> Nodes:
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            self._fail("it is not UTF-8")
        if not text.strip():
            self._fail("it is empty")
        return self._json(text) if text.lstrip()[0] in "[{" else self._lines(text)

    def _lines(self, text: str) -> list[str]:
        if not text.endswith(("\n", "\r")):
            self._fail("its last line does not end with a line break, as if half written")
        found = []
        for number, line in enumerate(text.splitlines(), 1):
            url = line.strip()
            if url and not url.startswith("#"):
                self._check(f"line {number}", url)
                found.append(url)
        if not found:
            self._fail("it has nothing but comments")
        return found

    def _json(self, text: str) -> Nodes:
        try:
            found = json.loads(text, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError) as error:
            where = f" ({error})" if isinstance(error, json.JSONDecodeError) else ""
            self._fail(f"it is not JSON, or half written{where}")
        if isinstance(found, _Pairs):
            names = [name for name, _ in found]
            if len(set(names)) < len(names):
                self._fail("it has one name twice")
            for name, url in found:
                self._check(f"node {name!r:.80}", url)
            found = dict(found)
        else:
            for number, url in enumerate(found, 1):
                self._check(f"URL {number}", url)
        if not found:
            self._fail("it names no nodes")
        nodes: Nodes = found
        return nodes

    def _check(self, where: str, url: Any) -> None:
        if not isinstance(url, str):
            self._fail(f"{where} is not a URL but {type(url).__name__}")
        try:
            parse_url(url)
        except InvalidArgument as error:
            self._fail(f"{where}: {error}")


class _Pairs(list[tuple[str, Any]]):
    """A JSON object before names that come twice are lost."""
