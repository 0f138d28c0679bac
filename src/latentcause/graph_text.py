"""Text forms of a causal graph: the one-line string, DOT, and a CSV of edges.

Every reader returns the nodes in order of first appearance and the edges as written; ``CausalGraph`` checks them. Every
writer keeps the order of the nodes and the nodes without edges, so that reading back gives an equal graph.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

Edge = tuple[str, str]
Parsed = tuple[list[str], list[Edge]]


def in_order_of_appearance(edges: Iterable[Edge]) -> list[str]:
    """The nodes of the edges, each once, in the order in which reading the edges meets them."""
    return list(dict.fromkeys(node for edge in edges for node in edge))


# --- one line: "z1 -> z2; z2 -> z3; z4" ------------------------------------------------------------------------------

_STRING_TOKEN = re.compile(r'\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<arrow>->)|(?P<end>;)|(?P<bare>(?:(?!->)[^;"])+))')
_NEEDS_QUOTES = re.compile(r'--|<-|->|[;",<>{}\[\]\\]')


def parse_string(text: str) -> Parsed:
    """Read ``"z1 -> z2 -> z3; z4"``: chains of arrows and lone nodes, separated by semicolons or line ends.

    A name with ``; , " < > [ ] { } \\`` or an arrow in it stands in double quotes (``\\"`` and ``\\\\`` inside).

    Raises
    ------
    ValueError
        Where a statement is not a node or a chain of arrows; the message shows the statement.
    """
    nodes: dict[str, None] = {}
    edges: list[Edge] = []
    for statement in _tokenised(text):
        chain = statement[::2]
        if len(statement) % 2 == 0 or "->" in chain or any(arrow != "->" for arrow in statement[1::2]):
            raise ValueError(
                f"cannot read {' '.join(statement)!r} as a graph: write names joined by arrows, as in 'z1 -> z2 -> z3'"
            )
        names = [_name(token) for token in chain]
        nodes.update(dict.fromkeys(names))
        edges.extend(pairwise(names))
    return list(nodes), edges


def format_string(nodes: Sequence[str], edges: Iterable[Edge]) -> str:
    """The one-line form. A node is named on its own only where the edges alone would not put it in its place."""
    return "; ".join(" -> ".join(map(_bare_or_quoted, statement)) for statement in _statements_of(nodes, edges))


def _statements_of(nodes: Sequence[str], edges: Iterable[Edge]) -> Iterator[tuple[str, ...]]:
    """The edges, and in between the nodes alone that reading must meet there so that all appear in their order."""
    position = {node: i for i, node in enumerate(nodes)}
    shown = 0  # nodes[:shown] have appeared
    for edge in edges:
        while (new := [position[node] for node in edge if position[node] >= shown]) != [
            *range(shown, shown + len(new))
        ]:
            yield (nodes[shown],)
            shown += 1
        yield edge
        shown += len(new)
    yield from ((node,) for node in nodes[shown:])


def _tokenised(text: str) -> Iterator[list[str]]:
    """Split into statements of tokens: names (quoted ones keep their quotes) and arrows."""
    for line in text.splitlines():
        statement: list[str] = []
        at = 0
        while line[at:].strip():
            match = _STRING_TOKEN.match(line, at)
            if match is None:
                raise ValueError(f'cannot read {line[at:].strip()!r} as a graph: a double quote (") is not closed')
            at = match.end()
            if match["end"]:
                if statement:
                    yield statement
                statement = []
            elif token := match[0].strip():
                statement.append(token)
        if statement:
            yield statement


def _name(token: str) -> str:
    if token.startswith('"'):
        return _unquoted(token)
    if _NEEDS_QUOTES.search(token):
        raise ValueError(
            f"cannot read {token!r} as one node: an edge is written 'cause -> effect', statements end with ';', "
            'and a name with such characters stands in double quotes (")'
        )
    return token


def _bare_or_quoted(name: str) -> str:
    return _quoted(name) if _NEEDS_QUOTES.search(name) else name


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _unquoted(token: str) -> str:
    return re.sub(r'\\(["\\])', r"\1", token[1:-1])


# --- DOT -------------------------------------------------------------------------------------------------------------

_DOT_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*|/\*.*?\*/|\#[^\n]*)
      | (?P<name>"(?:[^"\\]|\\.)*"|-?(?:\.\d+|\d+(?:\.\d*)?)|[^\W\d]\w*)
      | (?P<mark>->|--|[{}\[\];,=:])""",
    re.VERBOSE | re.DOTALL,
)


_DOT_MARKS = ("->", "--", *"{}[];,=:", "")


def parse_dot(text: str) -> Parsed:
    """Read a directed graph in the DOT language: edge chains, groups ``{a b} -> c``, subgraphs; attributes are skipped.

    Raises
    ------
    ValueError
        For an undirected graph, an HTML label or a syntax error, with the line it stands on.
    """
    return _DotReader(text).graph()


def format_dot(nodes: Iterable[str], edges: Iterable[Edge], undirected: Iterable[Edge] = ()) -> str:
    """The graph in the DOT language: every node in order, then every edge, those without a direction last."""
    lines = [f"  {_quoted(node)};" for node in nodes]
    lines += [f"  {_quoted(cause)} -> {_quoted(effect)};" for cause, effect in edges]
    lines += [f"  {_quoted(a)} -> {_quoted(b)} [dir=none];" for a, b in undirected]
    return "\n".join(["digraph {", *lines, "}", ""])


