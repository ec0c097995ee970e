"""Columns to arrays: vocabularies, scales, times, vectors, texts; and what is refused."""

import datetime
import hashlib

import numpy as np
import pytest

from gemb.checks import UserError
from gemb.processors.columns import Categories, FrozenTexts, Number, Text, Time, Vector
from gemb.processors.features import FeaturesProcessor
from gemb.processors.vocabularies import Hashed, Vocabulary, learned


def encoder(size=3, fingerprint="one"):
    """Texts to three numbers; counts how often it is called."""
    calls = []

    def encode(texts):
        calls.append(texts)
        return np.array([[len(text), text.count("a"), 1][:size] for text in texts], np.float32)

    return FrozenTexts(encode, size, fingerprint), calls


def processor():
    texts, _ = encoder()
    return FeaturesProcessor(
        query=(
            Categories("user", "user"),
            Categories("history", "item", limit=3, latest=True),
            Number("age", "standard", (30.0, 10.0)),
            Time("joined", (0.0, 10.0)),
        ),
        document=(
            Categories("item", "item"),
            Categories("tags", "tags", limit=2, split="space"),
            Categories("parts", "tags", limit=4, split="name", source="item"),
            Vector("picture", 2),
            Text("about", "some-model").with_encoder(texts),
        ),
        vocabularies=(
            ("user", Vocabulary(("u1", "u2"))),
            ("item", Vocabulary(("i1", "i2", "i3", "i4"), unknown=2)),
            ("tags", Hashed(7)),
        ),
    )


def arrays(side, *records):
    made = processor()
    return made.collate(made.prepare(list(records), side)).columns


def test_ids_have_rows_after_padding_and_the_unknown():
    made = arrays("query", {"user": "u2"}, {"user": "nobody"}, {"history": ["i1"]})
    assert made["query/user"].tolist() == [[3], [1], [0]]
    made = arrays("query", {"history": ["i4", "i1", "i2", "i3"]}, {"history": ["i2", "i2"]})
    assert made["query/history"].tolist() == [[3, 4, 5], [4, 4, 0]]  # the latest; repeats stay
    rows = {arrays("query", {"history": [f"new{n}"]})["query/history"][0, 0] for n in range(20)}
    assert rows == {1, 2}


def test_hashed_values_have_two_independent_rows():
    def row(value, salt):
        digest = hashlib.blake2b(value.encode(), digest_size=8, key=bytes([salt])).digest()
        return 1 + int.from_bytes(digest, "little") % 7

    made = arrays("document", {"item": "lib-i1.2", "tags": "x y z"})
    assert made["document/tags"].tolist() == [[row("x", 0), row("x", 1), row("y", 0), row("y", 1)]]
    parts = [row(word, salt) for word in ("lib", "i", "1", "2") for salt in (0, 1)]
    assert made["document/parts"].tolist() == [parts]


def test_a_vocabulary_has_a_frequency_cut():
    words = learned(["b", "a", "c", "a", "b", "a"], least=2)
    assert words == Vocabulary(("a", "b"))
    assert words.of("c") == (1,)
    assert not words.knows("c")


def test_numbers_are_scaled_by_what_was_learned():
    values = np.random.default_rng(0).exponential(size=500).tolist()
    logged = np.log1p(values)
    for scaling, expected in {
        "standard": (2.0 - np.mean(values)) / np.std(values),
        "log": (np.log1p(2.0) - logged.mean()) / logged.std(),
        "quantile": np.mean(np.array(values) < 2.0),
    }.items():
        column = Number("x", scaling).learn([*values, None, float("nan"), ""])
        value, missing = column.row("2.0")
        assert missing == 0
        np.testing.assert_allclose(value, expected, atol=0.011)
        assert column.row(None).tolist() == column.row(float("nan")).tolist() == [0, 1]


def test_times_know_the_hour_and_the_weekday():
    column = Time("t").learn([0.0, 864_000.0])
    noon = datetime.datetime(1970, 1, 3, 12, tzinfo=datetime.UTC).timestamp()
    week = 2 * np.pi * 2.5 / 7
    expected = [0.25, np.sin(np.pi), np.sin(week), np.cos(np.pi), np.cos(week), 0]
    np.testing.assert_allclose(column.row(noon), expected, atol=1e-6)
    assert column.row(None).tolist() == [0, 0, 0, 0, 0, 1]


