"""The Python blocks of README.md and of the pages beside this file run, from top to bottom.

A block that cannot run says so, with the reason, in a comment that readers don't see:
``<!--- skip: next "needs three machines" -->``.
"""

from pathlib import Path
from unittest import SkipTest

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

DOCS = Path(__file__).parent
PAGES = [DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))]
READER = Sybil(parsers=[PythonCodeBlockParser(), SkipParser()], path=str(DOCS.parent))


@pytest.mark.parametrize("page", [pytest.param(page, id=page.stem) for page in PAGES])
def test_page_runs(page: Path, subtests: pytest.Subtests) -> None:
    """Every block of the page runs as it stands, in the names that the blocks above it left."""
    for example in READER.parse(page).examples():
        with subtests.test(line=example.line):
            try:
                example.evaluate()
            except SkipTest as reason:
                pytest.skip(f"{page.name}:{example.line}: {reason}")