def format_marked_dot(nodes: Iterable[str], edges: Iterable[tuple[str, str, str, str]]) -> str:
    """The graph in the DOT language: edges (a, mark at a, mark at b, b) with tails, arrowheads and open circles."""
    lines = [f"  {_quoted(node)};" for node in nodes]
    lines += [
        f"  {_quoted(a)} -> {_quoted(b)} [dir=both, arrowtail={_DOT_HEADS[at_a]}, arrowhead={_DOT_HEADS[at_b]}];"
        for a, at_a, at_b, b in edges
    ]
    return "\n".join(["digraph {", *lines, "}", ""])


_DOT_HEADS = {"tail": "none", "arrow": "normal", "circle": "odot"}


class _DotReader:
    """Recursive descent over the tokens; each method reads one rule of the grammar."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(self._split())  # (token, where it starts); the empty token is the end
        self.at = 0
        self.nodes: dict[str, None] = {}
        self.edges: list[Edge] = []

    def graph(self) -> Parsed:
        strict = self._skip("strict")
        if not self._skip("digraph"):
            raise self._error("a directed graph starts with 'digraph'")
        if self._token != "{":
            self._id()
        self._block()
        if self._token:
            raise self._error("nothing may follow the closing brace")
        return list(self.nodes), list(dict.fromkeys(self.edges)) if strict else self.edges

    def _block(self) -> list[str]:
        """Read ``{ statement; ... }`` and return the nodes named in it."""
        self._expect("{")
        members: dict[str, None] = {}
        while not self._skip("}"):
            if not self._skip(";"):
                members.update(dict.fromkeys(self._statement()))
        return list(members)

    def _statement(self) -> list[str]:
        if self._token.lower() in ("graph", "node", "edge"):
            self.at += 1
            self._attributes()
            return []
        if self._token and self.tokens[self.at + 1][0] == "=":
            self.at += 2
            self._id()
            return []
        members = group = self._operand()
        while self._skip("->"):
            target = self._operand()
            self.edges.extend((cause, effect) for cause in group for effect in target)
            members, group = members + target, target
        self._attributes()
        return members

    def _operand(self) -> list[str]:
        """One node, or a (sub)graph that stands for all of its nodes."""
        if self._skip("subgraph") and self._token != "{":
            self._id()
        if self._token == "{":
            return self._block()
        node = self._id()
        while self._skip(":"):  # a port says where on the node's outline the arrow ends
            self._id()
        self.nodes[node] = None
        return [node]

    def _attributes(self) -> None:
        while self._skip("["):
            while not self._skip("]"):
                if not (self._skip(",") or self._skip(";")):
                    self._id()
                    if self._skip("="):
                        self._id()

    def _id(self) -> str:
        token = self._token
        if token in _DOT_MARKS:
            raise self._error("a name is missing")
        self.at += 1
        return _unquoted(token) if token.startswith('"') else token

    @property
    def _token(self) -> str:
        return self.tokens[self.at][0]

    def _skip(self, token: str) -> bool:
        found = self._token.lower() == token
        self.at += found
        return found

    def _expect(self, token: str) -> None:
        if not self._skip(token):
            raise self._error(f"{token!r} is missing")

    def _error(self, what: str) -> ValueError:
        token, start = self.tokens[self.at]
        line = self.text.count("\n", 0, start) + 1
        hint = "; '--' joins an undirected edge" if token == "--" else ""
        return ValueError(
            f"cannot read the DOT graph, line {line}, at {repr(token) if token else 'its end'}: {what}{hint}"
        )

    def _split(self) -> Iterator[tuple[str, int]]:
        at = 0
        while at < len(self.text):
            match = _DOT_TOKEN.match(self.text, at)
            if match is None:
                line = self.text.count("\n", 0, at) + 1
                what = "HTML labels are not read" if self.text[at] == "<" else "no such sign in the DOT language"
                raise ValueError(f"cannot read the DOT graph, line {line}, at {self.text[at : at + 20]!r}: {what}")
            if match["space"] is None:
                yield match[0], at
            at = match.end()
        yield "", len(self.text)


# --- CSV of edges ----------------------------------------------------------------------------------------------------

_CSV_HEADER = ("cause", "effect")


def parse_csv(text: str) -> Parsed:
    """Read a table with the columns ``cause`` and ``effect``, one edge a row; an empty effect only names a node.

    Raises
    ------
    ValueError
        Where one of the two columns is missing, or a row has no cause or the wrong number of cells.
    """
    rows = csv.reader(io.StringIO(text), skipinitialspace=True)
    header = [cell.strip() for cell in next(rows, [])]
    if missing := [column for column in _CSV_HEADER if column not in header]:
        raise ValueError(f"a CSV of edges needs the columns cause and effect: {missing[0]!r} is not in {header}")
    nodes: dict[str, None] = {}
    edges: list[Edge] = []
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            raise ValueError(f"line {rows.line_num} has {len(row)} cells, the header {len(header)}: {','.join(row)!r}")
        cause, effect = (row[header.index(column)].strip() for column in _CSV_HEADER)
        if not cause:
            raise ValueError(f"line {rows.line_num} has no cause: {','.join(row)!r}")
        nodes[cause] = None
        if effect:
            nodes[effect] = None
            edges.append((cause, effect))
    return list(nodes), edges


def format_csv(nodes: Sequence[str], edges: Iterable[Edge]) -> str:
    """The edges as CSV. A node has a row of its own only where the edges alone would not put it in its place."""
    rows = ((*statement, "")[:2] for statement in _statements_of(nodes, edges))
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([_CSV_HEADER, *rows])
    return out.getvalue()
