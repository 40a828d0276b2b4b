"""Imports go down only: each module stands on a floor, and sees the floors below it.

The map is the one in ARCHITECTURE.md. A module that is on no floor fails, so that
whoever adds one decides where it belongs.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import shardcache

pytestmark = pytest.mark.long  # it does not depend on the interpreter

PACKAGE = Path(shardcache.__path__[0])
PAGE = Path(__file__).parent.parent / "ARCHITECTURE.md"

# The first dotted part below the package decides.
FLOORS = (
    (
        "address_map",
        "errors",
        "events",
        "hooks",
        "near_cache",
        "options",
        "request_deadline",
        "results",
        "stats",
        "value_type",
        "votes",
    ),
    (
        "codecs",
        "key_templates",
        "keys",
        "per_key",
        "placement",
        "policy",
        "refusals",
        "resp",
        "topology",
        "ttl",
        "url_options",
        "urls",
    ),
    ("flows",),
    ("system", "wire"),
    # They face the operating system and the network, and know nothing of the client.
    ("discovery", "drivers", "embedded"),
    (
        "async_client",
        "async_locks",
        "async_many",
        "client",
        "client_base",
        "loading",
        "locks",
        "mapping",
        "pipeline",
        "sync_locks",
        "sync_many",
        "turns",
    ),
    ("bench", "cli", "contrib", "fencing", "testing"),
)
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
# module -> why it may have the name of the function in it. A folder that passes the function on
# hides the module behind it.
NAMED_AS_FUNCTION = {
    "locks.voter_nodes": "users import from it (docs/locks.md)",
}
# They only pass names on, or start the command line.
EXEMPT = ("__init__", "__main__", "exports")
FLOWS, WIRE, EDGE = FLOOR_OF["flows"], FLOOR_OF["wire"], FLOOR_OF["cli"]

# Drivers of the servers: the wire talks to them, and what stands on the client may (a fault proxy,
# an adapter).
PEERS = {"redis", "hiredis"}
# What a pure floor must get as an argument: the network, threads, tasks, clocks and chance.
IMPURE = {
    "asyncio",
    "multiprocessing",
    "random",
    "secrets",
    "select",
    "selectors",
    "socket",
    "ssl",
    "threading",
    "time",
}
# module -> the impure modules that it may import, and why.
ALLOWED: dict[str, dict[str, str]] = {
    "request_deadline": {"time": "a caller's `with` begins now, by the clock of all drivers"},
}


def modules() -> Iterator[tuple[str, str]]:
    """Yield the dotted name below the package, and the source, of every module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield (
            ".".join(path.relative_to(PACKAGE).with_suffix("").parts),
            path.read_text(encoding="utf-8"),
        )


def imports(name: str, source: str) -> Iterator[tuple[str, int]]:
    """Yield every module that the source imports, in absolute terms, with the line."""
    # `from . import x` counts from the folder, which for a package's own __init__ is the same as
    # for its modules.
    folder = ["shardcache", *name.split(".")[:-1]]
    for statement in ast.walk(ast.parse(source)):
        match statement:
            case ast.Import(names=aliases):
                for alias in aliases:
                    yield alias.name, statement.lineno
            case ast.ImportFrom(module=module, names=aliases, level=level):
                base = folder[: len(folder) - level + 1] if level else []
                target = ".".join([*base, *([module] if module else [])])
                if target == "shardcache":
                    for alias in aliases:
                        yield f"shardcache.{alias.name}", statement.lineno
                else:
                    yield target, statement.lineno


def violations(name: str, source: str) -> list[str]:
    """Say what the module imports that it must not."""
    if name in EXEMPT:
        return []
    head = name.split(".", maxsplit=1)[0]
    if head not in FLOOR_OF:
        return [f"{name}: on no floor; add {head!r} to FLOORS, and to ARCHITECTURE.md"]
    floor = FLOOR_OF[head]
    found = []
    for target, line in imports(name, source):
        root, _, rest = target.partition(".")
        if root == "shardcache":
            other = rest.split(".")[0]
            if other not in FLOOR_OF:
                found.append(f"{name}:{line}: imports {target}: name the module that defines it")
            elif FLOOR_OF[other] > floor:
                found.append(
                    f"{name}:{line}: floor {floor} imports {target} of floor {FLOOR_OF[other]}"
                )
        elif root in PEERS and floor not in (WIRE, EDGE):
            found.append(f"{name}:{line}: imports {root}, which only the wire may")
        elif root in IMPURE and floor <= FLOWS and root not in ALLOWED.get(name, {}):
            found.append(f"{name}:{line}: a pure floor imports {root}: take it as an argument")
    return found


