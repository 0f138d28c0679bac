"""Files of a published data set: where they are looked for, and whether they are the right ones."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pooch

ENVIRONMENT_VARIABLE = "LATENTCAUSE_DATA"


@dataclass(frozen=True)
class DataFiles:
    """The files of one data set, known by their checksums.

    Attributes
    ----------
    name : str
        Name of the data set and of its folder.
    checksums : dict
        ``{file name: SHA-256}``.
    origin : str
        What the data are and who published them, as a noun phrase.
    """

    name: str
    checksums: dict[str, str]
    origin: str

    def find(self, folder: str | Path | None = None) -> Path:
        """The folder that holds the files, once they are all there and unchanged.

        Without ``folder`` it is ``$LATENTCAUSE_DATA/NAME`` where that variable is set, and else the folder NAME in the
        user's cache (``pooch.os_cache("latentcause")``).

        Raises
        ------
        FileNotFoundError
            Where a file is missing; the message says what the data are and how to point to them.
        ValueError
            Where a file's checksum differs.
        """
        home = Path(folder) if folder is not None else self._default_folder()
        missing = [name for name in self.checksums if not (home / name).is_file()]
        if missing:
            raise FileNotFoundError(
                f"the {self.name} data are not in {home}: {', '.join(missing)} missing. They are {self.origin}. "
                f"Put {', '.join(self.checksums)} there, name the folder that has them (folder=...), or set "
                f"{ENVIRONMENT_VARIABLE} to the folder that holds {self.name}/"
            )
        for name, expected in self.checksums.items():
            found = pooch.file_hash(str(home / name))
            if found != expected:
                raise ValueError(
                    f"{home / name} is not the published file: its SHA-256 is {found}, expected {expected}; "
                    "replace it with the original"
                )
        return home

    def _default_folder(self) -> Path:
        chosen = os.environ.get(ENVIRONMENT_VARIABLE)
        return Path(chosen or pooch.os_cache("latentcause")) / self.name