def test_texts_are_embedded_once_and_empty_ones_are_zero():
    texts, calls = encoder()
    column = Text("about", "m").with_encoder(texts)
    rows = column.rows(["banana", "", None, " banana "])
    assert [row.tolist() for row in rows] == [[6, 3, 1], [0] * 3, [0] * 3, [6, 3, 1]]
    column.rows(["banana"])
    assert calls == [["banana"]]


def test_a_saved_processor_makes_the_same_arrays(tmp_path):
    made = processor()
    made.save(tmp_path)
    again = FeaturesProcessor.load(tmp_path)
    assert again == made
    assert again.identity() == made.identity()
    record = {"user": "u1", "history": ["i3"], "age": 50, "joined": 5.0}
    for one, other in zip(
        made.prepare([record], "query"), again.prepare([record], "query"), strict=True
    ):
        for name, array in one.content.items():
            np.testing.assert_array_equal(other.content[name], array)
    (tmp_path / "features.json").write_text("{}")
    with pytest.raises(UserError, match=r"features.json: expected columns of version 1"):
        FeaturesProcessor.load(tmp_path)


def test_what_changes_a_vector_is_in_the_identity():
    columns = (Number("x", "log", (0.0, 1.0)),), (Categories("i", "i"),)
    words = (("i", Vocabulary(("a", "b"))),)
    identities = [
        FeaturesProcessor(*columns, words),
        FeaturesProcessor(*columns, (("i", Vocabulary(("b", "a"))),)),
        FeaturesProcessor((Number("x", "log", (0.0, 2.0)),), columns[1], words),
        FeaturesProcessor((Number("x", "standard", (0.0, 1.0)),), columns[1], words),
        FeaturesProcessor(*columns, (("i", Hashed(3)),)),
    ]
    assert len({str(one.identity()) for one in identities}) == len(identities)


@pytest.mark.parametrize(
    ("side", "record", "message"),
    [
        ("query", "u1", r"values\[0\]: expected a record such as \{'user': ...\}, got 'u1'"),
        ("query", {"usr": "u1"}, r"values\[0\]: no column 'usr'. Did you mean user\?"),
        ("query", {"user": None}, r"values\[0\]: the record says nothing"),
        ("query", {"age": "old"}, r"values\[0\]: age: expected a number, got 'old'"),
        ("query", {"age": float("inf")}, r"values\[0\]: age: the number is infinite"),
        ("query", {"user": 3.5}, r"values\[0\]: user: expected a text or a list of texts"),
        ("document", {"picture": [1, 2, 3]}, r"picture: expected 2 coordinates, got shape \(3,\)"),
        ("document", {"picture": [1, np.nan]}, "picture: the vector has coordinates that are not"),
        ("document", {"about": 3}, "about: expected a text, got int"),
    ],
)
def test_bad_records_are_one_line(side, record, message):
    with pytest.raises(UserError, match=message):
        processor().prepare([record], side)


def test_bad_columns_are_one_line():
    with pytest.raises(ValueError, match="x: all training values are equal or missing"):
        Number("x").learn([2, 2, None])
    with pytest.raises(ValueError, match="buckets: expected at least 1 row, got 0"):
        Hashed(0)
    with pytest.raises(ValueError, match="limit: expected at least 1"):
        Categories("x", "t", limit=0)
    with pytest.raises(ValueError, match="the table 't' has no vocabulary"):
        FeaturesProcessor((Categories("x", "t"),), (Vector("v", 2),))
    with pytest.raises(ValueError, match="two columns have the name 'v'"):
        FeaturesProcessor((Vector("v", 2), Vector("v", 2)), (Vector("v", 2),))
    column = Text("about", "m").with_encoder(encoder()[0])
    with pytest.raises(UserError, match="the texts were embedded by the model one"):
        column.with_encoder(encoder(fingerprint="two")[0])


def test_long_lists_are_counted():
    made = processor()
    examples = made.prepare([{"history": ["i1"] * 4}, {"history": ["i1"]}], "query")
    assert made.count_cut(examples, "query") == 1
