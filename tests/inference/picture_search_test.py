"""Indexes of pictures, and near-duplicates, through the command line."""

import dataclasses
import json

import numpy as np
import pytest
from picture_folders import captioned_folder, drawn, encoded

from gemb.checks import UserError
from gemb.cli.__main__ import run
from gemb.curation.duplicates import alignment as alignments
from gemb.curation.duplicates.alignment import outline
from gemb.curation.duplicates.pictures import PictureLikeness, picture_pairs
from gemb.inference.embedder import Embedder
from gemb.inference.picture_search import corpus_for, encode_pictures, open_picture_index
from gemb.models.model import Model
from gemb.models.scratch import of_pictures
from gemb.pretrained import saving
from gemb.processors.hashes import near_hashes, perceptual_hash
from gemb.processors.text import of_bytes
from gemb.structs import Image

pytestmark = pytest.mark.extra("images")


def call(verb, *arguments):
    with pytest.raises(SystemExit) as ended:
        run(verb, [str(argument) for argument in arguments])
    return ended.value.code


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place = tmp_path_factory.mktemp("pictures")
    saving.save(of_pictures(of_bytes(), width=16), place / "model")
    captioned_folder(place / "corpus", copies=2)
    options = (f"--model={place / 'model'}", f"--corpus={place / 'corpus'}")
    assert call("index", *options, f"--output={place / 'index'}") == 0
    return place


def test_a_text_and_a_picture_find_pictures(made, tmp_path, capsys):
    page = tmp_path / "found.html"
    assert call("search", f"--index={made / 'index'}", f"--page={page}", "red left") == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 6
    assert shown[-1] == f"page: {page}"
    html = page.read_text()
    assert html.count("data:image/jpeg;base64,") == 5
    assert 'src="http' not in html
    own = tmp_path / "own.png"
    own.write_bytes(encoded(drawn("green", "top", noise=2)))
    search = (f"--index={made / 'index'}", f"--page={page}", f"--image={own}", "--count=1")
    assert call("search", *search) == 0
    assert "1.000  green top" in capsys.readouterr().out
    ask = open_picture_index(made / "index")
    embedder = Embedder.load(made / "model")
    hits = ask("red left", 32)
    vectors = encode_pictures(embedder, [hit.media for hit in hits])
    expected = vectors @ embedder.encode(["red left"], kind="query")[0]
    np.testing.assert_allclose([hit.score for hit in hits], expected, atol=1e-5)


def test_mistakes_are_one_line(made, tmp_path, capsys):
    assert call("search", f"--index={made / 'index'}", "--image=gone.png") == 2
    assert "gone.png: no such file" in capsys.readouterr().err
    assert call("index", f"--model={made / 'model'}", f"--corpus={made / 'corpus'}",
                f"--output={tmp_path / 'i'}", "--kind=bm25") == 2  # fmt: skip
    assert "pictures have no words" in capsys.readouterr().err
    text = Model.of(of_pictures(of_bytes(), width=16).query)
    with pytest.raises(UserError, match="documents are no pictures"):
        corpus_for(Embedder(text), made / "corpus")


def test_a_picture_finds_texts(made, tmp_path, capsys):
    texts = ["red left", "blue top", "a bar: green bottom"]
    rows = [{"_id": f"d{row}", "text": text} for row, text in enumerate(texts)]
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "corpus.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    own, corpus = tmp_path / "own.png", f"--corpus={tmp_path / 'texts'}"
    own.write_bytes(encoded(drawn("green", "top", noise=2)))
    model, index = f"--model={made / 'model'}", tmp_path / "index"
    assert call("index", model, corpus, f"--output={index}") == 0
    capsys.readouterr()
    assert call("search", f"--index={index}", f"--image={own}", "--count=3") == 0
    lines = capsys.readouterr().out.splitlines()
    embedder = Embedder.load(made / "model")
    scores = embedder.encode(texts, kind="query") @ embedder.encode(Image(str(own)))
    assert [texts[row] in line for row, line in zip(np.argsort(-scores), lines, strict=True)]
    np.testing.assert_allclose(
        [float(line.split()[0]) for line in lines], -np.sort(-scores), atol=6e-4
    )
    assert call("index", corpus, f"--output={tmp_path / 'words'}", "--kind=bm25") == 0
    assert call("search", f"--index={tmp_path / 'words'}", f"--image={own}") == 2
    assert "an index of words cannot be asked by a picture" in capsys.readouterr().err
    assert call("search", f"--workdir={tmp_path}", f"--image={own}") == 2
    assert "--image needs --index" in capsys.readouterr().err


