"""Targets per domain: every form of dict and file, and entries that do not fit the data."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from latentcause.data.targets import match_targets, read_targets

NODES = st.lists(st.text("abcxyz", min_size=1, max_size=4), max_size=3, unique=True)
MAPPINGS = st.dictionaries(st.text("abc123_+", min_size=1, max_size=6), NODES, min_size=1, max_size=5)


def test_every_way_to_write_nodes() -> None:
    found = match_targets(["a", "b", "c", "d"], {"d": ("z1", "z2", "z1"), "a": None, "b": "z1", "c": []})
    assert found == {"a": (), "b": ("z1",), "c": (), "d": ("z1", "z2")}
    assert list(found) == ["a", "b", "c", "d"]


def test_labels_match_by_value_first_and_by_text_otherwise() -> None:
    assert match_targets([1, 2], {"1": "z", 2: None}) == {1: ("z",), 2: ()}
    assert match_targets([1, "1"], {"1": "text", 1: "number"}) == {1: ("number",), "1": ("text",)}


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ({"a": None}, "no targets entry for domain 'b': add one"),
        ({"a": None, "B": None}, "no targets entry for domain 'b'.*entries without rows: 'B'"),
        ({"a": None, "b": None, "c": "z"}, "targets names domain 'c', which has no rows"),
        ({"a": None, "b": 3}, "targets of domain 'b' must be a node"),
        ({"a": None, "b": {"z1": 1}}, "targets of domain 'b' must be a node"),
        ({"a": None, "b": ["z1", 2]}, "targets of domain 'b' hold 2"),
        ({"a": None, "b": ""}, "targets of domain 'b' hold ''"),
        (None, "targets must be a dict .* not NoneType"),
    ],
)
def test_entries_that_do_not_fit(targets: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        match_targets(["a", "b"], targets)


def test_two_entries_for_one_label() -> None:
    with pytest.raises(ValueError, match="two entries for domain 1"):
        match_targets([1], {1: "z", "1": None})


def test_csv_of_the_published_conditions(shared_data: Callable[[str], Path]) -> None:
    found = read_targets(shared_data("sachs/conditions.csv"))
    assert len(found) == 14
    assert found["cd3cd28"] == found["cd3cd28icam2"] == ()
    assert found["cd3cd28icam2+ly"] == ("Akt",)
    assert found["pma"] == ("PKC",)


def test_csv_with_semicolons_repeated_rows_and_the_column_domain(tmp_path: Path) -> None:
    path = tmp_path / "targets.csv"
    path.write_text("note,domain,target\nx,a,\ny,b,z1; z2\ny,b,z3\n,007,z1\n")
    assert read_targets(path) == {"a": (), "b": ("z1", "z2", "z3"), "007": ("z1",)}


def test_tsv_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "targets.tsv"
    path.write_text("plate\ttarget\na, b\tz1\n", encoding="utf-8-sig")
    assert read_targets(path) == {"a, b": ("z1",)}


def test_yaml_keeps_labels_as_text(tmp_path: Path) -> None:
    path = tmp_path / "targets.yaml"
    path.write_text("no: z1\n1e3: [z1, z2]\nempty:\nnothing: null\nnone: []\n")
    assert read_targets(path) == {"no": ("z1",), "1e3": ("z1", "z2"), "empty": (), "nothing": (), "none": ()}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "domain,node\na,z\n", r"t\.csv has no column 'target' \(columns: 'domain', 'node'\)"),
        ("t.csv", "target,kind\nz,hard\n", "no column of domains"),
        ("t.csv", "domain,target\n,z\n", r"t\.csv, line 2: column 'domain' is empty"),
        ("t.csv", "", "has no column 'target'"),
        ("t.yaml", "a: z1\na: z2\n", r"t\.yaml has two entries for domain 'a'"),
        ("t.yaml", "- a\n- b\n", "must hold one mapping"),
        ("t.yaml", "a: [z1\n", "not valid YAML"),
        ("t.yaml", "a: {z1: 2}\n", "targets of domain 'a' must be a node"),
        ("t.json", '{"a": "z1", "a": "z2"}', r"t\.json has two entries for domain 'a'"),
        ("t.json", '["a"]', "must hold one mapping"),
        ("t.json", '{"a": ', "not valid JSON"),
        ("t.json", '{"a": 3}', "targets of domain 'a' must be a node"),
        ("t.txt", "a z1", r"t\.txt must end in one of"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_targets(path)


@given(mapping=MAPPINGS)
def test_all_file_forms_say_the_same(mapping: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("targets")
    rows = "".join(f"{domain},{';'.join(nodes)}\n" for domain, nodes in mapping.items())
    (folder / "t.csv").write_text(f"domain,target\n{rows}")
    (folder / "t.json").write_text(json.dumps(mapping))
    (folder / "t.yml").write_text(yaml.safe_dump(mapping))
    for path in folder.iterdir():
        assert match_targets(list(mapping), path) == {domain: tuple(nodes) for domain, nodes in mapping.items()}
