"""Sphinx configuration: MyST pages, executed by myst-nb; the interface read from docstrings."""

from __future__ import annotations

import re

import latentcause

project = "latentcause"
author = "The latentcause developers"
project_copyright = author
release = version = latentcause.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "**/jupyter_execute", "**/.ipynb_checkpoints"]
html_theme = "furo"
html_title = f"latentcause {release}"

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

# Every page runs at every build, in an empty folder; an example that fails, fails the build.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
napoleon_google_docstring = False
napoleon_use_rtype = False
# Words such as "shape" and "nodes" in the types of docstrings are also attributes of several classes: none of them is meant.
suppress_warnings = ["ref.python"]


def setup(app: object) -> None:
    """Leave out what nobody calls, and take docstrings as the plain text that they are."""
    app.connect("autodoc-skip-member", leave_out)  # type: ignore[attr-defined]
    app.connect("autodoc-process-docstring", as_plain_text)  # type: ignore[attr-defined]


def leave_out(app: object, what: str, name: str, obj: object, skipped: bool, options: object) -> bool:
    """The ``set_fit_request`` and the like that scikit-learn gives every estimator: nothing here routes metadata."""
    return skipped or (name.startswith("set_") and name.endswith("_request"))


def as_plain_text(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """To reStructuredText, |z| is a name to put in, (n, *shape) begins emphasis, e_-i is a link, ``K. Yang`` begins a list."""
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            signs = re.sub(r"(``.*?``)|(\||\*(?=shape\b)|_(?=-))", lambda found: found[1] or rf"\{found[2]}", line)
            lines[number] = re.sub(r"^(\s*)([A-Z]\. [A-Z])", r"\1\\\2", signs)
