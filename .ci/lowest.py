"""Install exactly the lower bounds that the installed shardcache declares.

Reads the wheel's own metadata, so that there is no second list of versions to
keep. Tools that only tests and benchmarks use are left alone.
"""

import subprocess
import sys
from importlib.metadata import requires, version

from packaging.requirements import Requirement
from packaging.version import Version

EXTRAS = ("", "cli", "dns", "embedded", "zstd")

declared = [Requirement(line) for line in requires("shardcache") or ()]
bounds = {
    requirement.name: spec.version
    for requirement in declared
    for spec in requirement.specifier
    if spec.operator == ">="
    and (
        requirement.marker is None
        or any(requirement.marker.evaluate({"extra": extra}) for extra in EXTRAS)
    )
}
pins = [f"{name}=={bound}" for name, bound in bounds.items()]
subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *pins], check=True)
for name, bound in bounds.items():
    if Version(version(name)) != Version(bound):
        sys.exit(f"{name}: wanted {bound}, have {version(name)}")
    print(f"{name} {bound}")
