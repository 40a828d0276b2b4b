"""The documentation site: ``tox -e site`` builds it, and a warning is an error."""

from importlib.metadata import version as installed

project = "shardcache"
author = "The shardcache developers"
project_copyright = "2026, The shardcache developers"
version = release = installed("shardcache")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "shardcache"

# Docstrings name Python objects in single backticks.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True


def list_parameters(app, what, name, obj, options, lines):
    """Make a list of the lines of a docstring that begin with a parameter, one each."""
    found, inside = [], False
    for line in lines:
        if line.startswith("``"):
            found += ["", f"- {line}"]
            inside = True
        elif inside and line.startswith(" "):
            found.append(f"  {line.strip()}")
        else:
            found += ["", line] if inside and line else [line]
            inside = False
    lines[:] = found


def setup(app):
    app.connect("autodoc-process-docstring", list_parameters)
