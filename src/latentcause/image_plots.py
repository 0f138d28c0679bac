"""Pictures of images and their counterfactuals."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import ceil, floor, log10
from typing import TYPE_CHECKING, Any

import numpy as np

from latentcause.plots import INK, QUIET, TARGETED

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["counterfactuals", "image_rows"]

GAP = 0.07  # between images; lengths are in widths of an image
LINE = 0.17  # height of a line of text
BETWEEN = 0.3  # blocks
INCHES = 1.12  # width of an image on paper
SOFT = "#66707a"  # text of the second rank
MOST_BESIDE = 8  # images in a row, so that the factors beneath stay legible
LONGEST = 15  # characters of a level; longer ones are cut


def image_rows(rows: Mapping[str, np.ndarray]) -> Figure:
    """Rows of images beneath each other, the same image in every column.

    Parameters
    ----------
    rows : mapping from label to array (n, c, h, w)
        Floats in [0, 1]; one channel is shown in grey, three in colours. Of n, the first 8 are shown.

    Raises
    ------
    ValueError
        For no rows, and rows of unequal shape.
    """
    shapes = {name: images.shape for name, images in rows.items()}
    if not rows or len(set(shapes.values())) > 1:
        raise ValueError(f"rows of images of one shape (n, c, h, w) are needed, not {shapes}")
    canvas = _Canvas(next(iter(rows.values())), rows=len(rows), lines=0)
    for position, (name, images) in enumerate(rows.items()):
        canvas.label(position, name)
        for column, image in enumerate(images[:MOST_BESIDE]):
            canvas.image(position, column, _shown(image), cmap="gray", vmin=0, vmax=1)
    return canvas.figure


def counterfactuals(
    factual: np.ndarray,
    counterfactual: np.ndarray,
    factors: pd.DataFrame,
    changed: pd.DataFrame,
    acted: Collection[str] = (),
    measured: tuple[pd.DataFrame, pd.DataFrame] | None = None,
    title: str = "",
) -> Figure:
    """Images, their counterfactuals, and the signed difference; beneath each, its factors before and after.

    The difference is that of the channel that changed most: red where the counterfactual is brighter, blue where it is darker.

    Parameters
    ----------
    factual, counterfactual : ndarray (n, c, h, w)
        Floats in [0, 1]. More than 8 go on in further blocks.
    factors, changed : DataFrame
        Factual and counterfactual factors, n rows, in their own units.
    acted : collection of str
        Factors that were acted on; they have the colour of interventions.
    measured : pair of DataFrame, optional
        What an instrument finds in the factual and the counterfactual images. Its columns need not be the factors'.
    title : str

    Raises
    ------
    ValueError
        If the shapes do not fit each other.
    """
    n = len(factual)
    tables = [factors, changed, *(measured or ())]
    if factual.shape != counterfactual.shape or any(len(table) != n for table in tables):
        raise ValueError(
            f"{factual.shape} factual and {counterfactual.shape} counterfactual images with {list(map(len, tables))} rows of "
            "factors: give the same number of each"
        )
    lines = _lines(factors, changed, acted, measured)
    canvas = _Canvas(factual, rows=3, lines=len(lines))
    difference = _signed_difference(factual, counterfactual)
    limit = float(np.abs(difference).max()) or 1.0
    for start in range(0, n, MOST_BESIDE):
        block = start // MOST_BESIDE
        for position, name in enumerate(("factual", "counterfactual", "difference")):
            canvas.label(position, name, block=block)
        for column, row in enumerate(range(start, min(n, start + MOST_BESIDE))):
            for position, images in enumerate((factual, counterfactual)):
                canvas.image(position, column, _shown(images[row]), block, cmap="gray", vmin=0, vmax=1)
            drawn = canvas.image(2, column, difference[row], block, cmap="RdBu_r", vmin=-limit, vmax=limit)
            for number, (_, texts, colours) in enumerate(lines):
                canvas.text(number, column, texts[row], colours[row], block)
        for number, (name, _, _) in enumerate(lines):
            canvas.line_label(number, name, block)
    canvas.colour_bar(drawn, limit)
    canvas.title(title)
    return canvas.figure


# --- the canvas ------------------------------------------------------------------------------------------------------


class _Canvas:
    """One pair of axes in widths of an image, y downwards: blocks of rows of images, with lines of text beneath each."""

    def __init__(self, images: np.ndarray, rows: int, lines: int) -> None:
        import matplotlib.pyplot as plt

        self.aspect = images.shape[2] / images.shape[3]
        self.columns = min(len(images), MOST_BESIDE)
        self.row_height = self.aspect + GAP
        self.rows = rows
        self.block_height = rows * self.row_height + lines * LINE + BETWEEN
        blocks = ceil(len(images) / MOST_BESIDE) if lines else 1
        width, height = self.columns * (1 + GAP) - GAP, blocks * self.block_height - BETWEEN
        size = (INCHES * width, INCHES * height)
        self.figure: Figure = plt.figure(figsize=size)
        self.axes: Axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_xlim(0, width)
        self.axes.set_ylim(height, 0)
        self.axes.set_axis_off()

    def image(self, row: int, column: int, pixels: np.ndarray, block: int = 0, **style: Any) -> Any:
        left, top = column * (1 + GAP), block * self.block_height + row * self.row_height
        extent = (left, left + 1, top + self.aspect, top)
        drawn = self.axes.imshow(pixels, extent=extent, aspect="auto", interpolation="nearest", **style)
        frame = ([left, left + 1, left + 1, left, left], [top, top, top + self.aspect, top + self.aspect, top])
        self.axes.plot(*frame, color=QUIET, linewidth=0.5, clip_on=False)
        return drawn

    def label(self, row: int, name: str, block: int = 0) -> None:
        middle = block * self.block_height + row * self.row_height + self.aspect / 2
        self.axes.text(-0.12, middle, name, ha="right", va="center", fontsize=9, color=INK)

    def text(self, line: int, column: int, text: str, colour: str, block: int) -> None:
        centre = column * (1 + GAP) + 0.5
        self.axes.text(centre, self._height_of(line, block), text, ha="center", va="center", fontsize=7.5, color=colour)

    def line_label(self, line: int, name: str, block: int) -> None:
        self.axes.text(-0.12, self._height_of(line, block), name, ha="right", va="center", fontsize=8, color=INK)

    def colour_bar(self, drawn: Any, limit: float) -> None:
        """Beside the differences of the first block."""
        width, height = self.axes.get_xlim()[1], self.axes.get_ylim()[0]
        bottom = 1 - (2 * self.row_height + self.aspect) / height
        place = self.axes.inset_axes((1 + 0.1 / width, bottom, 0.09 / width, self.aspect / height))
        bar = self.figure.colorbar(drawn, cax=place)
        bar.set_ticks([-limit, 0, limit], labels=[f"{-limit:.2g} darker", "0", f"+{limit:.2g} brighter"])
        bar.ax.tick_params(labelsize=7, length=2)
        bar.outline.set_linewidth(0.5)

    def title(self, text: str) -> None:
        """Above the first row, where there is text."""
        self.axes.text(0, -0.08, text, ha="left", va="bottom", fontsize=10, color=INK)

    def _height_of(self, line: int, block: int) -> float:
        return block * self.block_height + self.rows * self.row_height + (line + 0.5) * LINE


# --- what is shown ---------------------------------------------------------------------------------------------------


def _shown(image: np.ndarray) -> np.ndarray:
    """An image (c, h, w) as matplotlib takes it: colours (h, w, 3), or grey (h, w) where there are not three channels."""
    return np.moveaxis(image, 0, -1) if len(image) == 3 else image.mean(axis=0)


def _signed_difference(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(n, h, w): of the channels, the one that changed most."""
    difference = after - before
    most = np.abs(difference).argmax(axis=1, keepdims=True)
    found: np.ndarray = np.take_along_axis(difference, most, axis=1)[:, 0]
    return found


