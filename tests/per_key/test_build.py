"""The build: compiled where that works, pure Python where it does not, and never a failure."""

import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
INTERFACE = "hatchling.builders.hooks.plugin.interface"
pytestmark = pytest.mark.long  # it does not depend on the interpreter


class Hook:
    """The hook of ``hatch_build.py``, without hatchling, and what it did to the build."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, built: Any) -> None:
        interface = ModuleType(INTERFACE)
        interface.BuildHookInterface = object  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, INTERFACE, interface)
        found = runpy.run_path(str(ROOT / "hatch_build.py"))
        hook = found["CompileLoops"]()
        self.asked: list[Path] = []
        self.warnings: list[str] = []
        hook.root = str(ROOT)
        hook.app = SimpleNamespace(display_warning=self.warnings.append)

        def compiled(source: Path, folder: Path) -> Path:
            self.asked.append(source)
            if isinstance(built, BaseException):
                raise built
            return folder / built

        hook.initialize.__globals__["compiled"] = compiled
        self.initialize, self.finalize = hook.initialize, hook.finalize
        self.data: dict[str, Any] = {"force_include": {}, "pure_python": True}


@pytest.fixture(autouse=True)
def _not_pure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHARDCACHE_PURE", raising=False)


def test_what_was_compiled_lies_beside_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel is one for this interpreter and system then."""
    hook = Hook(monkeypatch, "_compiled.so")
    hook.initialize("standard", hook.data)
    [(built, place)] = hook.data["force_include"].items()
    assert (Path(built).name, place) == ("_compiled.so", "shardcache/per_key/_compiled.so")
    assert (hook.data["pure_python"], hook.data["infer_tag"]) == (False, True)
    assert [path.relative_to(ROOT).as_posix() for path in hook.asked] == [
        "shardcache/per_key/loops.py"
    ]
    hook.finalize("standard", hook.data, "")
    assert not Path(built).parent.exists()


@pytest.mark.parametrize(
    "error",
    [SystemExit("error: command 'cc' failed"), ImportError("No module named 'Cython'"), OSError()],
    ids=["compiler", "cython", "system"],
)
def test_a_build_goes_on_without_a_compiler(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """It warns, and the wheel is the one for all interpreters."""
    hook = Hook(monkeypatch, error)
    hook.initialize("standard", hook.data)
    assert hook.data == {"force_include": {}, "pure_python": True}
    assert len(hook.warnings) == 1
    assert "slower" in hook.warnings[0]
    hook.finalize("standard", hook.data, "")


@pytest.mark.parametrize(
    ("version", "pure", "asked"),
    [("standard", "1", 0), ("standard", "0", 1), ("standard", "", 1), ("editable", "", 0)],
)
def test_nothing_is_compiled_unasked(
    monkeypatch: pytest.MonkeyPatch, version: str, pure: str, asked: int
) -> None:
    """Not for an editable install, whose source will be edited, nor with SHARDCACHE_PURE."""
    monkeypatch.setenv("SHARDCACHE_PURE", pure)
    hook = Hook(monkeypatch, "_compiled.so")
    hook.initialize(version, hook.data)
    assert len(hook.asked) == asked
    hook.finalize(version, hook.data, "")
