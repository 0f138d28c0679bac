"""Images and labels that users name on the command line: a folder, one file, or an array; a CSV file of factors."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from latentcause.data.image_files import SUFFIXES, pair_with_labels, read_images
from latentcause.data.labelled_images import LabelledImages
from latentcause.data.labels import listing


@dataclass(frozen=True)
class NamedImages:
    """Images as they were read, and where each came from.

    Attributes
    ----------
    pixels : ndarray (n, c, h, w) or (n, h, w)
        Not yet checked.
    names : list of str
        Names of files, or numbers of rows, from 0.
    labels : DataFrame of n rows, or None
    """

    pixels: np.ndarray
    names: list[str]
    labels: pd.DataFrame | None


def read_named_images(
    path: Path, labels: Path | None = None, few_labels: bool = False, most: int | None = None
) -> NamedImages:
    """The first ``most`` images of a folder (sorted by name, or as in the labels), a file, or an array, and their labels.

    Raises
    ------
    FileNotFoundError
        For files that are not there.
    ValueError
        For a folder without images, labels of another number of images, and what `LabelledImages.from_folder` refuses.
    """
    if path.is_dir():
        return _from_folder(path, labels, few_labels, most)
    if not path.is_file():
        raise FileNotFoundError(f"there is no folder or file {path} of images")
    if path.suffix.lower() in SUFFIXES:
        if labels is not None:
            raise ValueError(f"{path.name} is one image: give its folder with --labels, or leave --labels out")
        return NamedImages(read_images([path]), [path.name], None)
    pixels = _array(path)
    table = None
    if labels is not None:
        table = pd.read_csv(labels).drop(columns="file", errors="ignore")
        if len(table) != len(pixels):
            raise ValueError(
                f"{labels.name} has {len(table)} rows for the {len(pixels)} images of {path.name}: give one row per image"
            )
        table = table.iloc[:most]
    return NamedImages(pixels[:most], [str(row) for row in range(len(pixels[:most]))], table)


def read_labelled_images(
    path: Path, labels: Path, few_labels: bool, categorical: Collection[str]
) -> tuple[LabelledImages, list[str]]:
    """Images to learn from, and their names.

    Raises
    ------
    ValueError, FileNotFoundError
        As `read_named_images` and `LabelledImages`, and for a category that is no column.
    """
    try:
        found = read_named_images(path, labels, few_labels)
        table: Any = found.labels
        absent = [name for name in categorical if name not in table.columns]
        if absent:
            raise ValueError(
                f"--categorical names {listing(absent)}, which is no column of {labels.name} "
                f"(columns: {listing(table.columns)})"
            )
        table = table.astype(dict.fromkeys(categorical, "category"))
        return LabelledImages(found.pixels, table, few_labels), found.names
    except ValueError as error:
        # The library's messages name its argument; here it is an option.
        raise ValueError(str(error).replace("few_labels=True", "--few-labels")) from None


# --- inside ----------------------------------------------------------------------------------------------------------


def _from_folder(folder: Path, labels: Path | None, few_labels: bool, most: int | None) -> NamedImages:
    if labels is not None:
        files, table = pair_with_labels(folder, labels, few_labels)
        names = [path.relative_to(folder).as_posix() for path in files[:most]]
        return NamedImages(read_images(files[:most]), names, table.iloc[:most])
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)[:most]
    if not files:
        raise ValueError(f"the folder {folder} holds no images: files must end in {', '.join(SUFFIXES)}")
    return NamedImages(read_images(files), [path.name for path in files], None)


def _array(path: Path) -> np.ndarray:
    """The array of an .npy file; of an .npz file the only one, or the one called ``images``."""
    if path.suffix.lower() not in (".npy", ".npz"):
        raise ValueError(f"{path.name}: give a folder of images, a .png or .jpg file, or an array in .npy or .npz")
    try:
        loaded = np.load(path, allow_pickle=False)
        if path.suffix.lower() == ".npz":
            with loaded:
                keys = list(loaded.files)
                key = keys[0] if len(keys) == 1 else "images"
                if key not in keys:
                    raise KeyError(f"it holds the arrays {listing(keys)}: call the images 'images'")
                loaded = loaded[key]
    except KeyError as error:
        raise ValueError(f"{path.name}: {error.args[0]}") from None
    except Exception as error:  # NumPy raises what comes: ValueError, EOFError, BadZipFile
        raise ValueError(f"{path.name} can't be read as an array ({error}): save it again with numpy") from None
    if loaded.ndim not in (3, 4):
        raise ValueError(f"{path.name} has shape {loaded.shape}: images are (n, h, w) or (n, c, h, w)")
    images: np.ndarray = loaded
    return images
