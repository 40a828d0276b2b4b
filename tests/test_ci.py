"""What a failed run of `.ci/run` says last: which tests failed, and why."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FAILURES = Path(__file__).parents[1] / ".ci" / "failures.py"
TESTS = '''
import pytest

@pytest.fixture
def broken():
    raise RuntimeError("no fixture")

@pytest.mark.parametrize("number", [1, 2])
def test_sum(number):
    assert number + 1 == 2
    print("of a test that passed")

def test_talks():
    """Its error is far above its last line."""
    for number in range(100):
        print("line", number)
    raise ValueError("far above")

def test_needs(broken):
    pass
'''


def said(log: str, folder: Path) -> list[str]:
    """What is said at the end of a run that printed ``log``."""
    path = folder / "tox.log"
    path.write_text(log, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, FAILURES, path], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("colour", ["no", "yes"])
def test_failed_tests_are_said_last(tmp_path: Path, colour: str) -> None:
    """Each name with its environment; above them each error, however much its test printed."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    (tmp_path / "test_it.py").write_text(TESTS, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-ra", f"--color={colour}", "test_it.py"]
    ran = subprocess.run(
        [*command, "-p", "no:cacheprovider"],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        text=True,
        timeout=100,
    )
    assert ran.returncode == 1
    before = "lint: commands[0]> ruff check .\nlowest: commands[0] /tmp> pytest\n"
    lines = said(f"{before}{ran.stdout}integration: commands[0]> pytest\n", tmp_path)
    assert {line.partition(" - ")[0] for line in lines[-3:]} == {
        "lowest: FAILED test_it.py::test_sum[2]",
        "lowest: FAILED test_it.py::test_talks",
        "lowest: ERROR test_it.py::test_needs",
    }
    assert sum(line.startswith("lowest: _") for line in lines) == 3
    assert "E       ValueError: far above" in lines
    assert "E       RuntimeError: no fixture" in lines
    assert "line 99" in lines
    assert "line 0" not in lines


def test_a_run_without_failed_tests_says_none(tmp_path: Path) -> None:
    """Where something else failed, or nothing was tested, there is nothing to repeat."""
    assert said("lint: commands[0]> ruff check .\nE501 Line too long\n1 passed\n", tmp_path) == []
