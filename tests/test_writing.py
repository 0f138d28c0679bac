"""Files and folders that are never left half-written."""

from __future__ import annotations

from pathlib import Path

import pytest

from latentcause.writing import MARKER, output_folder, write_atomically


def write_half(path: Path, stop: type[BaseException]) -> None:
    with write_atomically(path) as temporary:
        temporary.write_text("half")
        raise stop


def fill_half(path: Path, stop: type[BaseException]) -> None:
    with output_folder(path) as folder:
        (folder / "half.txt").write_text("half")
        raise stop


# --- writing files ---------------------------------------------------------------------------------------------------


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with write_atomically(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".csv"
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_interrupted_file_leaves_the_old_one(tmp_path: Path, stop: type[BaseException]) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(stop):
        write_half(path, stop)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_be_written_to(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"can't write x\.csv: there is no folder .*create it first"):
        write_atomically(tmp_path / "absent" / "x.csv").__enter__()
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        write_atomically(tmp_path).__enter__()
    with pytest.raises(FileNotFoundError), write_atomically(tmp_path / "x.csv"):
        pass


# --- writing folders -------------------------------------------------------------------------------------------------


def test_a_folder_appears_when_it_is_complete_and_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "first"
    for text in ("one", "two"):
        with output_folder(path) as folder:
            (folder / f"{text}.txt").write_text(text)
            (folder / "sub").mkdir()
            assert not (path / f"{text}.txt").exists()
        assert {entry.name for entry in path.iterdir()} == {f"{text}.txt", "sub", MARKER}
        assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_folder_leaves_what_was_there(tmp_path: Path, stop: type[BaseException], before: bool) -> None:
    path = tmp_path / "out"
    if before:
        with output_folder(path) as folder:
            (folder / "old.txt").write_text("old")
    with pytest.raises(stop):
        fill_half(path, stop)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"] * before
    if before:
        assert (path / "old.txt").read_text() == "old"
        assert not (path / "half.txt").exists()


def test_the_old_folder_comes_back_where_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out"
    with output_folder(path) as folder:
        (folder / "old.txt").write_text("old")
    rename = Path.rename

    def refuse_new(self: Path, target: Path) -> Path:
        if target == path and self.suffix != ".old":
            raise OSError("the disk went away")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_new)
    with pytest.raises(OSError, match="went away"), output_folder(path) as folder:
        (folder / "new.txt").write_text("new")
    assert {entry.name for entry in path.iterdir()} == {"old.txt", MARKER}
    assert list(tmp_path.iterdir()) == [path]


def test_folders_of_others_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "thesis"
    path.mkdir()
    with output_folder(path) as folder:  # empty: free to take
        (folder / "a.txt").touch()
    (path / MARKER).unlink()
    with pytest.raises(FileExistsError, match="has contents that latentcause did not write"):
        output_folder(path).__enter__()
    with output_folder(path, overwrite=True) as folder:
        (folder / "b.txt").touch()
    assert {entry.name for entry in path.iterdir()} == {"b.txt", MARKER}
    with pytest.raises(FileExistsError, match="a file has that name"):
        output_folder(path / "b.txt").__enter__()
