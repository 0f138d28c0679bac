"""What users name on the command line: tables of domains, graphs, targets and background knowledge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from latentcause.data import MultiDomainData
from latentcause.data.tables import read_file
from latentcause.data.targets import read_targets
from latentcause.discovery.knowledge import BackgroundKnowledge
from latentcause.graph import CausalGraph


def read_graph(text: str) -> CausalGraph:
    """A graph from its one-line form, or from a .csv, .dot, .gv or .txt file.

    Raises
    ------
    ValueError, FileNotFoundError
        Where the text is no graph, or there is no such file.
    """
    is_line = "->" in text or ";" in text or not Path(text).suffix
    return CausalGraph.from_string(text) if is_line else CausalGraph.from_file(text)


def read_data(
    path: Path,
    domain: str,
    targets: Path | Mapping[str, Sequence[str]],
    measurements: Sequence[str] | None = None,
) -> MultiDomainData:
    """A table with its domains, whose labels become text, as they are in files of targets.

    Parameters
    ----------
    path : Path
    domain : str
        Name of the column of labels (for a .npy file: the path of the .npy file that holds them).
    targets : Path or mapping
        A file of targets, which must fit the table's domains; or a mapping, of which the table's domains are looked up.
    measurements : sequence of str, optional
        Columns to use, by default all but ``domain``.

    Raises
    ------
    FileNotFoundError
        Where there is no such file.
    ValueError
        For what `MultiDomainData` refuses, and a domain that the mapping does not hold.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    source, labels = read_file(path, domain, measurements)
    texts = pd.Series(labels, dtype=object).map(str, na_action="ignore").fillna("").to_numpy()
    if not isinstance(targets, Mapping):
        return MultiDomainData(source, texts, _as_text(read_targets(targets)))
    found = [label for label in dict.fromkeys(texts) if label]
    foreign = [label for label in found if label not in targets]
    if foreign:
        raise ValueError(
            f"domain {foreign[0]!r} was not in the fit, which saw {', '.join(targets)}: name its --targets"
        )
    return MultiDomainData(source, texts, {label: targets[label] for label in found})


def read_knowledge(path: Path) -> BackgroundKnowledge:
    """Background knowledge from a YAML file: ``required`` and ``forbidden`` pairs [cause, effect], and ``tiers`` of names.

    Raises
    ------
    ValueError, FileNotFoundError
        Where it is no such mapping, or contradicts itself.
    """
    # The base loader keeps every scalar as its text: names such as `no` or `1` must not become False or a number.
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name} is not valid YAML: {error}") from None
    keys = ("required", "forbidden", "tiers")
    if not isinstance(found, dict) or not found:
        raise ValueError(f"{path.name} must hold a mapping with the keys {', '.join(keys)}")
    for key, value in found.items():
        if key not in keys:
            raise ValueError(f"{path.name} has the unknown key {key!r}: use {', '.join(keys)}")
        if not isinstance(value, list) or not all(isinstance(item, list) for item in value):
            raise ValueError(f"{key} in {path.name} must be a list of lists of names, such as [[a, b], [b, c]]")
    return BackgroundKnowledge(**found)


def _as_text(targets: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(domain): nodes for domain, nodes in targets.items()}
