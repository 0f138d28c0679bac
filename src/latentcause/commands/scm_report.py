"""The report of ``latentcause scm fit``: the mechanisms, what they explain, and what speaks against them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from latentcause.data.variables import Variables
from latentcause.report import Report
from latentcause.scm import StructuralCausalModel

MOST_PAIRS = 20

RESTS_ON = [
    [
        "The graph",
        "An arrow for every direct cause, and none the wrong way.",
        "Independences that the data refuse. A wrong direction between two variables need not show: keep to what is known, "
        "or compare the effects that other graphs of the class give.",
    ],
    [
        "No hidden common cause",
        "Nothing outside the table acts on two of its variables.",
        "Independences that the data refuse. A hidden cause of two variables with an arrow between them need not show.",
    ],
    [
        "The kind of mechanism",
        "Linear, additive or smooth, as asked for, with noise of the same distribution at all values of the parents.",
        "Curves that miss the points; another kind with a larger share on held-out rows; a held-out share far below the one in "
        "sample (too flexible for so few rows).",
    ],
    [
        "Where there are data",
        "do() sets variables to values such as the table has.",
        "Nothing shows it: a mechanism answers at any value. Compare with the range of the curves.",
    ],
]


def scm_report(
    model: StructuralCausalModel,
    data: Variables,
    lead: str,
    table: pd.DataFrame,
    parents: pd.DataFrame,
    independences: pd.DataFrame,
    test: str,
    notes: Sequence[str],
) -> Report:
    """The report to read after ``latentcause scm fit``; the tables are those that it writes."""
    report = Report("Structural causal model", lead)
    if notes:
        report.section("Notes").items(notes)
    report.section(
        "Mechanisms",
        "In sample and held out: the share of the variance that the parents explain (R squared; of a category, McFadden's "
        "pseudo-R squared of the log likelihood). Held out: fitted to four fifths of the rows and judged on the rest, five "
        "times over. Trust this one. The noise sd is what the parents leave unexplained, in the units of the variable.",
    ).table(
        ["node", "parents", "kind", "in sample", "held out", "noise sd"],
        [
            [row.node, row.parents or "none", row.kind, *map(_short, row[3:])]
            for row in table.rename(columns=lambda name: name.replace(" ", "_")).itertuples(index=False)
        ],
    )
    report.figure("graph", model.plot(), "The given graph")
    if model.graph.edges:
        report.figure(
            "mechanisms",
            model.plot_mechanisms(data),
            "Each variable against each of its parents, the other parents at their median or commonest level: the line is the "
            "mechanism's mean, or the probabilities of a category; points are rows (500 at the most)",
        )
    _add_parents(report, parents)
    _add_independences(report, independences, test)
    report.section("What this rests on").table(
        ["assumption", "what it means", "how this report shows that it fails"], RESTS_ON
    )
    return report


def _add_parents(report: Report, parents: pd.DataFrame) -> None:
    if parents.empty:
        return
    rows = [
        [
            f"{row.parent} -> {row.node}",
            row.test,
            f"{row.p_value:.2g}",
            f"{row.drop:.3g}",
            "no" if row.redundant else "yes",
        ]
        for row in parents.itertuples()
    ]
    report.section(
        "Does each mechanism use all its parents?",
        "Each edge is tested given the node's other parents. Of two parents that say nearly the same, each may be unneeded "
        "given the other: leave out one edge, fit, and look again. The tests are one by one: of 20 unneeded parents one "
        "looks needed by chance.",
    ).table(["edge", "test", "p-value", "share lost without it", "needed"], rows)


def _add_independences(report: Report, independences: pd.DataFrame, test: str) -> None:
    if independences.empty:
        return
    refused = int(independences["refused"].sum())
    if refused:
        said = f"Here {refused} of {len(independences)} are refused: an arrow or a common cause is missing there."
    else:
        said = "Here none is refused: nothing speaks against the graph in this way."
    report.section(
        "Do the data refuse the graph?",
        "Where the graph has no arrow between two variables, it says that they are independent given the parents of the later "
        f"one. Each such statement is tested ({test}), at level 0.05 for all together (Holm). {said}",
    )
    rows = [
        [
            f"{row['a']}, {row['b']}",
            row["given"].replace(";", ", ") or "nothing",
            f"{row['p_value']:.2g}",
            "yes" if row["refused"] else "no",
        ]
        for row in independences.head(MOST_PAIRS).to_dict("records")
    ]
    report.table(["pair", "given", "p-value", "refused"], rows, "The pairs with the smallest p-values")


def _short(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.3g}"
