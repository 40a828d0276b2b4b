"""Rules of the house that a reader relies on, checked on the package as it is installed."""

import ast
import os
import re
import sysconfig
from importlib.metadata import distribution, version
from pathlib import Path, PurePosixPath
from statistics import median
from symtable import symtable

import pytest

import shardcache
from shardcache.exports import HOMES

pytestmark = pytest.mark.long  # it does not depend on the interpreter

PACKAGE = Path(shardcache.__path__[0])
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 500
MEDIAN = 150

each_file = pytest.mark.parametrize(
    "path", [pytest.param(path, id=str(path.relative_to(PACKAGE))) for path in FILES]
)
each_package = pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=str(path.relative_to(PACKAGE)))
        for path in FILES
        if path.name == "__init__.py"
    ],
)
installed = pytest.mark.skipif(
    "SHARDCACHE_EXPECT_INSTALLED" not in os.environ,
    reason="only where tox has installed the built wheel",
)


def line_count(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


@installed
def test_package_under_test_is_the_installed_wheel() -> None:
    """Under tox the tests see what users get, never the checkout."""
    assert Path(sysconfig.get_path("purelib")) in PACKAGE.parents


@installed
def test_wheel_holds_the_package_only() -> None:
    """No tests, tools or stray files end up in a user's site-packages."""
    tops = {PurePosixPath(file).parts[0] for file in distribution("shardcache").files or ()}
    tops = {top for top in tops if top != ".." and not top.endswith(".dist-info")}
    assert tops == {"shardcache"}


def test_version_has_one_source() -> None:
    """The package says its version, and its metadata repeat it."""
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|(a|b|rc)\d+)?", shardcache.__version__)
    if "SHARDCACHE_EXPECT_INSTALLED" in os.environ:
        assert version("shardcache") == shardcache.__version__


def test_package_is_typed() -> None:
    """Type checkers read the annotations: the marker of PEP 561 is shipped."""
    assert (PACKAGE / "py.typed").is_file()


@each_file
def test_file_is_short(path: Path) -> None:
    """No file is longer than one sitting."""
    assert line_count(path) <= LONGEST


def test_typical_file_is_short() -> None:
    """One noun a file: half of the files are read in a few minutes."""
    assert median(map(line_count, FILES)) <= MEDIAN


@each_file
def test_file_is_named_for_its_noun(path: Path) -> None:
    """There is no drawer for things without a place."""
    assert path.stem.strip("_") not in {"util", "utils", "helper", "helpers", "misc", "common"}


@each_file
def test_module_opens_with_a_docstring(path: Path) -> None:
    """Every module says what it is for, unless it is an empty package marker."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not tree.body or ast.get_docstring(tree)


@each_file
def test_public_names_are_a_tuple(path: Path) -> None:
    """`__all__` is there, a tuple, and everything in it is defined."""
    source = path.read_text(encoding="utf-8")
    declared = [
        statement.value
        for statement in ast.parse(source).body
        if isinstance(statement, ast.Assign)
        and [target.id for target in statement.targets if isinstance(target, ast.Name)]
        == ["__all__"]
    ]
    if path.name in ("__init__.py", "__main__.py") and not declared:
        return
    [value] = declared
    assert isinstance(value, ast.Tuple)
    names = [ast.literal_eval(element) for element in value.elts]
    assert len(set(names)) == len(names)
    assert set(names) - defined(source, path) == set()


@each_package
def test_package_init_only_passes_names_on(path: Path) -> None:
    """An `__init__.py` holds a docstring, imports, `__all__` and the version, no logic."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    statements = []
    for statement in tree.body[1:]:  # the docstring
        for_checkers = (
            isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING"
        )
        statements += [*statement.body, *statement.orelse] if for_checkers else [statement]
    others = [
        ast.unparse(statement)
        for statement in statements
        if not isinstance(statement, ast.Import | ast.ImportFrom)
        and not (
            isinstance(statement, ast.Assign)
            and ast.unparse(statement.targets[0]) in ("__all__", "__version__")
        )
    ]
    assert others == []


def test_top_level_exports_exist() -> None:
    """Every name that the package promises is there."""
    assert isinstance(shardcache.__all__, tuple)
    assert [name for name in shardcache.__all__ if not hasattr(shardcache, name)] == []


def test_lazy_exports_are_the_promised_ones() -> None:
    """What type checkers see, what `__all__` promises, and what can be imported are the same."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    [block] = [statement for statement in tree.body if isinstance(statement, ast.If)]
    seen = {
        (statement.module, alias.name)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    lazy = {(f"shardcache.{module}", name) for module, names in HOMES.items() for name in names}
    assert seen == {*lazy, ("shardcache", "errors")}
    assert {name for _, name in seen} == set(shardcache.__all__)
    assert set(shardcache.__all__) <= set(dir(shardcache))


def test_unknown_name_of_the_package() -> None:
    """A name that the package does not have is an AttributeError that says so."""
    with pytest.raises(AttributeError, match="'shardcache' has no attribute 'ShardCashe'"):
        shardcache.ShardCashe  # noqa: B018


def defined(source: str, path: Path) -> set[str]:
    """Return the names that a module binds at its top level."""
    return {
        symbol.get_name()
        for symbol in symtable(source, str(path), "exec").get_symbols()
        if symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
    }
