"""Images with a label for every causal factor, checked at the door."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from latentcause.data import image_files
from latentcause.data.labels import listing
from latentcause.data.variables import Variables

if TYPE_CHECKING:
    from latentcause.graph import CausalGraph


@dataclass(frozen=True, init=False, repr=False, eq=False)
class LabelledImages:
    """n images of one size, and a table of n labels per factor in the factors' own units. Nothing in it changes.

    Parameters
    ----------
    images : array or tensor (n, c, h, w) or (n, h, w)
        Floats in [0, 1] (0 black, 1 white), or uint8, which is divided by 255; channels come first. An array without
        channels gets one.
    labels : DataFrame, mapping from name to column, or Variables
        One row per image, in the images' order; the index of a frame plays no part. Columns of numbers stay as they are;
        bool, text and category columns become codes of their levels, as in `Variables.read`.
    few_labels : bool
        Allow images without labels: all of their row is missing (None or NaN).

    Attributes
    ----------
    pixels : ndarray (n, c, h, w), float32
        Read-only.
    names : tuple of str
        The factors.
    values : ndarray (n, number of factors), float64
        Labels, with codes for categories and NaN in rows without labels. Read-only.
    levels : dict from name to tuple
        Levels of the factors that are categories, in the order of the codes.
    labelled : ndarray (n,), bool
        Which images have labels.

    Raises
    ------
    ValueError
        For images of another shape, pixels that are NaN or outside [0, 1], as many labels as there are images not, missing
        labels (counted) unless ``few_labels``, rows with some labels but not all, no labelled image at all, and what
        `Variables.read` refuses. Images and rows count from 0.

    Examples
    --------
    >>> LabelledImages(np.zeros((2, 8, 8)), {"thickness": [2.5, 3.0], "slanted": [True, False]})
    LabelledImages: 2 images of 1 x 8 x 8
      thickness: 2.5 to 3
      slanted: False, True
    """

    pixels: np.ndarray
    names: tuple[str, ...]
    values: np.ndarray
    levels: dict[str, tuple[Hashable, ...]]
    labelled: np.ndarray

    def __init__(self, images: Any, labels: Any, few_labels: bool = False) -> None:
        pixels = checked_pixels(images)
        table, labelled = _read_labels(labels, len(pixels), few_labels)
        values = table.values.copy()
        values[~labelled] = np.nan
        self._set(pixels, table.names, values, table.levels, labelled)

    @classmethod
    def from_folder(cls, folder: str | Path, labels_csv: str | Path, few_labels: bool = False) -> Self:
        """From PNG or JPEG files and a CSV file with a header.

        The column ``file``, or else the first one, names the files, relative to ``folder``; each other column is a factor.
        Images come in the order of the rows. Grey files give one channel; if any file has colours, all give three. With
        ``few_labels``, the images of the folder that have no row follow, sorted by name, without labels.

        Raises
        ------
        FileNotFoundError
            For a folder or file that is not there.
        ValueError
            For images that no row names (counted) unless ``few_labels``, a file named twice, images of unequal size (the
            first that differs is named), with transparency or of an unusual kind, and what the class refuses.
        """
        files, labels = image_files.pair_with_labels(Path(folder), Path(labels_csv), few_labels)
        return cls(image_files.read_images(files), labels, few_labels)

    # --- tables ------------------------------------------------------------------------------------------------------

    @property
    def labels(self) -> pd.DataFrame:
        """A new frame (n, number of factors) of the labels, categories as levels; missing where an image has none."""
        return Variables(self.names, np.zeros((1, len(self.names))), self.levels).to_frame(self.values)

    @property
    def variables(self) -> Variables:
        """The labels of the labelled images, as a checked table of numbers and codes."""
        return Variables(self.names, self.values[self.labelled], self.levels)

    def values_of(self, names: Sequence[str]) -> np.ndarray:
        """Columns of ``values`` in the order of ``names``, such as ``graph.nodes``: (n, number of names).

        Raises
        ------
        ValueError
            For a name that is no factor.
        """
        unknown = [name for name in names if name not in self.names]
        if unknown:
            raise ValueError(f"there is no label {unknown[0]!r}: the labels are {listing(self.names)}")
        return self.values[:, [self.names.index(name) for name in names]]

    def validate_for(self, graph: CausalGraph) -> None:
        """Check that a causal model of these images can be fitted on this graph.

        Raises
        ------
        ValueError
            Where a label column is no node of the graph, a node has no label column, and where the labels vary too little
            (`Variables.require_variation`).
        """
        extra = [name for name in self.names if name not in graph]
        if extra:
            raise ValueError(
                f"label column {listing(extra)} is no node of the graph (nodes: {listing(graph.nodes)}): drop the column or "
                "add the node"
            )
        missing = [node for node in graph.nodes if node not in self.names]
        if missing:
            raise ValueError(
                f"node {listing(missing)} of the graph has no label column (columns: {listing(self.names)}): add the column "
                "or use a graph without the node"
            )
        self.variables.require_variation()

    # --- parts -------------------------------------------------------------------------------------------------------

    def subset(self, rows: Any) -> Self:
        """The images of those numbers (or where a mask is true), in that order; levels are kept.

        Raises
        ------
        ValueError
            For no image.
        IndexError
            For a number that no image has.
        """
        chosen = np.atleast_1d(np.arange(len(self))[rows])
        if not len(chosen):
            raise ValueError("subset needs at least one image")
        part = object.__new__(type(self))
        part._set(self.pixels[chosen], self.names, self.values[chosen], self.levels, self.labelled[chosen])
        return part

    def split(self, held_out: float, *, seed: int) -> tuple[Self, Self]:
        """Two parts at random: the rest, and ``held_out`` of the images (a share below 1, or a number of images).

        Raises
        ------
        ValueError
            Where one of the parts would be empty.
        """
        rest, held = split_rows(len(self), held_out, seed)
        return self.subset(rest), self.subset(held)

    def batches(
        self, size: int = 256, *, seed: int | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield (rows (m,), pixels (m, c, h, w), values (m, number of factors)) over all images, m <= size.

        In order, or shuffled where a seed is given. The last batch may be smaller.
        """
        if size < 1:
            raise ValueError(f"batches of {size} images: give at least 1")
        order = np.arange(len(self)) if seed is None else np.random.default_rng(seed).permutation(len(self))
        for start in range(0, len(self), size):
            rows = order[start : start + size]
            yield rows, self.pixels[rows], self.values[rows]

    def __len__(self) -> int:
        return len(self.pixels)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__}: {len(self)} images of {' x '.join(map(str, self.pixels.shape[1:]))}"]
        if not self.labelled.all():
            lines[0] += f", {self.labelled.sum()} of them labelled"
        known = self.values[self.labelled]
        for j, name in enumerate(self.names):
            if name in self.levels:
                lines.append(f"  {name}: {', '.join(map(str, self.levels[name]))}")
            elif len(known):
                lines.append(f"  {name}: {known[:, j].min():.4g} to {known[:, j].max():.4g}")
            else:
                lines.append(f"  {name}")
        return "\n".join(lines)

    def _set(
        self,
        pixels: np.ndarray,
        names: tuple[str, ...],
        values: np.ndarray,
        levels: dict[str, tuple[Hashable, ...]],
        labelled: np.ndarray,
    ) -> None:
        for array in (pixels, values, labelled):
            array.flags.writeable = False
        fields = {"pixels": pixels, "names": names, "values": values, "levels": dict(levels), "labelled": labelled}
        for field, value in fields.items():
            object.__setattr__(self, field, value)


