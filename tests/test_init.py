"""The package's front door: public names are there, and importing it loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import latentcause

HEAVY = ("torch", "scipy", "matplotlib", "pandas", "sklearn", "xarray", "networkx", "numpy")


def test_import_loads_nothing_heavy() -> None:
    code = f"import sys, latentcause; dir(latentcause); print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", latentcause.__all__)
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(latentcause, name)
    assert value.__name__.rpartition(".")[2] == name
    assert value.__doc__
    assert name in dir(latentcause)


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(latentcause.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imported == set(latentcause.__all__)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        latentcause.Nothing  # type: ignore[attr-defined]
