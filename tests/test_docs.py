"""Every example that a reader may copy runs: the docs' code cells, marked Markdown blocks, docstrings."""

from __future__ import annotations

import doctest
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
PAGES = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")} - {*(ROOT / "docs" / "_build").glob("**/*.md")})
RUNNABLE = "<!-- runnable -->"


def cells(text: str) -> Iterator[tuple[int, str]]:
    """Lines above it, and the code, of each ``{code-cell}`` and of each ``python`` block right below RUNNABLE."""
    before = ""
    for token in MarkdownIt().parse(text):
        if token.type == "fence" and token.map:
            language = token.info.split()[0] if token.info else ""
            if language == "{code-cell}":
                options = re.match(r"---\n(.*\n)*?---\n|(:.*\n)*", token.content)
                start = options.end() if options else 0
                yield token.map[0] + 1 + token.content.count("\n", 0, start), token.content[start:]
            elif language == "python" and before == RUNNABLE:
                yield token.map[0] + 1, token.content
        before = token.content.strip() if token.type == "html_block" else ""


def test_cells_are_found() -> None:
    cell = "```{code-cell}\n:tags: [x]\na = 1\n```\n\n```{code-cell} ipython3\n---\ntags: [x]\n---\nb = 1\n```\n"
    text = f"# T\n\n{cell}\n```python\nskipped\n```\n\n{RUNNABLE}\n```python\nc = 1\n```\n"
    assert list(cells(text)) == [(4, "a = 1\n"), (11, "b = 1\n"), (20, "c = 1\n")]


@pytest.mark.parametrize("page", [page for page in PAGES if any(cells(page.read_text()))], ids=lambda page: page.name)
def test_page_runs_from_top_to_bottom(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for line, code in cells(page.read_text()):
        exec(compile("\n" * line + code, str(page), "exec"), namespace)


@pytest.mark.parametrize(
    "module",
    [
        ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted(SOURCE.glob("latentcause/**/*.py"))
        if ">>> " in path.read_text()
    ],
)
def test_docstring_examples_give_what_they_show(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(module), optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0
    assert result.failed == 0


def test_links_between_pages_and_files_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text()):
            assert "://" in target or (page.parent / target).exists(), (
                f"{page.name} links to {target}, which is not there"
            )
