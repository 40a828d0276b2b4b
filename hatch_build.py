"""Compiles `shardcache.per_key.loops` into the wheel, if there is a C compiler; else nothing.

The result lies beside its source, as ``shardcache/per_key/_compiled``. ``SHARDCACHE_PURE`` (any
text but ``0``) asks for a wheel without it. An editable install has none: it would go on running
after its source was edited.
"""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = "shardcache/per_key/loops.py"
MODULE = "shardcache.per_key._compiled"


class CompileLoops(BuildHookInterface):
    """The hook that hatchling runs before it puts a wheel together."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable" or os.environ.get("SHARDCACHE_PURE", "0") not in {"", "0"}:
            return
        # What lies in there is wanted until the wheel is written.
        self._folder = TemporaryDirectory()
        try:
            built = compiled(Path(self.root, SOURCE), Path(self._folder.name))
        except (Exception, SystemExit) as error:  # whatever a compiler, or its absence, may raise
            self.app.display_warning(
                f"shardcache is built without its compiled part, and is slower: {error}"
            )
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"][str(built)] = f"shardcache/per_key/{built.name}"

    def finalize(self, _version: str, _build_data: dict[str, Any], _artifact_path: str) -> None:
        if hasattr(self, "_folder"):
            self._folder.cleanup()


def compiled(source: Path, folder: Path) -> Path:
    """Compile ``source`` in ``folder``; return the extension module."""
    # Imported here: a build of the source archive needs neither.
    from Cython.Build import cythonize
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    copy = folder / "_compiled.py"
    copy.write_bytes(source.read_bytes())
    extensions = cythonize(
        [Extension(MODULE, [str(copy)], extra_compile_args=["-g0"])],
        build_dir=str(folder / "c"),
        compiler_directives={"language_level": "3", "binding": True},
        force=True,
        quiet=True,
    )
    command = build_ext(Distribution({"name": "shardcache", "ext_modules": extensions}))
    command.build_lib = str(folder / "lib")
    command.build_temp = str(folder / "objects")
    command.ensure_finalized()
    command.run()
    (built,) = (folder / "lib").rglob("_compiled*")
    return built


if __name__ == "__main__":
    # For a look at it without a wheel: `python hatch_build.py FOLDER`.
    print(compiled(Path(SOURCE), Path(sys.argv[1])))
