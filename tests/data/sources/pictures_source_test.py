"""Pictures as records: zips, tar shards, Hugging Face's cells."""

import io
import json
import tarfile

import numpy as np
import pytest
from picture_folders import captioned_folder, drawn, encoded

from gemb.checks import UserError
from gemb.data.captioned import Augmentation, Captioned, CaptionedVideos
from gemb.data.randomness import uniform
from gemb.data.sources.picture_corpus import PictureCorpus, is_picture_corpus
from gemb.data.sources.pictures import captioned, tar_shards, with_images, with_videos
from gemb.data.sources.reading import files
from gemb.processors.decoding import decode
from gemb.processors.video import frames_of
from gemb.structs import Image

pytestmark = pytest.mark.extra("images")


def pixels(image):
    return np.asarray(decode(image).picture)


def test_a_captioned_folder(tmp_path):
    folder = captioned_folder(tmp_path / "pictures")
    train = captioned(str(folder), split="train")
    assert len(train) == 16
    assert train[0]["captions"] == ["red left", "a bar: red left"]
    np.testing.assert_array_equal(pixels(train[0]["image"]), drawn("red", "left", noise=1))
    german = captioned(str(folder), language="de", where={"group": "blue"})
    assert len(german) == 8
    assert german[0]["captions"] == "Balken blue left"
    assert len({captioned(str(folder)).fingerprint, train.fingerprint, german.fingerprint}) == 3
    with pytest.raises(UserError, match="no record with"):
        captioned(str(folder), split="dev")
    with pytest.raises(UserError, match="gemb harvest-pictures"):
        captioned(str(tmp_path))


@pytest.mark.parametrize("name", ["../x.png", "/etc/passwd", None, "lost.png"])
def test_files_outside_of_the_folder_are_refused(name, tmp_path):
    folder = captioned_folder(tmp_path / "pictures")
    (folder / "captions.jsonl").write_text(json.dumps({"file": name, "caption": "x"}))
    with pytest.raises(ValueError, match=r"field \"file\"|no readable"):
        captioned(str(folder))[0]


