"""Samples of ``latentcause posterior``, batch by batch in files that are whole or absent: a run that was stopped goes on."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import latentcause
from latentcause.writing import write_atomically

if TYPE_CHECKING:
    import xarray as xr

BATCH = 8
"""Samples in a file at most."""

NUMBERS = 4_000_000
"""Numbers in a file at most, where a sample has not more."""

SETTINGS = "settings.txt"


@contextmanager
def unfinished(out: Path, settings: str) -> Iterator[tuple[Path, bool]]:
    """A folder beside ``out`` for what is done so far, and whether an earlier run of equal settings left something in it.

    It stays where the block is interrupted after something was done, else it is removed. What a run of other settings left is
    removed first.

    Raises
    ------
    FileExistsError
        Where such a folder was not made this way.
    """
    folder = out.resolve().with_name(f"{out.resolve().name}.unfinished")
    mark = folder / SETTINGS
    goes_on = mark.is_file() and mark.read_text(encoding="utf-8") == settings
    if folder.exists() and not goes_on:
        if not mark.is_file():
            raise FileExistsError(
                f"{folder} is where unfinished samples go, but latentcause did not make it: move it away"
            )
        shutil.rmtree(folder)
    if not goes_on:
        folder.mkdir(parents=True)
        with write_atomically(mark) as temporary:
            temporary.write_text(settings, encoding="utf-8")
    try:
        yield folder, goes_on
    except BaseException:
        if [path.name for path in folder.iterdir()] == [SETTINGS]:
            shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)


def fingerprint(config: Path, files: Iterable[Path], **others: object) -> str:
    """All that samples depend on, as text: version, the contents of the files, other settings by name."""
    lines = [f"latentcause {latentcause.__version__}", *(f"{name} {value}" for name, value in others.items())]
    return "\n".join([*lines, *(f"{path.name} {_digest(path)}" for path in (config, *files))]) + "\n"


def sizes(n: int, numbers: int) -> list[int]:
    """How many samples each batch of n holds, where one sample has that many numbers."""
    whole = max(1, min(BATCH, NUMBERS // numbers))
    return [whole] * (n // whole) + ([n % whole] if n % whole else [])


def in_batches(
    folder: Path,
    name: str,
    batches: list[int],
    seed: int,
    draw: Callable[[int, int], xr.Dataset],
    report: Callable[[int], None],
) -> xr.Dataset:
    """Draw batches of those sizes that are not there yet, each from a seed of its own, and return them all.

    ``draw(n, seed)`` gives n samples; ``report`` is told how many there are after each batch.
    """
    import xarray as xr

    parts = []
    for number, n in enumerate(batches):
        path = folder / f"{name}_{number:04d}_{n}.nc"
        if not path.is_file():
            drawn = draw(n, batch_seed(seed, name, number))
            with write_atomically(path) as temporary:
                drawn.to_netcdf(temporary, engine="h5netcdf")
        parts.append(xr.load_dataset(path, engine="h5netcdf"))
        report(sum(batches[: number + 1]))
    together = xr.concat(parts, "sample")
    return together.assign_coords(sample=np.arange(sum(batches)))


def batch_seed(seed: int, name: str, number: int) -> int:
    """A seed for one batch, so that it is the same whichever batches there were already."""
    return int(np.random.SeedSequence([seed, *name.encode(), number]).generate_state(1, np.uint64)[0] >> 1)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
