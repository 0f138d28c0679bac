"""The report of ``latentcause discover``: the graph, what is open in it and why, and how far to trust it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

from latentcause.commands.assumptions import HEADER, assumptions
from latentcause.commands.edges import MOST_DAGS, FoundEdge, edges_of, first_members
from latentcause.commands.search import Search
from latentcause.commands.stability import Stability, plot, shown_pairs
from latentcause.data.variables import Variables
from latentcause.discovery.cpdag import CPDAG
from latentcause.discovery.interventional import DomainsResult
from latentcause.discovery.pag import PAG
from latentcause.metrics import GraphErrors
from latentcause.report import Report

CLOSE = 10.0  # a p-value within this factor of alpha is a close call
MOST_ROWS = 60

Rows = list[list[str]]


@dataclass(frozen=True)
class Discovery:
    """What was found, as report, summary and screen need it; ``errors`` are distances from a true graph, by name."""

    source: str
    variables: Variables
    search: Search
    test: str
    graph: CPDAG | PAG
    domains: DomainsResult | None
    stability: Stability | None
    errors: Mapping[str, GraphErrors]
    notes: tuple[str, ...]

    @property
    def search_words(self) -> str:
        """The method, its test and its level."""
        alpha = "" if self.search.alpha is None else f", alpha {self.search.alpha:g}"
        name = "pc on domains" if self.search.method == "domains" else self.search.method
        return f"{name} ({self.test}{alpha})"

    @cached_property
    def class_words(self) -> str:
        """How many DAGs the class holds; empty for a `PAG`."""
        if isinstance(self.graph, PAG):
            return ""
        members, is_all = first_members(self.graph)
        if not is_all:
            return f"more than {MOST_DAGS} graphs fit the data equally well"
        return "one graph fits the data" if len(members) == 1 else f"{len(members)} graphs fit the data equally well"


def discover_report(found: Discovery) -> Report:
    """The report to read after ``latentcause discover``."""
    graph, edges = found.graph, edges_of(found.graph)
    lead = (
        f"{found.search_words} on {found.source}: {len(found.variables)} rows, {len(graph)} variables, {len(edges)} edges"
        + (f"; {found.class_words}." if found.class_words else ".")
    )
    report = Report("Causal graph", lead)
    if found.notes:
        report.section("Notes").items(found.notes)
    _add_graph(report, found)
    _add_open_edges(report, found)
    if found.domains is not None:
        _add_domains(report, found.domains)
    _add_doubts(report, found)
    _add_stability(report, found)
    if found.errors:
        _add_errors(report, found)
    report.section(
        "What this rests on",
        "No method sees causes in a table alone: it sees dependence, and the rest is assumed. Where an assumption fails, "
        "the graph is wrong in some way; the last column says where to look for it.",
    ).table(HEADER, assumptions(found.search, found.test, graph, found.variables))
    return _add_columns(report, found)


def _add_graph(report: Report, found: Discovery) -> None:
    edges = edges_of(found.graph)
    report.section("The graph")
    targeted = {} if found.domains is None else found.domains.targets
    highlight = {node for nodes in targeted.values() for node in nodes}
    legend = "a plain line: the direction is open" if isinstance(found.graph, CPDAG) else "a ring: this end is open"
    legend += "; orange: targeted by at least one domain" if highlight else ""
    report.figure("graph", found.graph.plot(highlight=highlight), f"The graph. An arrow: cause to effect; {legend}")
    if not edges:
        report.text(
            f"There are no edges: as far as the test ({found.test}) can see, no variable depends on another. More rows, "
            "a larger --alpha or another --test may see more."
        )
        return
    header = ["edge", "what it says, if the assumptions below hold"] + (
        [] if found.search.method == "ges" else ["largest p-value"]
    )
    rows = [[str(e), e.meaning, *([_p(e.p_value)] if len(header) == 3 else [])] for e in edges[:MOST_ROWS]]
    caption = "The largest p-value of all tests that could have removed the edge: the smaller, the surer the edge"
    report.table(header, rows, caption if len(header) == 3 else "")
    if len(edges) > MOST_ROWS:
        report.text(f"{len(edges) - MOST_ROWS} more are in edges.csv.")


def _add_open_edges(report: Report, found: Discovery) -> None:
    graph = found.graph
    if isinstance(graph, PAG):
        rings = [edge for edge in edges_of(graph) if "circle" in (edge.at_a, edge.at_b)]
        report.section(
            "What is open",
            f"Of {_count(edges_of(graph))}, {len(rings)} with a ring at an end: among the systems that have these "
            "independences, with and without hidden variables, some have an arrowhead there and some do not. Known "
            "directions (--knowledge) may settle them.",
        )
        return
    if not graph.undirected:
        report.section("What is open", f"Every edge has a direction, and {found.class_words}.")
        return
    members, is_all = first_members(graph)
    rows = []
    for a, b in graph.undirected[:MOST_ROWS]:
        share = sum((a, b) in dag.edges for dag in members)
        rows.append([f"{a} - {b}", f"{share} of {len(members)}", f"{len(members) - share} of {len(members)}"])
    counted = "" if is_all else f" The first {MOST_DAGS} are counted."
    report.section(
        "What is open",
        f"Of {_count(edges_of(graph))}, {len(graph.undirected)} without a direction. Turning such an edge either way "
        "makes no v-structure (two causes that meet in an effect and are not joined) that the data contradict, so graphs "
        f"with both directions imply the same independences: {found.class_words}, and no test on these rows can "
        "choose. What can: known directions (--knowledge), or rows from experiments on one of the two ends "
        f"(--domain).{counted}",
    ).table(["edge", "to the second", "to the first"], rows, "In how many of these graphs it points which way")
    report.text(f"dag.txt holds one of them, for `latentcause scm fit --graph`: {graph.consistent_extension()}")


def _add_domains(report: Report, domains: DomainsResult) -> None:
    known = "as given" if domains.reference is None else f"inferred, relative to {domains.reference!r}"
    report.section(
        "The domains",
        f"Targets {known}. The p-values are those of: the mechanism of this node is the same in this domain as "
        f"{'in the domains that do not target it' if domains.reference is None else 'in the reference'}. One below "
        f"{domains.alpha:g} at a node that the domain does not target says that the domain changed more than its "
        "targets; then arrows that rest on that node's mechanism do not turn, or turn wrongly.",
    )
    rows = [
        [str(domain), ", ".join(nodes) or "none", *map(_p, changes)]
        for (domain, nodes), changes in zip(domains.targets.items(), domains.changes.to_numpy(), strict=True)
    ]
    report.table(["domain", "targets", *domains.changes.columns], rows)
    evidence = [
        [
            f"{row['node']}, {row['neighbour']}",
            _p(row["p_with"]),
            _p(row["p_without"]),
            " -> ".join(row["arrow"]) or "nothing",
            "yes" if row["exact"] else "no",
            f"{row['strength']:.3g}",
        ]
        for row in domains.evidence.head(MOST_ROWS).to_dict("records")
    ]
    if evidence:
        report.table(
            ["node, neighbour", "p with", "p without", "speaks for", "invariant", "strength"],
            evidence,
            "How invariant the node's mechanism is over domains, at best, given sets with and without this neighbour",
        )


def close_calls(found: Discovery) -> Rows:
    """Edges that nearly went, and pairs that were nearly joined: what, p-value, and the condition that parts them."""
    alpha = found.search.alpha
    if alpha is None:
        return []
    rows = [
        (edge.p_value, ["edge, nearly removed", str(edge), _p(edge.p_value), ""])
        for edge in edges_of(found.graph)
        if edge.p_value is not None and edge.p_value > alpha / CLOSE
    ]
    for pair, separation in found.graph.separations.items():
        if separation.p_value < CLOSE * alpha:
            names = ", ".join(sorted(pair, key=found.graph.nodes.index))
            given = ", ".join(separation.given) or "nothing"
            rows.append((separation.p_value, ["no edge, nearly joined", names, _p(separation.p_value), given]))
    rows.sort(key=lambda row: (abs(math.log(max(row[0], 1e-300) / alpha)), row[1][1]))
    return [row for _, row in rows]


def _add_doubts(report: Report, found: Discovery) -> None:
    if found.search.alpha is not None:
        calls = close_calls(found)
        report.section(
            "Close calls",
            f"p-values within a factor {CLOSE:g} of alpha ({found.search.alpha:g}). A little more or less data, or another "
            "alpha, would decide these pairs the other way, and directions elsewhere may hang on them."
            if calls
            else f"None: no p-value that decided an edge is within a factor {CLOSE:g} of alpha ({found.search.alpha:g}).",
        )
        if calls:
            report.table(["what", "pair", "p-value", "given"], calls[:MOST_ROWS])
    if found.graph.conflicts:
        report.section(
            "Conflicts",
            "Here the data contradict each other under the assumptions below: tests erred, or an assumption fails. The "
            "directions around these variables are the least sure.",
        ).items(found.graph.conflicts)


def _add_stability(report: Report, found: Discovery) -> None:
    if found.stability is None:
        report.section("Stability", "Not asked for: --bootstrap 100 shows how often each edge is found again.")
        return
    stability, alpha = found.stability, found.search.alpha
    text = (
        f"The share of {stability.resamples} tables, drawn from the rows with replacement, in which each pair is joined, and "
        "with which arrowheads. It shows what chance in the rows does to the graph, not what a failing assumption does."
    )
    if alpha is not None:
        chance = 2 * stats.norm.sf(stats.norm.isf(alpha / 2) / math.sqrt(2))
        text += (
            f" Resampling adds noise of its own: a test of two independent variables at alpha {alpha:g} finds them "
            f"dependent in {chance:.0%} of such tables, so a small share means nothing."
        )
    if stability.failed:
        text += f" {len(stability.failed)} more tables could not be searched, the first because: {stability.failed[0]}"
    report.section("Stability", text)
    pairs = shown_pairs(stability)
    if pairs.empty:
        report.text("No pair is joined in more than a few of them.")
        return
    report.figure("stability", plot(stability), "Pairs in the graph in dark letters; the others in grey ones")
    rows = [
        [
            f"{row['a']}, {row['b']}",
            row["edge"] or "none",
            f"{row['adjacent']:.0%}",
            f"{row['arrow_at_b'] + row['arrow_at_both']:.0%}",
            f"{row['arrow_at_a'] + row['arrow_at_both']:.0%}",
        ]
        for row in pairs.head(MOST_ROWS).to_dict("records")
    ]
    report.table(["pair", "in the graph", "joined", "arrowhead at the second", "at the first"], rows)


def _add_errors(report: Report, found: Discovery) -> None:
    report.section(
        "Against the true graph",
        "SHD: pairs joined differently. SID: pairs (cause, effect) whose intervention distribution the graph gets wrong; "
        "for a class, the best and the worst of its graphs. The class of the truth is what data alone can show of it.",
    ).table(*error_table(found))


def error_table(found: Discovery) -> tuple[list[str], Rows]:
    """Header and rows: distances from the true graph, of those that are defined."""
    header = [
        "compared with",
        "SHD",
        "SID",
        "adjacencies: precision",
        "recall",
        "F1",
        "arrows: precision",
        "recall",
        "F1",
    ]
    rows = []
    for name, errors in found.errors.items():
        sid = " to ".join(map(str, errors.sid)) if isinstance(errors.sid, tuple) else _or_blank(errors.sid)
        cells = [name, _or_blank(errors.shd1), sid]
        for scores in (errors.adjacency, errors.arrowhead):
            values = [float("nan")] * 3 if scores is None else [scores.precision, scores.recall, scores.f1]
            cells += ["" if math.isnan(value) else f"{value:.2f}" for value in values]
        rows.append(cells)
    defined = [j for j in range(len(header)) if any(row[j] for row in rows)]
    return [header[j] for j in defined], [[row[j] for j in defined] for row in rows]


def _add_columns(report: Report, found: Discovery) -> Report:
    variables = found.variables
    rows = []
    for name in variables.names:
        values = variables.column(name)
        if name in variables.levels:
            counts = np.bincount(values.astype(np.int64), minlength=len(variables.levels[name]))
            common = variables.levels[name][int(counts.argmax())]
            shown = f"{len(counts)} levels, rarest {counts.min()} rows, commonest {common!s} ({counts.max()})"
            rows.append([name, shown, "", "", "", ""])
        else:
            moments = (values.mean(), values.std(), stats.skew(values), stats.kurtosis(values))
            rows.append([name, "number", *(f"{moment:.3g}" for moment in moments)])
    header = ["column", "kind", "mean", "sd", "skewness", "excess kurtosis"]
    return report.section("The columns").table(header, rows, "After the transform; both 0 for a normal distribution")


def _p(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.2g}"


def _or_blank(value: object) -> str:
    return "" if value is None else str(value)


def _count(edges: list[FoundEdge]) -> str:
    return f"{len(edges)} edge{'' if len(edges) == 1 else 's'}"
