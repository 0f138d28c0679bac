"""How ``latentcause discover`` learns a graph: which method, with which of the options that belong to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latentcause.data.variables import Variables
from latentcause.discovery.cpdag import CPDAG
from latentcause.discovery.independence import choose_test
from latentcause.discovery.independence.choice import TESTS
from latentcause.discovery.interventional import DomainsResult, from_domains
from latentcause.discovery.knowledge import BackgroundKnowledge
from latentcause.discovery.pag import PAG

ALPHA = 0.01

BELONGS = {
    "pc": ("alpha", "test", "knowledge", "max_given"),
    "fci": ("alpha", "test", "knowledge", "max_given"),
    "ges": ("penalty",),
    "domains": ("alpha", "max_parents", "targets", "reference", "nearest"),
}
"""The options that each method reads; "domains" is pc on rows of several domains, asked for with --domain."""


@dataclass(frozen=True)
class Search:
    """A method and its settings, to be run on the data and on resamples of them.

    Attributes
    ----------
    method : {"pc", "ges", "fci", "domains"}
    settings : dict
        Arguments of the function of that method.
    """

    method: str
    settings: dict[str, Any]

    @classmethod
    def of(cls, method: str, has_domains: bool, options: Mapping[str, Any]) -> Search:
        """From options, of which those that were not given are None.

        Raises
        ------
        ValueError
            For an option of another method, and for domains with a method that can't use them.
        """
        if has_domains and method != "pc":
            raise ValueError(f"--domain needs --method pc: {method} treats all rows alike")
        name = "domains" if has_domains else method
        given = {option: value for option, value in options.items() if value is not None}
        for option in given:
            if option not in BELONGS[name]:
                flag = "--" + option.replace("_", "-")
                owners = [_spoken(other) for other, known in BELONGS.items() if option in known]
                raise ValueError(f"{flag} belongs to {' and '.join(owners)}: leave it out with {_spoken(name)}")
        if "alpha" in BELONGS[name]:
            given.setdefault("alpha", ALPHA)
        return cls(name, given)

    @property
    def alpha(self) -> float | None:
        """The level of the tests; None for a score."""
        return self.settings.get("alpha")

    @property
    def knowledge(self) -> BackgroundKnowledge | None:
        """What was known before."""
        return self.settings.get("knowledge")

    def test_name(self, variables: Variables) -> str:
        """The test or score that the method takes for these columns.

        Raises
        ------
        ValueError
            Where the test that was asked for does not fit them.
        """
        if self.method == "ges":
            return "bdeu" if variables.levels else "bic"
        if self.method == "domains":
            return "invariance"
        chosen = type(choose_test(variables, self.settings.get("test", "auto")))
        return next(name for name, kind in TESTS.items() if kind is chosen)

    def run(self, variables: Variables, labels: np.ndarray | None) -> tuple[CPDAG | PAG, DomainsResult | None]:
        """The graph, and with domains all that was found out about them."""
        match self.method:
            case "ges":
                from latentcause.discovery.ges import ges

                return ges(variables, **self.settings), None
            case "fci":
                from latentcause.discovery.fci import fci

                return fci(variables, **self.settings), None
            case "pc":
                from latentcause.discovery.pc import pc

                return pc(variables, **self.settings), None
        result = from_domains(variables, labels, **self.settings)
        return result.cpdag, result

    def describe(self) -> dict[str, Any]:
        """The settings as JSON holds them."""
        shown: dict[str, Any] = {}
        for name, value in self.settings.items():
            if isinstance(value, BackgroundKnowledge):
                shown[name] = {"required": value.required, "forbidden": value.forbidden, "tiers": value.tiers}
            else:
                shown[name] = str(value) if isinstance(value, Path) else value
        return shown


def _spoken(name: str) -> str:
    return "--domain" if name == "domains" else f"--method {name}"