def _lines(
    factors: pd.DataFrame,
    changed: pd.DataFrame,
    acted: Collection[str],
    measured: tuple[pd.DataFrame, pd.DataFrame] | None,
) -> list[tuple[str, list[str], list[str]]]:
    """Of each line beneath the images: its name, and text and colour per image."""
    lines = []
    before, after = measured or (factors.iloc[:, :0], changed.iloc[:, :0])
    for name in factors.columns:
        texts = _changes(factors[name], changed[name])
        moved = TARGETED if name in acted else INK
        lines.append((name, texts, [moved if "→" in text else SOFT for text in texts]))
        if name in before.columns:
            lines.append(("measured", _changes(before[name], after[name]), [SOFT] * len(texts)))
    others = [name for name in before.columns if name not in factors.columns]
    return lines + [(f"measured {name}", _changes(before[name], after[name]), [SOFT] * len(before)) for name in others]


def _changes(before: pd.Series, after: pd.Series) -> list[str]:
    """ "a → b" per row, and only "a" where the two read the same."""
    pairs = zip(_words([*before, *after])[: len(before)], _words([*before, *after])[len(before) :], strict=True)
    return [first if first == second else f"{first} → {second}" for first, second in pairs]


def _words(values: Sequence[Any]) -> list[str]:
    """Numbers with three digits of the largest, levels as they are."""
    numeric = all(isinstance(value, (float, int, np.floating, np.integer)) and value == value for value in values)
    if not numeric or any(isinstance(value, (bool, np.bool_)) for value in values):
        texts = [str(value) for value in values]
        return [text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…" for text in texts]
    largest = max(abs(float(value)) for value in values)
    if largest and not 1e-3 <= largest < 1e5:
        return [f"{float(value):.3g}" for value in values]
    decimals = max(0, 2 - floor(log10(largest))) if largest else 0
    return [f"{float(value):.{decimals}f}" for value in values]