def test_tar_shards(tmp_path):
    for shard in range(2):
        with tarfile.open(tmp_path / f"train-{shard}.tar", "w") as archive:
            for row in range(2):
                parts = {
                    "png": encoded(drawn("red", "left", noise=1 + 2 * shard + row)),
                    "txt": f"a bar {shard} {row}\n".encode(),
                    "json": json.dumps({"source": shard}).encode(),
                    "cls": b"3",
                }
                for ending, content in parts.items():
                    info = tarfile.TarInfo(f"part/{row:03}.{ending}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    found = tar_shards(str(tmp_path / "train-*.tar"))
    assert len(found) == 4
    record = found[3]
    assert {k: record[k] for k in ("__key__", "captions", "cls", "source")} == {
        "__key__": "part/001", "captions": "a bar 1 1", "cls": "3", "source": 1
    }  # fmt: skip
    np.testing.assert_array_equal(pixels(record["image"]), drawn("red", "left", noise=4))
    whole = (tmp_path / "train-0.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:700])
    with pytest.raises(UserError, match=r"cut\.tar"):
        tar_shards(str(tmp_path / "cut.tar"))
    (tmp_path / "not.tar").write_bytes(b"hello" * 300)
    with pytest.raises(UserError, match="not a whole tar file"):
        tar_shards(str(tmp_path / "not.tar"))


@pytest.mark.extra("data")
def test_cells_as_hugging_face_writes_them(tmp_path):
    import pyarrow
    import pyarrow.parquet

    content = encoded(drawn("blue", "top"))
    (tmp_path / "here.png").write_bytes(content)
    cells = [{"bytes": content, "path": None}, {"bytes": None, "path": "here.png"}]
    table = pyarrow.table({"picture": cells, "captions": [["a", "b"], ["c"]]})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    found = with_images(files(tmp_path / "x.parquet"), "picture", str(tmp_path))
    for row in range(2):
        np.testing.assert_array_equal(pixels(found[row]["image"]), drawn("blue", "top"))
        assert Captioned().admit(found[row])
    with pytest.raises(ValueError, match="must hold bytes or a path"):
        with_images(files(tmp_path / "x.parquet"), "captions")[0]


def test_a_corpus_of_files(tmp_path):
    (tmp_path / "dogs").mkdir()
    (tmp_path / "dogs" / "a.png").write_bytes(encoded(drawn("red", "top")))
    corpus = PictureCorpus(tmp_path)
    assert (len(corpus), corpus.name(0), corpus.caption(0)) == (1, "dogs/a.png", "")
    assert is_picture_corpus(tmp_path)
    (tmp_path / "corpus.jsonl").write_text("{}")
    assert not is_picture_corpus(tmp_path)
    folder = captioned_folder(tmp_path / "captioned")
    corpus = PictureCorpus(folder)
    assert (len(corpus), corpus.caption(1)) == (32, "red right")
    with pytest.raises(UserError, match="no such folder"):
        PictureCorpus(tmp_path / "gone")


def draws(seed, rows):
    return lambda stream, columns: uniform(
        seed, stream, np.arange(rows)[:, None], np.arange(columns)
    )


def test_changes_are_a_function_of_seed_and_place():
    image = Image(drawn("red", "left", size=40))
    records = [{"captions": ["a", "b"], "image": image}] * 6
    form = Captioned(Augmentation(crop=(0.3, 0.9), colour=0.4, operations=2, magnitude=9))
    first, again, other = (form.make(records, draws(seed, 6)) for seed in (1, 1, 2))
    assert set(first.query) <= {"a", "b"}
    for one, two in zip(first.document, again.document, strict=True):
        np.testing.assert_array_equal(pixels(one), pixels(two))
        assert one.content() == image.content()  # it still counts as the same picture
    same = [
        np.array_equal(pixels(a), pixels(b))
        for a, b in zip(first.document, other.document, strict=True)
    ]
    assert not any(same)
    part = form.make(records[:3], draws(1, 3))  # what a resumed run makes
    for one, two in zip(first.document, part.document, strict=False):
        np.testing.assert_array_equal(pixels(one), pixels(two))


def test_flips_and_crops():
    from PIL import Image as Pillow

    picture = Pillow.fromarray(drawn("red", "left", size=40))
    flipped = Augmentation(crop=(1, 1), flip=1.0).apply(picture, [0.5] * 12)
    np.testing.assert_array_equal(np.asarray(flipped), np.asarray(picture)[:, ::-1])
    kept = Augmentation(crop=(1, 1), flip=0.0).apply(picture, [0.5] * 12)
    np.testing.assert_array_equal(np.asarray(kept), np.asarray(picture))
    random = np.random.default_rng(0)
    for drawn_numbers in random.random((20, 12)):
        made = Augmentation(crop=(0.25, 0.5), flip=0.0).apply(picture, drawn_numbers)
        area = made.size[0] * made.size[1] / 1600
        assert 0.2 < area < 0.56
        assert 0.7 < made.size[0] / made.size[1] < 1.42
    for number in range(13):
        augmentation = Augmentation(crop=(1, 1), flip=0, operations=1, magnitude=10)
        numbers = [0.5] * 12 + [(number + 0.5) / 13, 0.2, 0.0]
        assert augmentation.apply(picture, numbers).size == (40, 40)
    with pytest.raises(UserError, match="crop: expected"):
        Augmentation(crop=(0.9, 0.1))


def test_a_record_without_a_picture_is_bad():
    with pytest.raises(ValueError, match="must be a picture, got str"):
        Captioned().admit({"captions": "a", "image": "a.png"})


@pytest.mark.extra("data")
def test_a_dataset_that_hugging_face_saved(tmp_path):
    """The files of `Dataset.save_to_disk`: Arrow streams, with the features in their metadata."""
    import pyarrow
    import pyarrow.ipc

    rows = [drawn("red", "left"), drawn("green", "top")]
    cells = [{"bytes": encoded(row), "path": None} for row in rows]
    features = {
        "image": {"_type": "Image"},
        "captions": {"dtype": "string", "_type": "Value"},
    }
    about = json.dumps({"info": {"features": features}}).encode()
    table = pyarrow.table({"image": cells, "captions": ["red left", "green top"]})
    table = table.replace_schema_metadata({b"huggingface": about})
    with pyarrow.ipc.new_stream(str(tmp_path / "data-00000-of-00001.arrow"), table.schema) as out:
        out.write_table(table)
    (tmp_path / "dataset_info.json").write_text(json.dumps({"features": features}))
    (tmp_path / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]})
    )
    found = with_images(files(tmp_path))
    for row, expected in enumerate(rows):
        np.testing.assert_array_equal(pixels(found[row]["image"]), expected)
        assert Captioned().admit(found[row])