def test_hashes():
    picture = np.random.default_rng(0).integers(0, 255, (9, 12, 3)).astype(np.uint8)
    picture = np.kron(picture, np.ones((8, 8, 1), np.uint8))
    first = perceptual_hash(Image(picture))
    jpeg = perceptual_hash(Image(encoded(picture, "JPEG", quality=40)))
    other = perceptual_hash(Image(picture[::-1].copy()))
    assert (first ^ jpeg).bit_count() < 8 < (first ^ other).bit_count()
    hashes = [first, other, jpeg]
    assert near_hashes(hashes, 8, block=2).tolist() == [[0, 2]]
    numbers = np.random.default_rng(1).integers(0, 64, 40).tolist()
    expected = [[a, b] for a in range(40) for b in range(a + 1, 40)
                if (numbers[a] ^ numbers[b]).bit_count() < 2]  # fmt: skip
    assert sorted(near_hashes(numbers, 2, block=7).tolist()) == expected


def test_pairs_by_embedding_or_by_hash():
    vectors = np.array([[1, 0], [0.8, 0.6], [0.5, 0.866], [0, 1]], np.float32)
    hashes = [0, (1 << 40) - 1, 1, 3]
    random = np.random.default_rng(0)
    pictures = [np.kron(random.integers(0, 255, (8, 8)), np.ones((8, 8))) for _ in "abc"]
    pictures.append(pictures[2][:, ::-1])  # the last is the mirror image of the one before
    pictures[1] = pictures[0][8:58, 8:58]  # the second is a part of the first
    outlines = [outline(Image(np.ascontiguousarray(p).astype(np.uint8))) for p in pictures]
    likeness = PictureLikeness(similarity=0.79, hash_bits=3, alignment=0.8)
    found = picture_pairs(vectors, hashes, outlines, likeness)
    # looked at: (0, 1) and (1, 2) for their cosines, (0, 2) and (0, 3) for hashes, (2, 3) for both
    assert found.edges.tolist() == [[0, 1], [2, 3]]
    assert found.by_hash.tolist() == [False, True]
    assert found.alignments.min() > 0.8
    everything = dataclasses.replace(likeness, alignment=-1.0)
    all_of = picture_pairs(vectors, hashes, outlines, everything)
    assert all_of.edges.tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [2, 3]]
    assert all_of.alignments[1:4].max() < 0.7


def test_correlations_are_those_of_every_place():
    random = np.random.default_rng(2)
    field, template = random.normal(100, 40, (13, 17)), random.normal(100, 40, (6, 5))
    expected = max(
        np.corrcoef(field[y : y + 6, x : x + 5].ravel(), template.ravel())[0, 1]
        for y in range(8) for x in range(13)
    )  # fmt: skip
    assert alignments.correlation(field, template) == pytest.approx(expected, abs=1e-9)
    assert alignments.correlation(field, np.full((6, 5), 7.0)) == -1
    assert alignments.correlation(np.full((13, 17), 7.0), template) == 0
    blank = outline(Image(np.full((9, 9, 3), 200, np.uint8)))
    assert alignments.alignment(blank, blank.copy()) == 1


def test_near_duplicates_are_left_out(made, tmp_path, capsys):
    folder = tmp_path / "mine"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(3):
        pixels = np.kron(random.integers(0, 255, (6, 6, 3)), np.ones((6, 6, 1))).astype(np.uint8)
        (folder / f"{number}.png").write_bytes(encoded(pixels))
        (folder / f"{number}-again.jpg").write_bytes(encoded(pixels, "JPEG", quality=90))
    out = tmp_path / "out"
    options = (f"--input={folder}", f"--model={made / 'model'}", f"--output={out}")
    assert call("dedup", *options, "--picture_similarity=1") == 0
    assert "3 of 6 pictures kept" in capsys.readouterr().out
    lines = (out / "kept.jsonl").read_text().splitlines()
    assert len({json.loads(line)["name"][0] for line in lines}) == 3
    assert (out / "report.html").read_text().count("data:image/jpeg;base64,") == 6


def test_a_file_that_has_changed_is_noticed(made, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for colour in ("red", "blue"):
        (folder / f"{colour}.png").write_bytes(encoded(drawn(colour, "top")))
    options = (f"--model={made / 'model'}", f"--corpus={folder}", f"--output={tmp_path / 'index'}")
    assert call("index", *options) == 0
    assert open_picture_index(tmp_path / "index")("x", 5)[0].name in ("red.png", "blue.png")
    (folder / "red.png").write_bytes(encoded(drawn("green", "top")))
    with pytest.raises(UserError, match="have changed"):
        open_picture_index(tmp_path / "index")