def named_as(name: str, source: str) -> list[str]:
    """Return the function or class that a module defines under its own name."""
    last = name.rpartition(".")[2]
    return [
        statement.name
        for statement in ast.parse(source).body
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and statement.name == last
    ]


def test_no_module_is_named_as_its_function() -> None:
    """A module has no function of its own name, which would hide it; every exception is needed."""
    found = {name for name, source in modules() if named_as(name, source)}
    assert found == set(NAMED_AS_FUNCTION)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        pytest.param("def get_or_load(): ...", ["get_or_load"], id="function"),
        pytest.param("async def get_or_load(): ...", ["get_or_load"], id="coroutine"),
        pytest.param("class get_or_load: ...", ["get_or_load"], id="class"),
        pytest.param("class A:\n    def get_or_load(self): ...", [], id="method"),
        pytest.param("def get_or_load_flow(): ...", [], id="another-name"),
    ],
)
def test_rule_of_module_names(source: str, found: list[str]) -> None:
    """The rule looks at what stands at the top of a module."""
    assert named_as("flows.load.get_or_load", source) == found


def test_floors_name_what_exists() -> None:
    """A room that is gone leaves the map."""
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert set(FLOOR_OF) - there == set()


@pytest.mark.parametrize(
    ("name", "source"), [pytest.param(*module, id=module[0]) for module in modules()]
)
def test_module_imports_only_from_below(name: str, source: str) -> None:
    """No module of the package imports from a higher floor, or what its floor must be given."""
    assert violations(name, source) == []


def test_every_exception_is_used() -> None:
    """An exception for an import that is gone goes too."""
    used = {
        name: {target for target, _ in imports(name, source)} & ALLOWED[name].keys()
        for name, source in modules()
        if name in ALLOWED
    }
    assert used == {name: set(reasons) for name, reasons in ALLOWED.items()}


@pytest.mark.parametrize(
    ("name", "source", "complaint"),
    [
        pytest.param(
            "keys",
            "from shardcache.wire.sync.pool import Pool",
            "floor 1 imports shardcache.wire.sync.pool",
            id="up",
        ),
        pytest.param(
            "keys",
            "def f():\n    import shardcache.client",
            "keys:2: floor 1 imports",
            id="up-later",
        ),
        pytest.param(
            "codecs.safe",
            "from ..flows import steps",
            "floor 1 imports shardcache.flows",
            id="up-relative",
        ),
        pytest.param(
            "codecs.safe", "from .. import cli", "floor 1 imports shardcache.cli", id="up-package"
        ),
        pytest.param(
            "client",
            "from shardcache import Node",
            "name the module that defines it",
            id="through-the-top",
        ),
        pytest.param(
            "client", "import redis.exceptions", "imports redis, which only the wire may", id="peer"
        ),
        pytest.param(
            "flows.load", "from time import monotonic", "a pure floor imports time", id="clock"
        ),
        pytest.param(
            "placement.ring", "import random as r", "a pure floor imports random", id="chance"
        ),
        pytest.param("helpers", "", "on no floor", id="homeless"),
    ],
)
def test_rule_catches(name: str, source: str, complaint: str) -> None:
    """The rule sees a forbidden import however it is written."""
    [found] = violations(name, source)
    assert complaint in found


@pytest.mark.skipif(not PAGE.is_file(), reason="the page is not part of what was unpacked")
@pytest.mark.parametrize("floor", range(len(FLOORS)))
def test_page_has_the_same_floors(floor: int) -> None:
    """The row of a floor in ARCHITECTURE.md names all modules and folders that stand there."""
    [row] = re.findall(rf"^\| F{floor} \|.*", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    named = {span.rstrip("/") for span in re.findall(r"`([^`]+)`", row)}
    assert set(FLOORS[floor]) - named == set()


@pytest.mark.parametrize(
    ("name", "source"),
    [
        pytest.param(
            "wire.sync.connection",
            "import time, socket\nimport redis\nfrom shardcache.keys import x",
            id="wire",
        ),
        pytest.param(
            "codecs.safe",
            "from .envelope import seal\nfrom shardcache.errors import x",
            id="sibling",
        ),
        pytest.param("cli.demo", "import redis, time\nfrom ..client import ShardCache", id="edge"),
        pytest.param("__main__", "from shardcache.cli import main", id="exempt"),
    ],
)
def test_rule_allows(name: str, source: str) -> None:
    """The rule lets a module see its own floor and those below."""
    assert violations(name, source) == []
