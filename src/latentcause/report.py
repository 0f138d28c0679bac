"""A report to read in a browser: one HTML file that holds its figures and needs nothing else."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from latentcause.writing import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 144  # twice that of a screen of old: sharp on a phone
LONG_CELL = 60  # characters; a column with a longer cell is prose, whose lines are broken


class Report:
    """Sections of text, tables and figures, in the order in which they are added.

    Parameters
    ----------
    title : str
    lead : str
        The paragraph below the title: what this is, and the main result.

    Examples
    --------
    >>> report = Report("Cells", "Two conditions.").section("Result", "All is well.")
    >>> "<h2>Result</h2>" in report.table(["node", "error"], [["z1", "0.04"]]).to_html()
    True
    """

    def __init__(self, title: str, lead: str = "") -> None:
        self.title = title
        self.lead = lead
        self._parts: list[str] = []
        self._pictures: dict[str, bytes] = {}

    def section(self, title: str, text: str = "") -> Self:
        """Begin a section."""
        self._parts.append(f"<h2>{escape(title)}</h2>")
        return self.text(text) if text else self

    def text(self, text: str) -> Self:
        """Add paragraphs, which empty lines separate."""
        self._parts += [f"<p>{escape(paragraph.strip())}</p>" for paragraph in text.split("\n\n") if paragraph.strip()]
        return self

    def items(self, items: Iterable[str]) -> Self:
        """Add a list."""
        rows = "".join(f"<li>{escape(item)}</li>" for item in items)
        self._parts.append(f"<ul>{rows}</ul>")
        return self

    def table(self, header: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "") -> Self:
        """Add a table; columns of numbers are aligned to the right.

        Raises
        ------
        ValueError
            If a row has another number of cells than the header.
        """
        cells = [[str(cell) for cell in row] for row in rows]
        for row in cells:
            if len(row) != len(header):
                raise ValueError(
                    f"the row {list(row)} has {len(row)} cells for the {len(header)} columns {list(header)}"
                )
        kinds = [_class_of(column) for column in zip(*cells, strict=True)]
        kinds = kinds or [""] * len(header)
        head = "".join(f"<th{kind}>{escape(name)}</th>" for name, kind in zip(header, kinds, strict=True))
        body = [
            "<tr>" + "".join(f"<td{kind}>{escape(c)}</td>" for c, kind in zip(row, kinds, strict=True)) + "</tr>"
            for row in cells
        ]
        note = f"<caption>{escape(caption)}</caption>" if caption else ""
        self._parts.append(
            f'<div class="wide"><table>{note}<thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'
        )
        return self

    def figure(self, name: str, picture: Figure | Axes, caption: str) -> Self:
        """Add a figure (or the figure of these axes), which is closed: it is drawn here and now.

        Parameters
        ----------
        name : str
            Of the file that ``save_figures`` writes, without suffix; each once.
        picture : Figure or Axes
        caption : str
            Also the text that stands for the figure where it cannot be seen.

        Raises
        ------
        ValueError
            If a figure has this name already.
        """
        import matplotlib.pyplot as plt

        if name in self._pictures:
            raise ValueError(f"the report has a figure {name!r} already: give each its own name")
        drawn: Any = getattr(picture, "figure", picture)
        buffer = io.BytesIO()
        # No date or version goes into the file: the same figure gives the same bytes.
        drawn.savefig(
            buffer, format="png", dpi=DPI, bbox_inches="tight", facecolor="white", metadata={"Software": None}
        )
        plt.close(drawn)
        picture_bytes = self._pictures[name] = buffer.getvalue()
        width = round(int.from_bytes(picture_bytes[16:20], "big") * 96 / DPI)  # the PNG header's; a CSS inch is 96 px
        data = base64.b64encode(picture_bytes).decode("ascii")
        self._parts.append(
            f'<figure><div class="wide"><img src="data:image/png;base64,{data}" alt="{escape(caption)}" '
            f'style="width:{width}px"></div><figcaption>{escape(caption)}</figcaption></figure>'
        )
        return self

    def to_html(self) -> str:
        """The whole report as one page without links to anything outside it."""
        lead = f'<p class="lead">{escape(self.lead)}</p>' if self.lead else ""
        return _PAGE.format(title=escape(self.title), style=_STYLE, lead=lead, body="\n".join(self._parts))

    def save(self, path: str | Path) -> None:
        """Write the page; it appears under its name once it is complete."""
        with write_atomically(path) as temporary:
            temporary.write_text(self.to_html(), encoding="utf-8")

    def save_figures(self, folder: str | Path) -> None:
        """Write every figure as NAME.png into ``folder``, which is made where it is missing."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in self._pictures.items():
            with write_atomically(folder / f"{name}.png") as temporary:
                temporary.write_bytes(picture)


def looks_numeric(cell: str) -> bool:
    """Whether a table's cell is a number, with or without a unit sign, or empty."""
    return not cell or cell.removesuffix("%").strip().replace(".", "", 1).replace("-", "").replace("e", "").isdigit()


def _class_of(column: Sequence[str]) -> str:
    if all(map(looks_numeric, column)):
        return ""
    return ' class="text prose"' if max(map(len, column)) > LONG_CELL else ' class="text"'


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
{lead}
{body}
</main>
</body>
</html>
"""

# Figures stay on white in the dark too: their ink is dark.
_STYLE = """
:root { --ink: #1d2329; --soft: #5b6670; --page: #ffffff; --line: #d9dee3; --stripe: #f4f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --soft: #9aa6b1; --page: #15191d; --line: #343c44; --stripe: #1d2329; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.2rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: .4rem 0; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .4rem; padding-top: .8rem; border-top: 1px solid var(--line); }
p, li { max-width: 46rem; overflow-wrap: anywhere; }
.lead { color: var(--soft); font-size: 1.05rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; margin: .6rem 0; }
caption { text-align: left; color: var(--soft); padding-bottom: .3rem; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th.text, td.text { text-align: left; }
td.prose { white-space: normal; min-width: 15rem; vertical-align: top; }
tbody tr:nth-child(odd) { background: var(--stripe); }
figure { margin: 1rem 0; }
figure .wide { background: #ffffff; border: 1px solid var(--line); border-radius: 8px; padding: .6rem; }
img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
@media (max-width: 40rem) { img { max-width: 38rem; } }
figcaption { color: var(--soft); font-size: .9rem; margin-top: .3rem; }
""".strip()
