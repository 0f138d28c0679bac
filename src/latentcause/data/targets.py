"""Intervention targets: which nodes each domain's experiment acted on."""

from __future__ import annotations

import csv
import json
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from latentcause.data.labels import listing

Targets = dict[Hashable, tuple[str, ...]]


def match_targets(domains: Iterable[Hashable], targets: Mapping[Any, Any] | str | Path) -> Targets:
    """Give every domain its tuple of target nodes.

    Parameters
    ----------
    domains
        The labels found in the data.
    targets
        ``{domain: node | [nodes] | None | []}``, or the path of a file that ``read_targets`` reads. A key stands for
        the label equal to it or, failing that, for the label with the same text (files hold text only).

    Raises
    ------
    ValueError
        Where a domain has no entry, an entry has no domain, two entries stand for one domain, or a target is not the
        name of a node.
    """
    domains = list(domains)
    if isinstance(targets, (str, Path)):
        targets = read_targets(targets)
    if not isinstance(targets, Mapping):
        raise ValueError(
            f"targets must be a dict {{domain: [nodes]}} or the path of a file, not {type(targets).__name__}"
        )
    by_text = {str(domain): domain for domain in domains}
    matched: Targets = {}
    without_rows = []
    for key, nodes in targets.items():
        domain = key if key in domains else by_text.get(str(key))
        if domain is None:
            without_rows.append(key)
        elif domain in matched:
            raise ValueError(f"targets has two entries for domain {domain!r}: keep one")
        else:
            matched[domain] = _node_tuple(key, nodes)
    without_entry = [domain for domain in domains if domain not in matched]
    if without_entry:
        raise ValueError(
            f"no targets entry for domain {listing(without_entry)}: add one (None or [] where nothing was targeted)"
            + (f"; entries without rows: {listing(without_rows)}" if without_rows else "")
        )
    if without_rows:
        raise ValueError(
            f"targets names domain {listing(without_rows)}, which has no rows: remove the entry or add its samples "
            f"(domains in the data: {listing(domains)})"
        )
    return {domain: matched[domain] for domain in domains}


def read_targets(path: str | Path) -> Targets:
    """Read ``{domain: (node, ...)}`` from a file; all labels come back as text.

    CSV (or TSV): a column ``domain`` (or else the first column) and a column ``target``; an empty target means none,
    several are separated by ``;`` or stand on rows of their own; other columns are ignored. YAML and JSON: one mapping
    from domain to a node, a list of nodes, or nothing.

    Raises
    ------
    ValueError
        Where the suffix is unknown, a column is missing, a domain stands twice in a mapping, or the file is not a
        mapping from domains to nodes.
    """
    path = Path(path)
    readers = {".csv": _read_table, ".tsv": _read_table, ".yaml": _read_yaml, ".yml": _read_yaml, ".json": _read_json}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"targets file {path.name} must end in one of {', '.join(readers)}")
    return reader(path)


def _read_table(path: Path) -> Targets:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", skipinitialspace=True)
        columns = list(rows.fieldnames or [])
        if "target" not in columns:
            raise ValueError(f"targets file {path.name} has no column 'target' (columns: {listing(columns)})")
        key = "domain" if "domain" in columns else columns[0]
        if key == "target":
            raise ValueError(f"targets file {path.name} has no column of domains: name one 'domain' or put it first")
        found: dict[Hashable, list[str]] = {}
        for row in rows:
            domain = (row[key] or "").strip()
            if not domain:
                raise ValueError(f"targets file {path.name}, line {rows.line_num}: column {key!r} is empty")
            nodes = [node.strip() for node in (row["target"] or "").split(";")]
            found.setdefault(domain, []).extend(node for node in nodes if node)
    return {domain: tuple(dict.fromkeys(nodes)) for domain, nodes in found.items()}


def _read_yaml(path: Path) -> Targets:
    # The base loader keeps every scalar as its text: labels such as `no` or `1e3` must not become False or 1000.0.
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise ValueError(f"targets file {path.name} is not valid YAML: {error}") from None
    if not isinstance(node, yaml.MappingNode):
        raise ValueError(f"targets file {path.name} must hold one mapping from domain to targets")
    constructor = yaml.BaseLoader("")
    pairs = [
        (constructor.construct_object(key), constructor.construct_object(value, deep=True)) for key, value in node.value
    ]
    return _from_pairs(path, [(key, None if value in ("", "~", "null") else value) for key, value in pairs])


def _read_json(path: Path) -> Targets:
    try:
        pairs = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=list)
    except json.JSONDecodeError as error:
        raise ValueError(f"targets file {path.name} is not valid JSON: {error}") from None
    if not isinstance(pairs, list) or not all(isinstance(pair, tuple) for pair in pairs):
        raise ValueError(f"targets file {path.name} must hold one mapping from domain to targets")
    return _from_pairs(path, pairs)


def _from_pairs(path: Path, pairs: list[tuple[Any, Any]]) -> Targets:
    found: Targets = {}
    for domain, nodes in pairs:
        if domain in found:
            raise ValueError(f"targets file {path.name} has two entries for domain {domain!r}: keep one")
        found[domain] = _node_tuple(domain, nodes)
    return found


def _node_tuple(domain: Hashable, nodes: Any) -> tuple[str, ...]:
    listed = () if nodes is None else (nodes,) if isinstance(nodes, str) else nodes
    if isinstance(listed, Mapping) or not isinstance(listed, Iterable):
        raise ValueError(f"targets of domain {domain!r} must be a node, a list of nodes or None, not {nodes!r}")
    names = tuple(dict.fromkeys(listed))
    wrong = [name for name in names if not isinstance(name, str) or not name]
    if wrong:
        raise ValueError(f"targets of domain {domain!r} hold {wrong[0]!r}: a target is the name of a node")
    return names