@pytest.mark.extra("data")
def test_plain_bytes_in_parquet_and_paths_in_a_table(tmp_path):
    import pyarrow
    import pyarrow.parquet

    content = encoded(drawn("blue", "top"))
    table = pyarrow.table({"jpg": [content], "captions": ["blue"]})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    (tmp_path / "here.png").write_bytes(content)
    (tmp_path / "x.tsv").write_text("file\tcaptions\nhere.png\tblue\ngone.png\tblue\n")
    packed = with_images(files(tmp_path / "x.parquet"), "jpg")
    named = with_images(files(tmp_path / "x.tsv"), "file", str(tmp_path))
    for record in (packed[0], named[0]):
        np.testing.assert_array_equal(pixels(record["image"]), drawn("blue", "top"))
    with pytest.raises(ValueError, match=r"gone\.png"):
        named[1]


def varint(number):
    made = b""
    while number > 127:
        made, number = made + bytes([number & 127 | 128]), number >> 7
    return made + bytes([number])


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(**values):
    """A tf.train.Example of bytes, written from the format's definition."""
    entries = b"".join(
        field(1, field(1, name.encode()) + field(2, field(1, field(1, value))))
        for name, value in values.items()
    )
    return field(1, entries)


def test_tfrecord_files_as_tfds_prepares_them(tmp_path):
    rows = [drawn("red", "left"), drawn("grey", "bottom")]
    path = tmp_path / "emoji-train.tfrecord-00000-of-00001"
    with open(path, "wb") as file:
        for row, kind in zip(rows, ("PNG", "BMP"), strict=True):
            content = example(image=encoded(row, kind), captions=b"a bar")
            file.write(len(content).to_bytes(8, "little") + bytes(4) + content + bytes(4))
    found = with_images(files(tmp_path / "emoji-train.tfrecord*"))
    assert len(found) == 2
    for row, expected in enumerate(rows):
        np.testing.assert_array_equal(pixels(found[row]["image"]), expected)
        assert found[row]["captions"] == "a bar"


def test_videos_in_tar_shards_and_cells(tmp_path):
    import PIL.Image

    frames = [PIL.Image.fromarray(drawn("red", place)) for place in ("left", "right")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:], duration=100)
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for ending, content in {"apng": buffer.getvalue(), "txt": b"it moves"}.items():
            info = tarfile.TarInfo(f"000.{ending}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    (tmp_path / "a.apng").write_bytes(buffer.getvalue())
    (tmp_path / "x.jsonl").write_text(json.dumps({"clip": "a.apng", "captions": "it moves"}))
    named = with_videos(files(tmp_path / "x.jsonl"), "clip", str(tmp_path))
    for record in (tar_shards(str(tmp_path / "a.tar"))[0], named[0]):
        seen = frames_of(record["video"], 2, (255, 255, 255))
        for frame, place in zip(seen, ("left", "right"), strict=True):
            np.testing.assert_array_equal(frame.picture, drawn("red", place))
        assert CaptionedVideos().admit(record)
