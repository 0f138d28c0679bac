"""The command ``latentcause``: reads options, and hands over to ``latentcause.commands``, which is loaded only then."""

from __future__ import annotations

from latentcause.cli.program import app, main

# In the order in which --help lists the commands.
from latentcause.cli import demo, fit, encode, evaluate, counterfactual, posterior, discover, scm, reproduce  # noqa: F401  # isort: skip

__all__ = ["app", "main"]
