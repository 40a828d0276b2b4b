"""What prose names in backticks is there: pages, docstrings and comments follow the code."""

import ast
import builtins
import importlib
import io
import keyword
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import shardcache

pytestmark = pytest.mark.long  # it does not depend on the interpreter

PACKAGE = Path(shardcache.__path__[0])
ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
FILES = sorted(PACKAGE.rglob("*.py"))
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
NAME = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*(?:\(\))?\Z")
# A test with its file, a test of the file named before it, or a file alone.
PROOF = re.compile(r"(?P<file>(?:\w+/)*test_\w+\.py)?(?:::(?P<test>test_\w+))?\Z")
ENDINGS = frozenset({"md", "py", "toml", "ini"})
# What is not ours, or an example.
ELSEWHERE = {
    "redis-py": ("RedisCluster", "TokenInterface", "read_response"),
    "other clients": ("HashClient", "ShardClient", "pylibmc"),
    "settings of servers": ("everysec", "maxmemory", "noeviction"),
    "databases": ("CLIENT.FOUND_ROWS", "checks", "rename"),
    "Flask-Caching and cachelib": (
        "RedisCache",
        "Response",
        "delete_memoized",
        "get_dict",
        "memoize",
    ),
    "cachetools": ("cache_clear",),
    "HTTP and Starlette": (
        "Authorization",
        "ETag",
        "Expires",
        "Forwarded",
        "GZipMiddleware",
        "Host",
        "Range",
        "TrustedHostMiddleware",
        "Vary",
    ),
    "dogpile.cache": (
        "connection_kwargs",
        "connection_pool",
        "dogpile.cache.redis",
        "lock_blocking",
        "lock_prefix",
        "lock_sleep",
        "socket_timeout",
        "thread_local_lock",
    ),
    "Starlette": ("starsessions",),
    "Django and django-redis": (
        "cached_db",
        "django.core.cache.backends.redis.RedisCache",
        "django_redis.cache.RedisCache",
        "hset",
        "sadd",
    ),
    "asyncio": ("loop.shutdown_asyncgens", "loop.shutdown_asyncgens()"),
    "tools": ("noqa", "tox"),
    "texts": ("NaN", "false", "sNaN1", "true", "x"),
    "examples": ("module.qualname", "shop", "utils"),
    "labels of the user's metrics": ("shardcache_kind", "shardcache_shard"),
}
KNOWN_ELSEWHERE = {name for names in ELSEWHERE.values() for name in names}


class Names:
    """All names of some sources, and what each class has."""

    def __init__(self, sources: dict[str, str]) -> None:
        self.all: set[str] = set()
        self.members: dict[str, set[str]] = {}
        self.bases: dict[str, set[str]] = {}
        for path, source in sources.items():
            self.all |= set(Path(path).with_suffix("").parts)
            for node in ast.walk(ast.parse(source)):
                self.all |= set(names_of(node))
                if isinstance(node, ast.ClassDef):
                    found = {name for inner in ast.walk(node) for name in names_of(inner)}
                    self.members.setdefault(node.name, set()).update(found)
                    bases = {ast.unparse(base).partition("[")[0] for base in node.bases}
                    self.bases.setdefault(node.name, set()).update(bases)

    def has(self, kind: str, member: str) -> bool:
        """Say whether a class or one of its bases has a name; of foreign bases nothing is known."""
        if kind not in self.members:
            return kind not in {"ABC", "Generic", "NamedTuple", "Protocol", "Enum"}
        return member in self.members[kind] or any(
            self.has(base, member) for base in self.bases[kind] if base != kind
        )

    def knows(self, name: str) -> bool:
        """Say whether a name, or a chain of names, is there."""
        parts = name.removesuffix("()").split(".")
        if not set(parts) <= self.all:
            return False
        return len(parts) < 2 or parts[-2] not in self.members or self.has(*parts[-2:])


