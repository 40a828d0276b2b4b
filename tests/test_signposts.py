"""Long functions have signposts: comments of their own lines that say what the next step does."""

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.long  # it does not depend on the interpreter

PACKAGE = Path(__file__).parents[1] / "shardcache"
LONG = 25  # lines of code
LEAST = 0.04  # comments on lines of their own, per line of code


def comment_lines(source: str) -> set[int]:
    """Return the numbers of the lines that have nothing but a comment."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]
        for token in tokens
        if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#")
    }


def long_functions(source: str) -> Iterator[tuple[str, float]]:
    """Yield each long function of a module, and how many signposts it has per line of code."""
    comments = comment_lines(source)
    lines = source.split("\n")
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        body = function.body[1:] if ast.get_docstring(function) is not None else function.body
        if not body:
            continue
        within = range(body[0].lineno, (function.end_lineno or 0) + 1)
        code = [number for number in within if lines[number - 1].strip() and number not in comments]
        # A signpost may stand above the first step.
        signposts = [number for number in comments if function.lineno < number <= within[-1]]
        if len(code) > LONG:
            yield function.name, len(signposts) / len(code)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=str(path.relative_to(PACKAGE)))
        for path in sorted(PACKAGE.rglob("*.py"))
    ],
)
def test_long_functions_have_signposts(path: Path) -> None:
    """A function of more than 25 lines of code has a signpost for each 25 of them."""
    found = dict(long_functions(path.read_text(encoding="utf-8")))
    assert {name: share for name, share in found.items() if share < LEAST} == {}


@pytest.mark.parametrize(
    ("signposts", "found"), [(0, [("f", 0.0)]), (1, [("f", 1 / 30)]), (3, [("f", 0.1)])]
)
def test_rule_counts_signposts(signposts: int, found: list[tuple[str, float]]) -> None:
    """Docstrings, empty lines and comments behind code do not count."""
    step = "    step()  # a remark\n"
    source = 'def f():\n    """Do it.\n\n    # no comment\n    """\n' + 15 * step + "\n"
    source += signposts * "    # Then the rest.\n" + 15 * step
    assert list(long_functions(source)) == found
    assert list(long_functions(source.replace(15 * step, step))) == []
