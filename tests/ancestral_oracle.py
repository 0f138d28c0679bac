"""The true PAG of a small graph with hidden nodes, by brute force: no orientation rule is used."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product

import networkx as nx

from latentcause.discovery.pag import PAG
from latentcause.graph import CausalGraph

Heads = dict[tuple[str, str], bool]  # (a, b): whether the edge between a and b has an arrowhead at b
Statement = tuple[str, str, frozenset[str]]


def true_pag(graph: CausalGraph, latent: set[str]) -> PAG:
    """The marks shared by all maximal ancestral graphs whose m-separations are the d-separations of ``graph``."""
    nodes = tuple(node for node in graph.nodes if node not in latent)
    digraph = graph.to_networkx()
    statements = {
        (a, b, given): nx.is_d_separator(digraph, {a}, {b}, set(given))
        for a, b in combinations(nodes, 2)
        for given in subsets(nodes, a, b)
    }
    joined = [(a, b) for a, b in combinations(nodes, 2) if not any(statements[a, b, s] for s in subsets(nodes, a, b))]
    members = [heads for heads in orientations(nodes, joined, statements) if separations(nodes, heads) == statements]
    return PAG(nodes, [(a, shared(members, b, a), shared(members, a, b), b) for a, b in joined])


def shared(members: list[Heads], a: str, b: str) -> str:
    found = {heads[a, b] for heads in members}
    return "circle" if len(found) == 2 else "arrow" if found == {True} else "tail"


def subsets(nodes: tuple[str, ...], a: str, b: str) -> list[frozenset[str]]:
    rest = [node for node in nodes if node not in (a, b)]
    return [frozenset(given) for k in range(len(rest) + 1) for given in combinations(rest, k)]


def orientations(
    nodes: tuple[str, ...], joined: list[tuple[str, str]], statements: dict[Statement, bool]
) -> Iterator[Heads]:
    """Ancestral graphs on a skeleton that have its unshielded colliders (which every member has)."""
    near = {node: {other for pair in joined if node in pair for other in pair} - {node} for node in nodes}
    triples = {
        (a, c, b): not any(c in s and statements[a, b, s] for s in subsets(nodes, a, b))
        for a, b in combinations(nodes, 2)
        if b not in near[a]
        for c in near[a] & near[b]
    }
    for kinds in product([(False, True), (True, False), (True, True)], repeat=len(joined)):
        heads: Heads = {}
        for (a, b), (at_a, at_b) in zip(joined, kinds, strict=True):
            heads[b, a], heads[a, b] = at_a, at_b
        if any((heads[a, c] and heads[b, c]) != collider for (a, c, b), collider in triples.items()):
            continue
        arrows = directed_part(nodes, heads)
        if nx.is_directed_acyclic_graph(arrows) and not any(
            heads[a, b] and heads[b, a] and (nx.has_path(arrows, a, b) or nx.has_path(arrows, b, a)) for a, b in joined
        ):
            yield heads


def directed_part(nodes: tuple[str, ...], heads: Heads) -> nx.DiGraph:
    arrows = nx.DiGraph()
    arrows.add_nodes_from(nodes)
    arrows.add_edges_from(ends for ends, head in heads.items() if head and not heads[ends[::-1]])
    return arrows


def separations(nodes: tuple[str, ...], heads: Heads) -> dict[Statement, bool]:
    """m-separation (Richardson and Spirtes 2002) by listing paths."""
    arrows = directed_part(nodes, heads)
    above = {node: nx.ancestors(arrows, node) | {node} for node in nodes}
    skeleton = nx.Graph()
    skeleton.add_nodes_from(nodes)
    skeleton.add_edges_from(heads)
    found = {}
    for a, b in combinations(nodes, 2):
        paths = list(nx.all_simple_paths(skeleton, a, b))
        for given in subsets(nodes, a, b):
            opening = set().union(*(above[node] for node in given))
            found[a, b, given] = not any(
                all(
                    (v in opening) if heads[u, v] and heads[w, v] else (v not in given)
                    for u, v, w in zip(path, path[1:], path[2:], strict=False)
                )
                for path in paths
            )
    return found
