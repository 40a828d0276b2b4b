"""The walks of ARCHITECTURE.md are true, and the paths that the pages name exist."""

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import shardcache

PACKAGE = Path(shardcache.__path__[0])
ROOT = Path(__file__).parent.parent
PAGE = ROOT / "ARCHITECTURE.md"
STEP = re.compile(r"^\d+\. `(?P<file>[\w/]+\.py)` `(?P<function>[\w.]+)`: ", re.MULTILINE)
WALKS = ("get", "get_many", "lock.acquire", "get_or_set")
# What pages call a file or folder: `wire/tls.py`, `flows/grouping.py::together`, `ballot.py`,
# `flows/lock/`.
NAMED = re.compile(r"`(?P<path>[\w.]+(?:/[\w.]+)*(?:\.py|/))(?:::(?P<name>\w+))?`")
PAGES = [ROOT / "README.md", PAGE, ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]

pytestmark = pytest.mark.skipif(
    not PAGE.is_file(), reason="the pages are not part of what was unpacked"
)


def walk(title: str, page: str) -> list[tuple[str, str]]:
    """Return the steps below the heading that begins with ``title``."""
    _, _, behind = page.partition(f"\n### `{title}`")
    section = re.split(r"^##", behind, maxsplit=1, flags=re.MULTILINE)[0]
    return [(step["file"], step["function"]) for step in STEP.finditer(section)]


def functions(source: str) -> set[str]:
    """Return the qualified names of what a module defines."""

    def below(node: ast.AST, prefix: str) -> Iterator[str]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                yield prefix + child.name
                if isinstance(child, ast.ClassDef):
                    yield from below(child, f"{prefix}{child.name}.")

    return set(below(ast.parse(source), ""))


def out_of_order(steps: list[Any], called: list[Any]) -> list[Any]:
    """Return the steps that are not called, or that are first called before the step above them."""
    wrong, last = [], -1
    for step in steps:
        at = called.index(step) if step in called else -1
        if at <= last:
            wrong.append(step)
        last = max(last, at)
    return wrong


def complaints(text: str, files: set[str]) -> list[str]:
    """Say which files and folders the text names that there are none of."""
    folders = {f"{parent}/" for file in files for parent in Path(file).parents}
    return [
        named["path"]
        for named in NAMED.finditer(text)
        if not any(
            known == named["path"] or known.endswith(f"/{named['path']}")
            for known in files | folders
        )
    ]


def rows(name: str, page: str) -> list[list[str]]:
    """Return the cells of the table between the two comments with ``name``."""
    [table] = re.findall(f"<!-- {name} -->(.*)<!-- end of {name} -->", page, re.DOTALL)
    return [
        [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        for line in table.strip().splitlines()[2:]
    ]


@pytest.fixture(scope="module")
def calls() -> Iterator[Any]:
    """The four calls over servers of their own; each says what it touched."""
    path = ROOT / "benchmarks" / "call_trace.py"
    if not path.is_file():
        pytest.skip("the benchmarks are not part of what was unpacked")
    spec = importlib.util.spec_from_file_location("call_trace_of_walks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.traced_calls() as lent:
        yield lent


@pytest.mark.parametrize("title", WALKS)
def test_steps_exist(title: str) -> None:
    """A walk has steps, and each is a function of the file that it names."""
    steps = walk(title, PAGE.read_text(encoding="utf-8"))
    assert len(steps) >= 10
    missing = [
        (file, function)
        for file, function in steps
        if not (PACKAGE / file).is_file()
        or function not in functions((PACKAGE / file).read_text(encoding="utf-8"))
    ]
    assert missing == []


@pytest.mark.parametrize("title", WALKS)
def test_steps_are_called_in_that_order(title: str, calls: Any) -> None:
    """On a traced run each step of a walk is first called after the step above it."""
    steps = walk(title, PAGE.read_text(encoding="utf-8"))
    assert out_of_order(steps, [tuple(step) for step in calls[title]()]) == []


def test_walk_out_of_order_is_seen() -> None:
    """The comparison catches a step that is not called, and one that comes too early."""
    assert out_of_order(["a", "c"], ["a", "b", "c"]) == []
    assert out_of_order(["a", "x", "c"], ["a", "b", "c"]) == ["x"]
    assert out_of_order(["b", "a", "c"], ["a", "b", "c"]) == ["a"]


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in PAGES])
def test_named_paths_exist(page: Path) -> None:
    """Every file and folder that a page names is there."""
    files = {
        path.relative_to(folder.parent).as_posix()
        for folder in (
            PACKAGE,
            *(ROOT / name for name in ("tests", "integration", "benchmarks", "docs", "examples")),
        )
        for path in folder.rglob("*.py")
    }
    assert complaints(page.read_text(encoding="utf-8"), files) == []


def test_missing_path_is_seen() -> None:
    """A name is of a whole file or folder, from any folder on."""
    files = {"shardcache/wire/tls.py", "shardcache/keys.py"}
    text = (
        "`wire/tls.py` `tls.py` `keys.py::distinct` `wire/` `ls.py` `wires/` `wire/keys.py` "
        "`redis://`"
    )
    assert complaints(text, files) == ["ls.py", "wires/", "wire/keys.py"]


def test_every_folder_is_in_the_table() -> None:
    """Each folder with modules has a row, which names a module of that folder to begin with."""
    table = {row[0]: row[3] for row in rows("folders", PAGE.read_text(encoding="utf-8"))}
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert table.keys() == {f"{path.relative_to(PACKAGE.parent).as_posix()}/" for path in folders}
    first = [PACKAGE.parent / folder / file for folder, file in table.items() if file]
    assert [path for path in first if not path.is_file()] == []


def test_every_module_says_what_it_is_about() -> None:
    """Each module begins with a sentence, which the command of that page prints."""
    heads = {path: path.read_text(encoding="utf-8")[:4] for path in PACKAGE.rglob("*.py")}
    assert [path for path, head in heads.items() if not re.match(r'"""\S', head)] == []
