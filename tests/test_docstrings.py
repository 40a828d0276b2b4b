"""Public docstrings have a line for every parameter."""

import dataclasses
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from shardcache.embedded import find_server

pytestmark = pytest.mark.long  # it does not depend on the interpreter

ROOMS = (
    "shardcache",
    "shardcache.embedded",
    "shardcache.errors",
    "shardcache.fencing",
    "shardcache.testing",
    "shardcache.testing.simulation",
)
REFERENCE = Path(__file__).parent.parent / "docs" / "api.md"
WHOLE = {"shardcache.errors"}  # a module whose members the page shows one by one
# A line of a docstring that begins with one or more parameters.
PARAMETER = re.compile(r"^((?:``\w+``, )*``\w+``):", re.MULTILINE)
# Why a docstring need not have a line for its parameters.
EXCEPTIONS = {
    "shardcache.Pipeline": "`ShardCache.pipeline` makes it",
    "shardcache.AsyncPipeline": "`AsyncShardCache.pipeline` makes it",
    "shardcache.AsyncLockSet": "as `LockSet`",
    "shardcache.AsyncQuorumLock": "as `QuorumLock`, but for those that it has",
}


def named(docstring: str | None) -> set[str]:
    """Return the parameters that have a line in a docstring."""
    lines = PARAMETER.findall(inspect.cleandoc(docstring or ""))
    return {name for line in lines for name in re.findall(r"\w+", line)}


def parameters(function: Any) -> list[str]:
    """Return the public parameters of a function, without those that Python passes."""
    names = inspect.signature(function).parameters
    return [name for name in names if name not in ("self", "cls") and not name.startswith("_")]


def of_class(kind: type) -> list[str]:
    """Return the parameters of a class, or its fields."""
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind) if not field.name.startswith("_")]
    if issubclass(kind, tuple):
        return list(getattr(kind, "_fields", ()))
    if issubclass(kind, BaseException) or "__init__" not in {
        name for base in kind.__mro__[:-1] for name in vars(base)
    }:
        return []
    return parameters(kind.__init__)


def public() -> Iterator[tuple[str, list[str], set[str]]]:
    """Yield name, parameters and described parameters of all that is public."""
    for room in ROOMS:
        module = import_module(room)
        for name in module.__all__:
            one = getattr(module, name)
            if inspect.isclass(one):
                yield f"{room}.{name}", of_class(one), named(one.__doc__)
                yield from methods(f"{room}.{name}", one)
            elif inspect.isfunction(one):
                yield f"{room}.{name}", parameters(one), named(one.__doc__)


def methods(path: str, kind: type) -> Iterator[tuple[str, list[str], set[str]]]:
    """Yield the same of the methods of a class; the class may describe what is common to them."""
    for name, method in inspect.getmembers(kind, inspect.isroutine):
        module = getattr(method, "__module__", None) or ""
        if not name.startswith("_") and module.startswith("shardcache"):
            yield f"{path}.{name}", parameters(method), named(method.__doc__) | named(kind.__doc__)


@pytest.mark.parametrize(
    ("names", "described"),
    [pytest.param(names, described, id=path) for path, names, described in sorted(public())],
)
def test_each_parameter_has_a_line(names: list[str], described: set[str], request) -> None:
    """A reader finds unit, default and range of a parameter on a line that begins with it."""
    path = request.node.callspec.id
    missing = [name for name in names if name not in described]
    if path in EXCEPTIONS:
        assert missing, f"{path} needs no exception any more"
    else:
        assert missing == []


def test_parameter_without_a_line_is_seen() -> None:
    """Only a line that begins with the parameter counts, not a word in a sentence."""
    docstring = """Do it.

    ``one``: as above.
    ``two``, ``three``: the same; ``four``: not at the beginning.
        ``five``: a continued line.
    """
    assert named(docstring) == {"one", "two", "three"}
    assert parameters(lambda self, one, *two, _three=0, **four: self) == ["one", "two", "four"]


def test_help_shows_nothing_of_the_process() -> None:
    """A default that `help` prints is a short text: the environment, say, may have passwords."""
    modules = [import_module(room) for room in ROOMS]
    functions = [
        one for module in modules for one in vars(module).values() if inspect.isfunction(one)
    ]
    assert find_server in functions
    shown = {one.__name__: str(inspect.signature(one)) for one in functions}
    assert [name for name, text in shown.items() if "environ(" in text] == []


@pytest.mark.skipif(not REFERENCE.is_file(), reason="the pages are not part of what was unpacked")
@pytest.mark.parametrize("room", ["shardcache", "shardcache.embedded", "shardcache.testing"])
def test_reference_has_every_public_name(room: str) -> None:
    """The page that is made of the docstrings leaves out no name that users may import."""
    shown = set(re.findall(r":: (shardcache[\w.]+)$", REFERENCE.read_text(), re.MULTILINE))
    assert {f"{room}.{name}" for name in import_module(room).__all__} - shown - WHOLE == set()
