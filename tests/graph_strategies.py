"""Random causal graphs for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from latentcause.graph import CausalGraph

PLAIN = st.integers(0, 999).map("v{}".format)
ANY_NAME = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6).filter(str.isprintable).filter(
    lambda name: name == name.strip()
) | st.sampled_from(
    ['"', "\\", 'a"', "a\\", "->", "a -> b", "a;b", "--", "a, b", "{x}", "node", "digraph", "# x", "p-ERK"]
)


@st.composite
def graphs(draw: st.DrawFn, names: st.SearchStrategy[str] = PLAIN, least: int = 1, most: int = 7) -> CausalGraph:
    """Any DAG over up to ``most`` nodes, whose order of nodes need not be a topological order."""
    nodes = draw(st.lists(names, min_size=least, max_size=most, unique=True))
    order = draw(st.permutations(nodes))
    pairs = [(cause, effect) for i, cause in enumerate(order) for effect in order[i + 1 :]]
    edges = draw(st.lists(st.sampled_from(pairs), unique=True) if pairs else st.just([]))
    return CausalGraph(tuple(nodes), tuple(edges))


@st.composite
def graphs_and_sets(draw: st.DrawFn) -> tuple[CausalGraph, set[str], set[str], set[str]]:
    """A graph and three disjoint sets of its nodes, the first two not empty."""
    graph = draw(graphs(least=2))
    group = dict(
        zip(graph.nodes, draw(st.lists(st.integers(0, 3), min_size=len(graph), max_size=len(graph))), strict=True)
    )
    first, second = draw(st.permutations(graph.nodes))[:2]
    group |= {first: 0, second: 1}
    x, y, condition = ({node for node in graph.nodes if group[node] == number} for number in range(3))
    return graph, x, y, condition
