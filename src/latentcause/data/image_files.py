"""Image files in a folder, and the CSV file that labels them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from latentcause.data.labels import listing

SUFFIXES = (".png", ".jpg", ".jpeg")
GREY, COLOUR = ("1", "L"), ("P", "RGB")


def pair_with_labels(folder: Path, labels_csv: Path, few_labels: bool) -> tuple[list[Path], pd.DataFrame]:
    """The files in the order of the CSV file's rows, and its other columns.

    With ``few_labels`` the images of the folder that no row names follow, with missing labels.

    Raises
    ------
    FileNotFoundError
        For a folder or file that is not there.
    ValueError
        For a file named twice, a row without a file name, no factor, or images that no row names.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder} of images")
    if not labels_csv.is_file():
        raise FileNotFoundError(f"there is no file {labels_csv} of labels")
    table = pd.read_csv(labels_csv)
    key = "file" if "file" in table.columns else table.columns[0]
    unnamed = table[key].isna().to_numpy()
    if unnamed.any():
        raise ValueError(f"{labels_csv.name} has no file name in column {key!r} of row {unnamed.argmax()} (from 0)")
    names = table[key].astype(str)
    if names.duplicated().any():
        raise ValueError(
            f"{labels_csv.name} names {listing(names[names.duplicated()].unique())} twice: keep one row each"
        )
    labels = table.drop(columns=key)
    if not labels.shape[1]:
        raise ValueError(f"{labels_csv.name} has the one column {key!r}: add a column for each factor")
    absent = [name for name in names if not (folder / name).is_file()]
    if absent:
        raise FileNotFoundError(
            f"{len(absent)} files that {labels_csv.name} names are not in {folder}: {listing(absent)}"
        )
    files = [folder / name for name in names]
    present = {path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES}
    unlabelled = sorted(present - set(files))
    if unlabelled and not few_labels:
        raise ValueError(
            f"{len(unlabelled)} of {len(present)} images in {folder} have no row in {labels_csv.name} "
            f"({listing([path.name for path in unlabelled])}): label them, move them away, or allow images without labels "
            "with few_labels=True"
        )
    return [*files, *unlabelled], labels.reindex(range(len(files) + len(unlabelled)))


def read_images(files: Sequence[Path]) -> np.ndarray:
    """The images as one uint8 array (n, c, h, w): one channel where all files are grey, else three.

    Raises
    ------
    ValueError
        For a file that is no image, has transparency or more than 8 bits per channel, or another size than the first.
    """
    from PIL import Image, UnidentifiedImageError

    arrays: list[np.ndarray] = []
    size = (0, 0)
    for path in files:
        try:
            with Image.open(path) as image:
                image.load()
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError(f"{path} can't be read as an image ({error}): replace it") from None
        if image.mode not in GREY + COLOUR or "transparency" in image.info:
            raise ValueError(
                f"{path} is an image of mode {image.mode}, with transparency or other than 8 bits per channel: save it as "
                "grey or RGB"
            )
        size = size if arrays else image.size
        if image.size != size:
            raise ValueError(
                f"images of unequal size: {path.name} has {image.size[0]} x {image.size[1]} pixels, {files[0].name} has "
                f"{size[0]} x {size[1]}; bring them to one size"
            )
        arrays.append(np.asarray(image.convert("L" if image.mode in GREY else "RGB")))
    grey = all(array.ndim == 2 for array in arrays)
    if not grey:
        arrays = [np.repeat(array[:, :, None], 3, axis=2) if array.ndim == 2 else array for array in arrays]
    stack = np.stack(arrays)
    return stack[:, None] if grey else np.moveaxis(stack, -1, 1)
