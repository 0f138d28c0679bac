import dataclasses
import sys

import numpy as np
import pytest

from latentcause.datasets import read_fire, read_fires, simulate_wildfires, write_fire
from latentcause.datasets.wildfires import CHANNELS

h5py = pytest.importorskip("h5py")


@pytest.fixture(scope="module")
def fire():
    return simulate_wildfires(1, (16, 18), 3, seed=0)[0].series


def test_a_fire_comes_back_from_its_file(fire, tmp_path):
    path = write_fire(tmp_path, fire)
    assert path == tmp_path / "2020" / f"{fire.name}.hdf5"
    back = read_fire(path)
    assert (back.year, back.name, back.dates, back.lnglat) == (fire.year, fire.name, fire.dates, fire.lnglat)
    np.testing.assert_array_equal(back.values, fire.values)
    assert [found.name for found in read_fires(tmp_path)] == [fire.name]
    with pytest.raises(FileNotFoundError, match="2019"):
        read_fires(tmp_path, [2020, 2019])


def test_files_of_the_published_script_are_read(tmp_path):
    values = np.ones((2, 23, 8, 9))
    values[0, 22] = np.nan
    with h5py.File(tmp_path / "fire_1.hdf5", "w") as file:
        data = file.create_dataset("data", values.shape, data=values)
        data.attrs["year"] = 2018
        data.attrs["fire_name"] = "fire_1"
        data.attrs["img_dates"] = ["2018-07-30.tif", "2018-08-01.tif"]
        data.attrs["lnglat"] = (-120.5, 38.25)
    fire = read_fire(tmp_path / "fire_1.hdf5")
    assert fire.masks.sum((1, 2)).tolist() == [0, 72]
    assert (fire.dates[1] - fire.dates[0]).days == 2
    assert fire.lnglat == (-120.5, 38.25)


def test_samples_are_days_and_the_mask_of_the_next(fire):
    features, masks = fire.samples(2)
    assert features.shape == (1, 2, len(CHANNELS), 16, 18)
    np.testing.assert_array_equal(features[0], fire.values[:2])
    np.testing.assert_array_equal(masks[0], fire.values[2, -1] > 0)
    with pytest.raises(ValueError, match="3 days of features"):
        fire.samples(3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.move("data", "maps"), "no dataset 'data' .*maps"),
        (lambda file: file["data"].attrs.pop("lnglat"), "lack the attributes .*lnglat"),
        (lambda file: replaced(file, np.zeros((3, 22, 4, 4))), r"\(3, 22, 4, 4\).*23 channels"),
        (lambda file: replaced(file, np.zeros((4, 23, 4, 4))), "3 dates for 4 days"),
        (lambda file: replaced(file, -np.ones((3, 23, 4, 4))), "48 negative hours"),
        (lambda file: file["data"].attrs.modify("img_dates", ["1.6.", "2.6.", "3.6."]), "form 2020-08-31"),
        (lambda file: file["data"].attrs.modify("img_dates", ["2020-01-02"] * 3), "do not rise"),
        (lambda file: file["data"].attrs.__setitem__("lnglat", 3.0), "longitude and latitude"),
    ],
)
def test_wrong_files_are_refused_by_name(fire, tmp_path, change, message):
    path = write_fire(tmp_path, fire)
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(ValueError, match=message) as caught:
        read_fire(path)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9])
def test_truncated_files_are_refused(fire, tmp_path, share):
    path = write_fire(tmp_path, fire)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(ValueError, match=rf"{path.name} can't be read as HDF5"):
        read_fire(path)
    with pytest.raises(FileNotFoundError, match="no file"):
        read_fire(tmp_path / "absent.hdf5")


def test_without_h5py_the_extra_is_named(fire, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"latentcause\[geo\]"):
        write_fire(tmp_path, dataclasses.replace(fire, name="other"))


def replaced(file, values):
    attributes = dict(file["data"].attrs)
    del file["data"]
    data = file.create_dataset("data", data=values)
    data.attrs.update(attributes)
