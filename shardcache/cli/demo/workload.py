"""Real work for the demo: measuring the source files of the standard library."""

import ast
import sysconfig
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ("find_sources", "library", "measure")

# Directories that are not measured: other packages, and tests, some of which have syntax errors.
SKIPPED = frozenset(
    {"__pycache__", "dist-packages", "idlelib", "lib2to3", "site-packages", "test", "tests"}
)
BLOCKS = (
    ast.If,
    ast.For,
    ast.While,
    ast.With,
    ast.Try,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Match,
)
BRANCHES = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.While,
    ast.ExceptHandler,
    ast.BoolOp,
    ast.comprehension,
    ast.match_case,
)


def library() -> str:
    """Return the directory of the standard library."""
    return sysconfig.get_path("stdlib")


def find_sources(root: str) -> list[str]:
    """Return the source files below ``root`` as sorted names such as ``json/decoder.py``."""
    base = Path(root)
    files = (path.relative_to(base) for path in base.rglob("*.py"))
    return sorted(path.as_posix() for path in files if SKIPPED.isdisjoint(path.parts))


def measure(root: str, name: str) -> dict[str, Any]:
    """Parse one file, and return its measures: some milliseconds of work, so worth caching.

    ``root``: the directory of the standard library.
    ``name``: the file, relative to ``root``.
    """
    # Parse, without the warnings about old escapes in old modules.
    with tokenize.open(Path(root, name)) as file:
        source = file.read()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
    # Count the kinds of nodes, and measure the functions.
    nodes = list(_nested(tree))
    kinds = Counter(type(node).__name__ for node, _ in nodes)
    functions = [
        node for node, _ in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    lengths = {node.name: (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions}
    longest = max(lengths, key=lambda function: lengths[function], default="")
    return {
        "file": name,
        "lines": source.count("\n"),
        "functions": len(functions),
        "classes": kinds["ClassDef"],
        "imports": kinds["Import"] + kinds["ImportFrom"],
        "branches": sum(isinstance(node, BRANCHES) for node, _ in nodes),
        "depth": max(depth for _, depth in nodes),
        "longest": {"name": longest, "lines": lengths.get(longest, 0)},
        "documented": sum(ast.get_docstring(node, clean=False) is not None for node in functions),
        "names": dict(
            Counter(node.id for node, _ in nodes if isinstance(node, ast.Name)).most_common(5)
        ),
    }


def _nested(tree: ast.AST) -> Iterator[tuple[ast.AST, int]]:
    """Yield every node with the number of blocks around it."""
    waiting = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        yield node, depth
        deeper = depth + isinstance(node, BLOCKS)
        for value in vars(node).values():  # ast.iter_child_nodes takes twice as long
            children = value if isinstance(value, list) else (value,)
            waiting.extend((child, deeper) for child in children if isinstance(child, ast.AST))
