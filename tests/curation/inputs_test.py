"""What is wrong in a file is told with file and line, or counted where that is allowed."""

import json

import numpy as np
import pytest
from word_encoder import WordEncoder

from gemb.checks import UserError
from gemb.curation import inputs, prepare
from gemb.store import encoded

GOOD = '{"query": "a question", "document": "an answer"}\n'


def read(tmp_path, text, **options):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return inputs.read_pairs(path, **options)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken\n", "broken JSON"),
        ('["a list"]\n', "expected a JSON object"),
        ('{"query": "a"}\n', "the field 'document' is missing; there are: query"),
        ('{"query": 3, "document": "a"}\n', 'the field "query" must be a text, got int'),
        ('{"query": "a", "document": " "}\n', 'the field "document" is empty'),
        ('{"query": "a", "document": []}\n', "is an empty list"),
        ('{"query": "a", "document": "a"}\n', "the query equals its document"),
        (b'{"query": "\xff", "document": "a"}\n', "invalid UTF-8 at byte 11"),
        ('{"query": "a", "document": "' + "x" * (17 << 20) + '"}\n', "longer than 16 MiB"),
    ],
)
def test_a_broken_record_is_told_and_counted(tmp_path, line, message):
    line = line if isinstance(line, bytes) else line.encode()
    text = GOOD.encode() + b"\n" + line + GOOD.encode() * 2
    with pytest.raises(
        UserError, match=r"pairs\.jsonl:3: .*" + message.replace("[", r"\[")
    ) as told:
        read(tmp_path, text)
    assert "\n" not in str(told.value)
    table = read(tmp_path, text, max_bad_fraction=0.25)
    assert len(table) == 3
    assert table.records.counts == {"records": 4, "bad": 1}
    with pytest.raises(UserError, match=r"more than max_bad_fraction = 0\.2 allows"):
        read(tmp_path, text, max_bad_fraction=0.2)


def test_empty_and_missing_files_and_bad_fractions(tmp_path):
    with pytest.raises(UserError, match="the file is empty"):
        read(tmp_path, "")
    with pytest.raises(UserError, match="no such file"):
        inputs.read_pairs(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="max_bad_fraction: expected 0 or more and below 1"):
        read(tmp_path, GOOD, max_bad_fraction=1.5)


def corpus(tmp_path, *rows):
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "corpus.jsonl"


def test_ids_that_clash_or_do_not_exist(tmp_path):
    read(tmp_path, GOOD.replace("}", ', "document_id": "d9"}'))
    twice = corpus(tmp_path, {"_id": "d1", "text": "one"}, {"_id": "d1", "text": "two"})
    with pytest.raises(UserError, match=r"corpus\.jsonl:2: the _id 'd1' occurs twice, first in"):
        prepare.read(tmp_path / "pairs.jsonl", twice)
    once = corpus(tmp_path, {"_id": "d1", "text": "one"})
    _, documents = prepare.read(tmp_path / "pairs.jsonl", once)
    with pytest.raises(UserError, match=r"pairs\.jsonl:1: no document has the _id 'd9'"):
        documents.known_answers()
    numbered = corpus(tmp_path, {"_id": 0, "text": "one"}, {"_id": 1.5, "text": "two"})
    for name in ("0", "1.5", "[0, 1.5]"):
        read(tmp_path, GOOD.replace("}", f', "document_id": {name}}}'))
        _, documents = prepare.read(tmp_path / "pairs.jsonl", numbered)
        assert len(documents.known_answers()[1]) == 2 + name.count(",")


def test_a_beir_folder_and_a_judgement_of_no_document(tmp_path):
    corpus(tmp_path, {"_id": "d1", "text": "one", "title": "head"}, {"_id": "d2", "text": "two"})
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "which"}\n')
    (tmp_path / "qrels").mkdir()
    qrels = tmp_path / "qrels" / "train.tsv"
    qrels.write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")
    pairs, documents = prepare.read(tmp_path)
    assert (list(pairs.queries), pairs.documents(0)) == (["which"], ["head\none"])
    assert [documents[row] for row in range(len(documents))] == ["head\none", "two"]
    assert [documents.id(row) for row in range(2)] == ["d1", "d2"]
    assert documents.row_of.tolist() == [0]
    qrels.write_text("query-id\tcorpus-id\tscore\nq1\td7\t1\n")
    with pytest.raises(UserError, match=r"train\.tsv:2: no document has the _id 'd7'"):
        prepare.read(tmp_path)


@pytest.mark.parametrize("format", ["tsv", "csv", "parquet"])
def test_tables_are_read_too(tmp_path, format, monkeypatch):
    monkeypatch.setenv("GEMB_CACHE", str(tmp_path / "cache"))
    rows = [("a question", "an answer"), ("another", "one more")]
    path = tmp_path / f"pairs.{format}"
    if format == "parquet":
        arrow, parquet = map(pytest.importorskip, ("pyarrow", "pyarrow.parquet"))
        columns = dict(zip(("ask", "text"), map(list, zip(*rows, strict=True)), strict=True))
        parquet.write_table(arrow.table(columns), path)
    else:
        separator = "\t" if format == "tsv" else ","
        path.write_text("\n".join(map(separator.join, [("ask", "text"), *rows])) + "\n")
    table = inputs.read_pairs(path, query="ask", document="text")
    assert list(table.queries) == ["a question", "another"]
    assert table.documents(1) == ["one more"]


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    options = {"kind": "document", "content": "c", "progress": False}
    with pytest.raises(UserError, match=r"cannot write .*: No space left on device"):
        encoded(WordEncoder(), ["one"], tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_a_model_that_gives_no_number_is_told(tmp_path):
    class Broken:
        dim, fingerprint = 2, "x"

        def encode(self, texts, *, kind):
            return np.array([[1, 0], [np.nan, 0]], np.float32)

    options = {"kind": "document", "content": "c", "progress": False}
    with pytest.raises(UserError, match="no usable vector for the text 'two'"):
        encoded(Broken(), ["one", "two"], tmp_path, **options)