def names_of(node: ast.AST) -> Iterator[str]:
    """Yield the names of one node of a syntax tree, texts that are names among them."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
        case ast.Attribute():
            yield node.attr
        case ast.Name():
            yield node.id
        case ast.arg() | ast.keyword() if node.arg is not None:
            yield node.arg
        case ast.alias():
            yield from (node.asname or node.name).split(".")
        case ast.Constant(value=str(text)) if text.isidentifier():
            yield text


def is_foreign(name: str) -> bool:
    """Say whether Python or an installed package has this name."""
    parts = name.removesuffix("()").split(".")
    if hasattr(builtins, parts[0]) or keyword.iskeyword(name):
        return True
    for count in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        return all((found := getattr(found, part, None)) is not None for part in parts[count:])
    return False


def complaints(text: str, names: Names) -> list[str]:
    """Return the names in backticks that there are none of."""
    return sorted(
        span
        for span in set(SPAN.findall(text)) - KNOWN_ELSEWHERE
        if NAME.match(span)
        and span.rpartition(".")[2] not in ENDINGS
        and not (span.isupper() and "." not in span)  # a command of the server
        and not names.knows(span)
        and not is_foreign(span)
    )


def prose(source: str) -> str:
    """Return the docstrings and comments of a module."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    docstrings = [
        ast.get_docstring(node) or ""
        for node in ast.walk(ast.parse(source))
        if isinstance(node, documented)
    ]
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return "\n".join(docstrings + [one.string for one in tokens if one.type == tokenize.COMMENT])


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def names() -> Names:
    return Names({path.relative_to(PACKAGE.parent).as_posix(): read(path) for path in FILES})


def proofs(text: str) -> Iterator[tuple[str, str]]:
    """Yield file and name of each test that a page names."""
    file = ""
    for span in SPAN.findall(text):
        if (found := PROOF.match(span)) is None:
            continue
        if found["file"] is not None:
            beside = "" if "/" in found["file"] else f"{file.rpartition('/')[0]}/"
            file = beside + found["file"]
        if found["test"] is not None:
            yield file, found["test"]


@pytest.fixture(scope="module")
def tests() -> set[tuple[str, str]]:
    files = [path for folder in ("tests", "integration") for path in (ROOT / folder).rglob("*.py")]
    return {
        (path.relative_to(ROOT).as_posix(), name)
        for path in files
        for name in re.findall(r"def (test_\w+)", read(path))
    }


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in PAGES])
def test_page_names_what_there_is(page: Path, names: Names) -> None:
    """A name in backticks on a page is one of the package, of Python, or of those listed above."""
    assert complaints(read(page), names) == []


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=str(path.relative_to(PACKAGE))) for path in FILES]
)
def test_prose_of_a_module_names_what_there_is(path: Path, names: Names) -> None:
    """The same of the docstrings and comments of each module."""
    assert complaints(prose(read(path)), names) == []


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in PAGES])
def test_named_tests_exist(page: Path, tests: set[tuple[str, str]]) -> None:
    """Each test that a page names as proof is there, in the file that the page names."""
    assert set(proofs(read(page))) - tests == set()


def test_proofs_are_read() -> None:
    """A test without a file is in the file before it, a file without a folder beside that."""
    text = "| test, in `tests/a/test_b.py` | `::test_c`, `test_d.py::test_e` `get` `x.py::test_f` |"
    assert list(proofs(text)) == [
        ("tests/a/test_b.py", "test_c"),
        ("tests/a/test_d.py", "test_e"),
    ]


def test_missing_names_are_seen() -> None:
    """The check catches a name that is nowhere, and one that its class does not have."""
    names = Names(
        {"house/door.py": "class Door(Protocol):\n    lock: str\n    def open(self): ..."}
    )
    text = "`Door` `Door.open` `Door.lock` `door.Door` `open()` `EVAL` `a b` `keys.md` `dict.items`"
    assert complaints(text, names) == []
    assert complaints("`Window` `Door.close()` ``x.y`` `os.pathh`", names) == [
        "Door.close()",
        "Window",
        "os.pathh",
    ]
