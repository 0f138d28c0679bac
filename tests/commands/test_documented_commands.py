"""Every command that the documentation shows has the options it shows, and those marked as runnable run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from latentcause.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
RUNNABLE = "<!-- runnable -->"


def fences(page: Path) -> Iterator[tuple[str, str, bool]]:
    """Language, text, and whether it is marked as runnable, of every fenced block."""
    before = ""
    for token in MarkdownIt().parse(page.read_text()):
        if token.type == "fence":
            yield (token.info.split() or [""])[0], token.content, before == RUNNABLE
        before = token.content.strip() if token.type == "html_block" else ""


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of each line that calls latentcause."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["latentcause"]:
            yield words[1:]


SHOWN = [
    pytest.param(words, id=f"{page.name}: {' '.join(words)[:60]}")
    for page in PAGES
    for language, text, _ in fences(page)
    if language == "sh"
    for words in commands(text)
    if "..." not in words
]


@pytest.mark.parametrize("words", SHOWN)
def test_options_in_the_documentation_exist(words: list[str]) -> None:
    command: Any = typer.main.get_command(app)
    words = [word for word in words if word != "--debug"]
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        command, words = command.commands[words[0]], words[1:]
    known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    assert [word for word in words if word.startswith("--") and word not in known] == []


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(language == "sh" and marked for language, _, marked in fences(page))],
    ids=lambda page: page.name,
)
def test_marked_commands_run_from_top_to_bottom(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for language, text, marked in fences(page):
        if marked and language == "python":
            exec(compile(text, str(page), "exec"), namespace)
        elif marked:
            for words in commands(text):
                done = CliRunner().invoke(app, words)
                assert done.exit_code == 0, f"{words}: {done.output}"
