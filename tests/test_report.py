"""The report is one page that needs nothing else."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from latentcause.report import Report


def example() -> Report:
    ax = plt.subplots()[1]
    ax.plot([1, 2])
    report = Report("A & B", "Lead <b>.").section("First", "One.\n\nTwo < three.").items(["x & y"])
    return report.table(["node", "value"], [["z1", 0.5]], "Numbers").figure("curve", ax, 'A "curve"')


def test_everything_is_there_and_text_is_escaped() -> None:
    html = example().to_html()
    for part in (
        "A &amp; B",
        "Lead &lt;b&gt;.",
        "<p>One.</p>",
        "Two &lt; three.",
        "<li>x &amp; y</li>",
        "<td>0.5</td>",
    ):
        assert part in html
    assert "A &quot;curve&quot;" in html


def test_page_is_well_formed_and_needs_nothing_else() -> None:
    class Tags(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []
            self.sources: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
            if tag not in ("meta", "img"):
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    tags = Tags()
    html = example().to_html()
    tags.feed(html)
    assert tags.open == []
    assert [source.split(",")[0] for source in tags.sources] == ["data:image/png;base64"]
    assert "://" not in html
    assert "@import" not in html
    assert 'name="viewport"' in html
    assert "prefers-color-scheme: dark" in html


def test_embedded_figure_is_the_saved_one_and_its_axes_are_closed(tmp_path: Path) -> None:
    report = example()
    assert plt.get_fignums() == []
    report.save_figures(tmp_path / "figures")
    saved = (tmp_path / "figures" / "curve.png").read_bytes()
    assert saved.startswith(b"\x89PNG")
    (embedded,) = re.findall(r"base64,([^\"]+)", report.to_html())
    assert base64.b64decode(embedded) == saved


def test_columns_of_sentences_break_their_lines() -> None:
    page = Report("Words").table(["what", "why"], [["short", "a sentence that is too long " * 4], ["b", "c"]]).to_html()
    assert '<th class="text">what</th><th class="text prose">why</th>' in page
    assert '<td class="text">b</td><td class="text prose">c</td>' in page


def test_same_content_same_page(tmp_path: Path) -> None:
    example().save(tmp_path / "one.html")
    example().save(tmp_path / "two.html")
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


def test_mistakes_are_named() -> None:
    report = example()
    with pytest.raises(ValueError, match="already: give each its own name"):
        report.figure("curve", plt.subplots()[1], "again")
    with pytest.raises(ValueError, match=r"has 1 cells for the 2 columns \['node', 'value'\]"):
        report.table(["node", "value"], [["z1"]])
    with pytest.raises(FileNotFoundError, match="no folder"):
        report.save("nowhere/report.html")
