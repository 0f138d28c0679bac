"""``latentcause discover``: the files it writes are what the library finds, and its errors are one line each."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import latentcause as lc
from latentcause.cli import app
from latentcause.commands.edges import edges_of
from latentcause.commands.search import Search
from latentcause.commands.stability import bootstrap
from latentcause.data.variables import Variables
from latentcause.datasets import random_system
from latentcause.discovery import BackgroundKnowledge, DSeparation, fci, from_domains, ges, pc

TRUTH = "a -> c; b -> c; c -> d; e"


def run(*args: object) -> Any:
    return CliRunner().invoke(app, [str(arg) for arg in args])


def collider(n: int = 2000, seed: int = 0) -> pd.DataFrame:
    """a -> c <- b, c -> d, e alone."""
    noise = np.random.default_rng(seed).normal(size=(n, 5))
    c = noise[:, 0] + noise[:, 1] + noise[:, 2]
    return pd.DataFrame({"a": noise[:, 0], "b": noise[:, 1], "c": c, "d": c + noise[:, 3], "e": noise[:, 4]})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("discover")
    collider().to_csv(folder / "data.csv", index=False)
    return folder


def refused(done: Any, message: str) -> None:
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("error: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert message in done.stderr, done.stderr


# --- what is written -------------------------------------------------------------------------------------------------


def test_pc_writes_the_graph_its_reasons_and_a_dag(home: Path) -> None:
    done = run("discover", home / "data.csv", "--truth", TRUTH, "--out", home / "pc")
    assert done.exit_code == 0, done.output
    out, graph = home / "pc", pc(collider())
    names = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert names == {
        *("graph.dot", "graph.txt", "edges.csv", "separations.csv", "dag.txt", "dag.dot", "summary.json"),
        *("report.html", "figures"),
    }
    assert str(graph) == "a -> c; b -> c; c -> d; e"
    assert (out / "graph.txt").read_text() == f"{graph}\n"
    assert (out / "graph.dot").read_text() == graph.to_dot()
    assert lc.CausalGraph.from_file(out / "dag.txt") == graph.consistent_extension()
    assert lc.CausalGraph.from_file(out / "dag.dot") == graph.consistent_extension()
    edges = pd.read_csv(out / "edges.csv", float_precision="round_trip")
    assert [tuple(row) for row in edges[["a", "b", "kind"]].to_numpy()] == [(a, b, "->") for a, b in graph.directed]
    assert list(edges["p_value"]) == [graph.p_values[frozenset(pair)] for pair in graph.directed]
    cut = pd.read_csv(out / "separations.csv", keep_default_na=False, float_precision="round_trip")
    assert {frozenset(pair) for pair in cut[["a", "b"]].to_numpy()} == set(graph.separations)
    for a, b, given, p_value in cut.to_numpy():
        separation = graph.separations[frozenset((a, b))]
        assert (given, p_value) == (";".join(separation.given), separation.p_value)
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["graph"], summary["test"], summary["settings"]) == (str(graph), "fisher-z", {"alpha": 0.01})
    assert (summary["open_edges"], summary["dags_in_class"], summary["rows"]) == (0, 1, 2000)
    assert summary["errors"]["graph"]["shd1"] == 0
    assert summary["errors"]["graph"]["sid_high"] == 0
    assert "one graph fits the data" in done.stdout
    assert {path.stem for path in (out / "figures").iterdir()} == {"graph"}


def test_open_edges_are_counted_and_explained(home: Path) -> None:
    collider()[["c", "d", "a"]].to_csv(home / "chain.csv", index=False)
    done = run("discover", home / "chain.csv", "--out", home / "chain", "--truth", "d -> c; c -> a")
    assert done.exit_code == 0, done.output
    summary = json.loads((home / "chain" / "summary.json").read_text())
    assert (summary["graph"], summary["dags_in_class"]) == ("c - d; c - a", 3)
    assert (summary["errors"]["graph"]["sid_low"], summary["errors"]["its class"]["shd1"]) == (0, 0)
    html = (home / "chain" / "report.html").read_text()
    assert "3 graphs fit the data equally well" in html
    assert '<td class="text">c - d</td><td class="text">2 of 3</td>' in html


def test_method_test_knowledge_and_limits_reach_the_library(home: Path) -> None:
    (home / "known.yaml").write_text("required: [[a, d]]\nforbidden: [[b, c]]\ntiers: [[a, b], [c, d, e]]\n")
    named = ["--alpha", 0.05, "--test", "gcm", "--knowledge", home / "known.yaml", "--max-given", 1]
    knowledge = BackgroundKnowledge([("a", "d")], [("b", "c")], [["a", "b"], ["c", "d", "e"]])
    for method, search in (("pc", pc), ("fci", fci)):
        done = run("discover", home / "data.csv", "--method", method, *named, "--out", home / "known")
        assert done.exit_code == 0, done.output
        expected = search(collider(), 0.05, "gcm", knowledge=knowledge, max_given=1)
        assert (home / "known" / "graph.txt").read_text() == f"{expected}\n"
        assert json.loads((home / "known" / "summary.json").read_text())["settings"]["max_given"] == 1
    assert not (home / "known" / "dag.txt").exists()  # a PAG is no class of DAGs


def test_fci_tells_what_its_marks_mean(home: Path) -> None:
    done = run("discover", home / "data.csv", "--method", "fci", "--truth", TRUTH, "--out", home / "fci")
    assert done.exit_code == 0, done.output
    assert "a o-> c" in done.stdout
    html = (home / "fci" / "report.html").read_text()
    assert "c does not cause a; a causes c, or something hidden causes both" in html
    assert "No selection" in html
    assert json.loads((home / "fci" / "summary.json").read_text())["errors"]["graph"]["shd1"] is None


def test_ges_has_no_p_values(home: Path) -> None:
    pytest.importorskip("causallearn")
    done = run("discover", home / "data.csv", "--method", "ges", "--penalty", 2, "--out", home / "ges")
    assert done.exit_code == 0, done.output
    assert (home / "ges" / "graph.txt").read_text() == f"{ges(collider(), penalty=2.0)}\n"
    assert pd.read_csv(home / "ges" / "edges.csv")["p_value"].isna().all()
    assert "Close calls" not in (home / "ges" / "report.html").read_text()


def test_domains_turn_edges_by_known_and_by_inferred_targets(home: Path) -> None:
    rng = np.random.default_rng(1)
    a = rng.normal(size=3000) * np.repeat([1.0, 3.0, 1.0], 1000)
    frame = pd.DataFrame({"b": a + rng.normal(size=3000), "a": a, "rig": np.repeat([7, 8, 9], 1000)})
    frame.to_csv(home / "rigs.csv", index=False)
    (home / "rigs.yaml").write_text("7: []\n8: a\n9: []\n")
    named = ["discover", home / "rigs.csv", "--domain", "rig", "--out", home / "rigs"]
    for more, targets in ((["--targets", home / "rigs.yaml"], {"7": None, "8": "a", "9": None}), ([], None)):
        done = run(*named, *more)
        assert done.exit_code == 0, done.output
        found = from_domains(frame[["b", "a"]], frame["rig"].astype(str), targets)
        assert (home / "rigs" / "graph.txt").read_text() == f"{found.cpdag}\n" == "a -> b\n"
        summary = json.loads((home / "rigs" / "summary.json").read_text())
        assert summary["targets"] == {"7": [], "8": ["a"], "9": []}
        changes = pd.read_csv(home / "rigs" / "changes.csv", index_col="domain", float_precision="round_trip")
        np.testing.assert_array_equal(changes, found.changes)
    done = run(*named, "--reference", "8", "--bootstrap", 3, "--columns", "a,b")
    assert done.exit_code == 0, done.output
    assert json.loads((home / "rigs" / "summary.json").read_text())["reference"] == "8"


def test_transform_is_done_to_numbers(home: Path) -> None:
    skewed = np.exp(collider()) - 0.5
    skewed.assign(site=np.where(collider()["e"] > 0, "x", "y")).to_csv(home / "skewed.csv", index=False)
    for transform, function in (("log1p", np.log1p), ("arcsinh", lambda x: np.arcsinh(x / 2))):
        done = run(
            *("discover", home / "skewed.csv", "--drop", "e,site", "--transform", transform, "--cofactor", 2),
            *("--out", home / "log"),
        )
        assert done.exit_code == 0, done.output
        expected = pc(function(skewed.drop(columns="e")))
        assert (home / "log" / "graph.txt").read_text() == f"{expected}\n"
        found = pd.read_csv(home / "log" / "edges.csv", float_precision="round_trip")["p_value"]
        np.testing.assert_allclose(found, [edge.p_value for edge in edges_of(expected)], rtol=1e-6)


def test_categories_are_read_from_text_bools_and_named_numbers(home: Path) -> None:
    rng = np.random.default_rng(0)
    dose = rng.integers(1, 4, 1500)
    well = rng.random(1500) < dose / 4
    frame = pd.DataFrame({"dose": dose, "well": well, "arm": np.where(well ^ (rng.random(1500) < 0.2), "None", "NA2")})
    frame.to_csv(home / "levels.csv", index=False)
    done = run("discover", home / "levels.csv", "--categorical", "dose", "--out", home / "levels")
    assert done.exit_code == 0, done.output
    summary = json.loads((home / "levels" / "summary.json").read_text())
    assert summary["test"] in ("chi-squared", "g-squared")
    assert summary["categories"] == {"dose": ["1", "2", "3"], "well": ["False", "True"], "arm": ["NA2", "None"]}
    assert summary["graph"] == str(pc(frame.astype({"dose": "category"})))
    frame.to_parquet(home / "levels.parquet")
    frame.to_csv(home / "levels.tsv", sep="\t", index=False)
    frame.to_csv(home / "levels.csv.gz", index=False)
    for suffix in ("parquet", "tsv", "csv.gz"):
        done = run("discover", home / f"levels.{suffix}", "--categorical", "dose", "--out", home / "levels")
        again = json.loads((home / "levels" / "summary.json").read_text())
        assert {key: again[key] for key in ("graph", "categories")} == {
            key: summary[key] for key in ("graph", "categories")
        }


def test_a_table_without_dependence_gives_no_edges(home: Path) -> None:
    pd.DataFrame(np.random.default_rng(0).normal(size=(500, 3)), columns=["x", "y", "z"]).to_csv(
        home / "noise.csv", index=False
    )
    done = run(
        "discover", home / "noise.csv", "--alpha", 0.001, "--bootstrap", 3, "--truth", "x; y; z", "--out", home / "no"
    )
    assert done.exit_code == 0, done.output
    assert "no edges: as far as the test (fisher-z) can see" in done.stdout
    assert "There are no edges" in (home / "no" / "report.html").read_text()
    assert str(lc.CausalGraph.from_file(home / "no" / "dag.txt")) == "x; y; z"


# --- stability -------------------------------------------------------------------------------------------------------


def test_bootstrap_counts_edges_of_searches_in_resampled_rows() -> None:
    variables = Variables.read(collider(200))
    search = Search.of("pc", False, {"alpha": 0.05})
    graph, _ = search.run(variables, None)
    found = bootstrap(search, variables, None, graph, 12, seed=3)
    assert (found.resamples, found.failed) == (12, ())
    rng = np.random.default_rng(3)
    joined = dict.fromkeys([frozenset(pair) for pair in found.pairs[["a", "b"]].to_numpy()], 0)
    arrows: dict[tuple[str, str], int] = {}
    for _ in range(12):
        resample = pc(variables.values[rng.choice(200, 200)], 0.05)
        names = dict(zip(resample.nodes, variables.names, strict=True))
        for a, b in (*resample.directed, *resample.undirected):
            joined[frozenset((names[a], names[b]))] += 1
        for a, b in resample.directed:
            arrows[names[a], names[b]] = arrows.get((names[a], names[b]), 0) + 1
    for row in found.pairs.to_dict("records"):
        assert row["adjacent"] == joined[frozenset((row["a"], row["b"]))] / 12
        assert row["arrow_at_b"] == arrows.get((row["a"], row["b"]), 0) / 12
        assert row["arrow_at_a"] == arrows.get((row["b"], row["a"]), 0) / 12
        assert row["arrow_at_b"] + row["arrow_at_a"] + row["no_arrow"] == pytest.approx(row["adjacent"])
    shown = {(row["a"], row["b"]): row["edge"] for row in found.pairs.to_dict("records") if row["edge"]}
    assert shown == {(edge.a, edge.b): edge.kind for edge in edges_of(graph)}
    assert list(found.pairs["adjacent"]) == sorted(found.pairs["adjacent"], reverse=True)


def test_domains_are_resampled_one_by_one() -> None:
    variables, labels = Variables.read(collider(60)), np.tile(["few", "many", "many"], 20)
    graph, seen = pc(variables), []

    class Recorder:
        def run(self, resample: Variables, drawn: np.ndarray) -> tuple[lc.CPDAG, None]:
            seen.append((resample.values, drawn))
            return graph, None

    bootstrap(Recorder(), variables, labels, graph, 5, seed=0)  # type: ignore[arg-type]
    assert len(seen) == 5
    label_of = {tuple(row): label for row, label in zip(variables.values, labels, strict=True)}
    for values, drawn in seen:
        assert sorted(drawn) == sorted(labels)
        assert [label_of[tuple(row)] for row in values] == list(drawn)


def test_resamples_that_cannot_be_searched_are_told(home: Path) -> None:
    frame = collider(40)
    frame["rare"] = np.where(np.arange(40) == 0, "yes", "no")  # constant in a third of the resamples
    frame.to_csv(home / "rare.csv", index=False)
    done = run("discover", home / "rare.csv", "--bootstrap", 20, "--max-given", 0, "--out", home / "rare")
    assert done.exit_code == 0, done.output
    counts = json.loads((home / "rare" / "summary.json").read_text())["bootstrap"]
    assert counts["failed"] > 0
    assert counts["failed"] + counts["resamples"] == 20
    assert (
        "more tables could not be searched, the first because: category &#x27;rare&#x27;"
        in (home / "rare" / "report.html").read_text()
    )


def test_edges_of_a_pag_point_from_a_to_b() -> None:
    hidden = lc.CausalGraph.from_string("rain -> wet; sprinkler -> wet; hidden -> wet; hidden -> slip; shoes -> slip")
    found = fci(DSeparation(hidden, latent=["hidden"]))
    assert [str(edge) for edge in edges_of(found)] == str(found).split("; ")
    reversed_ = lc.discovery.PAG(found.nodes[::-1], found.edges)
    assert {str(edge) for edge in edges_of(reversed_)} >= {"rain o-> wet", "shoes o-> slip"}
    meanings = {str(edge): edge.meaning for edge in edges_of(found)}
    assert meanings["wet <-> slip"] == "neither causes the other; something hidden causes both"


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (["--columns", "a"], "a graph needs at least two variables, but data.csv is left with 'a'"),
        (["--columns", "a,q"], "data.csv has no column 'q'"),
        (["--columns", "a,a"], "column 'a' is named twice"),
        (["--drop", "a,b,c,d,e"], "no column of data.csv is left"),
        (["--method", "ges", "--test", "gcm"], "--test belongs to --method pc and --method fci: leave it out"),
        (["--method", "ges", "--alpha", "0.1"], "--alpha belongs to"),
        (["--penalty", "2"], "--penalty belongs to --method ges"),
        (["--method", "fci", "--domain", "a"], "--domain needs --method pc"),
        (["--domain", "a", "--test", "gcm"], "leave it out with --domain"),
        (["--targets", "t.csv"], "are for --domain"),
        (["--test", "chi-squared"], "column 'a' is numeric, and chi-squared counts categories"),
        (["--alpha", "1.5"], "alpha is 1.5"),
        (["--max-given", "-1"], "max_given is -1"),
        (["--cofactor", "0", "--transform", "arcsinh"], "cofactor=0.0 must be a positive number"),
        (["--transform", "log1p"], "holds values of -1 or less, which log1p can't take"),
        (["--truth", "a -> q"], "the true graph names 'q', which the data lack"),
        (["--truth", "absent.csv"], "there is no file absent.csv"),
        (["--domain", "a", "--drop", "a"], "column 'a' is both the --domain and to be dropped"),
    ],
)
def test_what_can_not_be_done_is_one_line(home: Path, named: list[str], message: str) -> None:
    refused(run("discover", home / "data.csv", *named, "--out", home / "never"), message)
    assert not (home / "never").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,a\n1,2\n", "duplicate column 'a'"),
        ("", "is empty: the first line must name the columns"),
        (",a\n0,1\n1,2\n", "column 0 of table.csv has no name (a saved row index?)"),
        ("a,b\n1,2\n,3\n", "missing or infinite values in column 'a' (1 values, first in row 1)"),
        ("a,b\n1,2\nNone,3\n4,4\n", "missing or infinite values in column 'a'"),
        ("a,b\n1,2\n5x,3\n4,4\n", "column 'a' of table.csv holds numbers, and text such as '5x' (row 1"),
        ("a,b\n" + "".join(f"p{i},{i}\n" for i in range(50)), "has 50 different texts in 50 rows, such as 'p0'"),
        ("a,b\n1,2\n1,3\n1,5\n", "column 'a' is constant"),
        ("a,b\n1,x\n2,x\n4,x\n", "category 'b' has one level"),
    ],
)
def test_tables_that_can_not_be_read_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    refused(run("discover", tmp_path / "table.csv", "--out", tmp_path / "never"), message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("required: [[a, b]]\nforbidden: [[a, b]]\n", "a -> b is required and forbidden"),
        ("require: [[a, b]]\n", "has the unknown key 'require'"),
        ("tiers: [a, b]\n", "tiers in known.yaml must be a list of lists"),
        ("- a\n", "must hold a mapping"),
        ("required: [[a, b\n", "is not valid YAML"),
        ("required: [[a, q]]\n", "names 'q', which the data lack"),
    ],
)
def test_knowledge_that_can_not_be_used_is_one_line(home: Path, text: str, message: str) -> None:
    (home / "known.yaml").write_text(text)
    refused(run("discover", home / "data.csv", "--knowledge", home / "known.yaml", "--out", home / "never"), message)
    refused(run("discover", home / "data.csv", "--knowledge", home / "absent.yaml"), "there is no file")


def test_an_unknown_method_is_refused_with_the_known_ones(home: Path) -> None:
    done = run("discover", home / "data.csv", "--method", "lingam")
    assert done.exit_code == 2
    assert all(f"'{method}'" in done.output for method in ("lingam", "pc", "ges", "fci"))


# --- real data -------------------------------------------------------------------------------------------------------


def test_the_published_cells(shared_data: Any, tmp_path: Path) -> None:
    cells, edges = shared_data("sachs/cells.csv.gz"), shared_data("sachs/edges.csv")
    named = [cells, "--transform", "arcsinh", "--truth", edges, "--out", tmp_path / "cells"]
    done = run("discover", *named, "--drop", "condition")
    assert done.exit_code == 0, done.output
    frame = lc.datasets.load_sachs(cells.parent).frame.drop(columns="condition")
    assert (tmp_path / "cells" / "graph.txt").read_text() == f"{pc(frame)}\n"
    targets = shared_data("sachs/conditions.csv")
    done = run("discover", *named, "--domain", "condition", "--targets", targets, "--nearest")
    assert done.exit_code == 0, done.output
    errors = json.loads((tmp_path / "cells" / "summary.json").read_text())["errors"]["graph"]
    assert errors["adjacency_f1"] > 0.6
    assert errors["arrowhead_precision"] > 0.5


def test_a_simulated_system_is_learned_from_its_table(tmp_path: Path) -> None:
    system = random_system(6, 2.0, seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        system.to_frame(system.sample(5000, generator=0)).to_csv(tmp_path / "table.csv", index=False)
        system.graph.to_file(tmp_path / "truth.txt")
        done = run(
            *("discover", tmp_path / "table.csv", "--truth", tmp_path / "truth.txt", "--alpha", 0.001),
            *("--out", tmp_path / "out"),
        )
    assert done.exit_code == 0, done.output
    errors = json.loads((tmp_path / "out" / "summary.json").read_text())["errors"]
    assert errors["its class"]["shd1"] == 0