def checked_pixels(images: Any) -> np.ndarray:
    """A new float32 array (n, c, h, w) of images (n, c, h, w) or (n, h, w), floats in [0, 1] or uint8.

    Raises
    ------
    ValueError
        For another shape or dtype, and for pixels that are NaN or outside [0, 1]; the message names the first image.
    """
    array = images.detach().cpu().numpy() if hasattr(images, "detach") else np.asarray(images)
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4 or not array.size:
        raise ValueError(f"images have shape {array.shape}: give (n, c, h, w), or (n, h, w) for one channel")
    if array.shape[1] > 4 and array.shape[3] <= 4:
        raise ValueError(f"images have shape {array.shape}, channels last: use np.moveaxis(images, -1, 1)")
    if array.dtype == np.uint8:
        return array.astype(np.float32) / np.float32(255)
    if array.dtype.kind != "f":
        raise ValueError(f"images have dtype {array.dtype}: give floats in [0, 1] or uint8")
    pixels = np.array(array, dtype=np.float32, order="C")
    missing = np.isnan(pixels).any(axis=(1, 2, 3))
    if missing.any():
        raise ValueError(
            f"{missing.sum()} images have NaN pixels (first: image {missing.argmax()}): repair or remove them"
        )
    low, high = pixels.min(axis=(1, 2, 3)), pixels.max(axis=(1, 2, 3))
    outside = (low < 0) | (high > 1)
    if outside.any():
        first = int(outside.argmax())
        cure = "divide by 255" if 1 < high.max() <= 255 and low.min() >= 0 else "scale them to [0, 1]"
        raise ValueError(
            f"{outside.sum()} images have pixels outside [0, 1] (first: image {first}, {low[first]:g} to {high[first]:g}): "
            f"{cure}"
        )
    return pixels


