"""Names that somebody outside of the code may use are told in the documentation."""

import re
from pathlib import Path

import pytest

import shardcache

PACKAGE = Path(shardcache.__path__[0])
ROOT = Path(__file__).parent.parent
VARIABLE = re.compile(r"\bSHARDCACHE_[A-Z_]+\b")
TOLD = {
    name
    for page in (*ROOT.glob("docs/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md")
    for name in VARIABLE.findall(page.read_text(encoding="utf-8"))
}
# Between the tests of one machine, and set by them.
INNER = {"SHARDCACHE_EXPECT_COMPILED", "SHARDCACHE_EXPECT_INSTALLED", "SHARDCACHE_TEST_MARK"}


@pytest.mark.parametrize(
    "folder",
    [PACKAGE, ROOT / "tests", ROOT / "integration"],
    ids=["package", "tests", "integration"],
)
def test_environment_variables_are_documented(folder: Path) -> None:
    """Each environment variable that is read is in docs/ or, for developers, in CONTRIBUTING.md."""
    named = {
        name
        for file in folder.rglob("*.py")
        for name in VARIABLE.findall(file.read_text(encoding="utf-8"))
    }
    assert named - INNER <= TOLD
