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