def split_rows(n: int, held_out: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (rest, held out) of a random split of n rows, each in increasing order."""
    count = round(held_out * n) if 0 < held_out < 1 else int(held_out)
    if not 0 < count < n:
        raise ValueError(f"held_out={held_out} of {n} rows leaves one part empty: give a share or a number between")
    order = np.random.default_rng(seed).permutation(n)
    return np.sort(order[count:]), np.sort(order[:count])


def _read_labels(labels: Any, n: int, few_labels: bool) -> tuple[Variables, np.ndarray]:
    """The labels, with any values in rows that have none; and which rows (n,) have labels."""
    frame = _as_frame(labels)
    if len(frame) != n:
        raise ValueError(f"{len(frame)} rows of labels for {n} images: give one row per image")
    if not frame.shape[1]:
        raise ValueError("the labels have no columns: give one for each factor")
    missing = frame.isna().to_numpy()
    labelled = np.logical_not(missing.any(axis=1))
    if labelled.all():
        return Variables.read(frame), labelled
    if not few_labels:
        counts = [
            f"{name!r} ({count})" for name, count in zip(frame.columns, missing.sum(axis=0), strict=True) if count
        ]
        raise ValueError(
            f"labels are missing for {(~labelled).sum()} of {n} images (first: image {labelled.argmin()}), in column "
            f"{', '.join(counts)}: fill them in, remove the images, or allow images without labels with few_labels=True"
        )
    partly = ~labelled & ~missing.all(axis=1)
    if partly.any():
        row = int(partly.argmax())
        raise ValueError(
            f"{partly.sum()} images have some of their labels only (first: image {row}, which lacks "
            f"{listing(frame.columns[missing[row]])}): give all labels of an image, or none"
        )
    if not labelled.any():
        raise ValueError("no image has labels: label some of them")
    # Rows without labels repeat the first that has some, so that messages about the others count rows right.
    return Variables.read(frame.iloc[np.where(labelled, np.arange(n), labelled.argmax())]), labelled


def _as_frame(labels: Any) -> pd.DataFrame:
    if isinstance(labels, Variables):
        return labels.to_frame()
    if isinstance(labels, pd.DataFrame):
        return labels
    if not isinstance(labels, Mapping):
        raise ValueError(
            f"labels are a {type(labels).__name__}: give a DataFrame or a dict {{factor: values}}, so that columns have names"
        )
    columns = {name: _column(column) for name, column in labels.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"label columns differ in length: {lengths}")
    return pd.DataFrame(columns)


def _column(values: Any) -> pd.Series:
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return pd.Series(values).reset_index(drop=True)
