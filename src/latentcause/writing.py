"""Files and folders that appear under their names only once they are complete."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MARKER = ".latentcause-output"
"""Hidden file in every folder that ``output_folder`` made: such a folder may be replaced."""


@contextmanager
def write_atomically(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` (same suffix) to write to; it gets its name when the block succeeds.

    Where the block raises or is interrupted, the temporary file is removed and ``path`` stays as it was.

    Raises
    ------
    FileNotFoundError
        Where the folder does not exist, or the block wrote nothing.
    IsADirectoryError
        Where ``path`` is a folder.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"can't write {path.name}: there is no folder {path.parent}; create it first")
    if path.is_dir():
        raise IsADirectoryError(f"can't write {path}: it is a folder; give the name of a file")
    temporary = _beside(path, path.suffix)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def output_folder(path: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path`` to fill; it gets its name when the block succeeds.

    Where the block raises or is interrupted, it is removed, and whatever stood at ``path`` stays as it was. A folder
    made this way holds a hidden marker and is replaced as a whole by the next run.

    Raises
    ------
    FileExistsError
        Where ``path`` is a file, or a folder with contents that was not made this way, unless ``overwrite`` is true.
    """
    path = Path(path).resolve()
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"can't write the folder {path}: a file has that name; choose another")
    if path.is_dir() and any(path.iterdir()) and not (path / MARKER).exists() and not overwrite:
        raise FileExistsError(
            f"the folder {path} has contents that latentcause did not write: choose another, or allow overwriting"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = _beside(path, ""), _beside(path, ".old")
    temporary.mkdir()
    try:
        yield temporary
        (temporary / MARKER).touch()
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if old.exists() and not path.exists():
            old.rename(path)
        shutil.rmtree(old, ignore_errors=True)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{suffix}")
