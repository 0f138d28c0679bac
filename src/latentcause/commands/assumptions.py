"""What a learned graph rests on, and how the output shows that an assumption fails."""

from __future__ import annotations

import numpy as np
from scipy import stats

from latentcause.commands.search import Search
from latentcause.data.variables import Variables
from latentcause.discovery.cpdag import CPDAG
from latentcause.discovery.pag import PAG

HEADER = ["assumption", "what it means", "how this report shows that it fails"]
SKEWED = 1.0  # |skewness| from which a column is named

OF_TEST = {
    "fisher-z": (
        "Linear dependence",
        "Every variable is a linear function of others plus noise, so that a partial correlation of zero means independence.",
        "Skewness far from 0 in the table of columns (try --transform); other edges with --test gcm or --test kci.",
    ),
    "chi-squared": (
        "Enough rows per combination",
        "The condition's combinations of levels each hold some rows.",
        "Refused where there are too few. Few rows also hide dependence: pairs missing that are joined with --max-given 1.",
    ),
    "g-squared": (
        "Enough rows per combination",
        "The condition's combinations of levels each hold at least five rows on average.",
        "Refused where there are too few. Few rows also hide dependence: pairs missing that are joined with --max-given 1.",
    ),
    "mixed": (
        "Additive regressions",
        "Every variable depends on the condition by a sum of smooth curves and level effects, on the right link scale.",
        "Where variables act only together (interactions), a dependence is missed, or seen where there is none: other edges "
        "with --test gcm.",
    ),
    "gcm": (
        "Dependence shows in the mean",
        "Once smooth additive regressions on the condition are taken out, dependent variables have a covariance.",
        "Dependence in the spread alone is missed: other edges with --test kci.",
    ),
    "kci": (
        "Enough rows",
        "Any dependence is seen in the limit of many rows; with few, only strong dependence.",
        "Pairs missing that --test fisher-z or --test gcm join.",
    ),
    "bic": (
        "Linear Gaussian mechanisms",
        "The score is the likelihood of linear mechanisms with Gaussian noise, less log(n) / 2 per parameter.",
        "Skewness far from 0 in the table of columns (try --transform); other edges with --method pc --test gcm.",
    ),
    "bdeu": (
        "Any mechanism, few parents",
        "The score is the probability of the table under a Dirichlet prior for each combination of parents' levels.",
        "Edges missing into variables with several causes of many levels; other edges with --method pc.",
    ),
    "invariance": (
        "Linear Gaussian mechanisms that stay",
        "Within each domain mechanisms are linear with Gaussian noise, and those that a domain does not target are the same "
        "as elsewhere.",
        "Tiny p-values of nodes that are not targeted in the table of domains; no 'yes' in the column 'invariant'.",
    ),
}

HIDDEN = (
    "No hidden common cause",
    "Nothing outside the table acts on two of its variables.",
    "Conflicts; arrows that run against what is known. --method fci makes no such assumption: its edges a <-> b are hidden "
    "causes.",
)
SELECTION = (
    "No selection",
    "Which rows are in the table does not depend on effects of its variables.",
    "Edges between variables that have nothing to do with each other. Nothing else here shows it.",
)
FAITHFUL = (
    "Faithfulness",
    "All that the graph makes dependent is dependent in the data: effects along two paths do not cancel, and no variable is "
    "a function of others.",
    "A known edge is missing, and separations.csv shows a condition that makes no sense for it; close calls; edges that come "
    "and go between resamples.",
)
ACYCLIC = (
    "No feedback",
    "No variable causes itself through others, at the time scale of the measurements.",
    "Conflicts, and arrows whose direction changes between resamples.",
)
ROWS = (
    "Independent rows",
    "Rows are independent draws from one system: no time series, no several rows of one subject, no mixture of groups.",
    "Too many edges, all with tiny p-values. Take one row per subject, or name the groups with --domain.",
)


def assumptions(search: Search, test: str, graph: CPDAG | PAG, variables: Variables) -> list[list[str]]:
    """The rows of the table, with what the case at hand shows."""
    causes = SELECTION if search.method == "fci" else HIDDEN
    rows = [list(row) for row in (causes, FAITHFUL, ACYCLIC, OF_TEST[test], ROWS)]
    if search.method == "domains":
        rows.pop()  # the domains are the groups
    count = len(graph.conflicts)
    seen = "Here: no conflicts." if not count else f"Here: {count} conflict{'s' if count > 1 else ''}."
    for row in rows:
        if "onflicts" in row[2]:
            row[2] += f" {seen}"
        elif "Skewness" in row[2]:
            row[2] += f" {_skewed(variables)}"
    return rows


def _skewed(variables: Variables) -> str:
    skewness = {
        name: float(stats.skew(variables.column(name))) for name in variables.names if variables.is_numeric(name)
    }
    far = sorted((name for name, s in skewness.items() if np.abs(s) > SKEWED), key=lambda name: -abs(skewness[name]))
    if not far:
        return f"Here: no column beyond {SKEWED:g}."
    more = f" and {len(far) - 4} more" if len(far) > 4 else ""
    return f"Here: {', '.join(f'{name} {skewness[name]:.1f}' for name in far[:4])}{more}."
