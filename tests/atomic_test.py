"""Temporary names: no two writers share one, whatever the numbers of their processes."""

import os

import numpy as np
import pytest
from safetensors.numpy import load_file

from gemb.checks import UserError
from gemb.files import atomic_file, atomic_folder, save_tensors


def test_two_writers_of_one_number_do_not_meet(tmp_path):
    final = tmp_path / "folder"
    with atomic_folder(final) as first, atomic_folder(final) as second:
        (first / "a").write_text("first")
        (second / "a").write_text("second")
    assert (final / "a").read_text() == "first"  # the last to end
    assert os.listdir(tmp_path) == ["folder"]
    with atomic_file(tmp_path / "file") as first, atomic_file(tmp_path / "file") as second:
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "file").read_text() == "first"
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_the_place_may_be_the_working_directory(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with atomic_folder(".") as made:
        (made / "a").write_text("x")
    assert (tmp_path / "here" / "a").read_text() == "x"


def test_what_fails_leaves_nothing(tmp_path):
    with (
        pytest.raises(UserError, match="nothing half-written"),
        atomic_file(tmp_path / "file") as made,
    ):
        made.with_name("nowhere").joinpath("deep").write_text("half")
    assert not os.listdir(tmp_path)


def test_slices_and_transposes_are_written_as_they_read(tmp_path):
    vectors = np.arange(12, dtype=np.float32).reshape(3, 4)
    views = {"slice": vectors[:, :2], "transpose": vectors.T, "reversed": vectors[::-1]}
    save_tensors(tmp_path / "tensors", views)
    for name, read in load_file(tmp_path / "tensors").items():
        np.testing.assert_array_equal(read, views[name].tolist())


def test_a_file_of_tensors_is_as_readable_as_its_neighbours(tmp_path):
    (tmp_path / "plain").touch()
    save_tensors(tmp_path / "tensors", {"vectors": np.eye(2, dtype=np.float32)})
    assert (tmp_path / "tensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
