"""BEIR folders and pair files: what is read, and each broken file told with its line."""

import gzip
import json
from pathlib import Path

import pytest

from gemb.checks import UserError
from gemb.data.sources.beir import read_corpus, read_retrieval

RETRIEVAL = Path(__file__).parents[2].parent / "shared" / "data" / "text" / "retrieval"
DOCUMENTS = [
    {"_id": "d0", "title": "Rome", "text": "A city."},
    {"_id": "d1", "title": "", "text": "No title: ünï\u2028code."},
    {"_id": "d2", "title": "a.py:f", "text": "def f(): 1", "path": "a.py", "name": "f", "line": 3},
]
QUERIES = [{"_id": f"q{i}", "text": f"query {i}"} for i in range(3)]
QRELS = "query-id\tcorpus-id\tscore\nq2\td1\t2\nq0\td0\t1\nq0\td2\t0\n"


def _lines(rows) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "corpus.jsonl").write_text(_lines(DOCUMENTS), encoding="utf-8")
    (tmp_path / "queries.jsonl").write_text(_lines(QUERIES), encoding="utf-8")
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text(QRELS)
    return tmp_path


def test_reads_titles_metadata_and_judged_queries_only(folder):
    data = read_retrieval(folder)
    assert data.corpus_ids == ["d0", "d1", "d2"]
    assert data.corpus_texts == ["Rome\nA city.", DOCUMENTS[1]["text"], "def f(): 1"]
    assert data.corpus_metadata[2] == {"title": "a.py:f", "path": "a.py", "name": "f", "line": 3}
    assert data.query_ids == ["q0", "q2"]
    assert data.query_texts == ["query 0", "query 2"]
    assert data.qrels == [{0: 1, 2: 0}, {1: 2}]


def test_gzipped_tables_read_the_same(folder):
    plain = read_retrieval(folder)
    for name in ("corpus", "queries"):
        path = folder / f"{name}.jsonl"
        (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert read_retrieval(folder) == plain


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("corpus.jsonl", b'{"_id": "a", "text": "x"}\n{"_id": \n', r"corpus\.jsonl:2: broken JSON"),
        ("corpus.jsonl", b'\n["a"]\n', r"corpus\.jsonl:2: expected a JSON object"),
        ("corpus.jsonl", b'{"_id": "a"}\n', r"corpus\.jsonl:1: the field 'text' is missing"),
        ("corpus.jsonl", b'{"_id": 1, "text": ""}\n', r'jsonl:1: the field "_id" must be a string'),
        ("corpus.jsonl", b'{"_id":"a","text":""}\n' * 2, r"corpus\.jsonl:2: .*'a' occurs twice"),
        ("corpus.jsonl", b'{"_id":"a","text":"\xff"}\n', r"corpus\.jsonl:1: invalid UTF-8"),
        ("corpus.jsonl", b"[" * 100_000 + b"\n", r"corpus\.jsonl:1: broken JSON"),
        ("corpus.jsonl", b'{"_id":"a","title":["t"],"text":"x"}\n', r'"title" must be a text'),
        ("corpus.jsonl", b"\n", "the corpus is empty"),
        ("queries.jsonl", b'{"text": "x"}\n', r'queries\.jsonl:1: the field "_id" is missing'),
        ("qrels/test.tsv", b"q0\td9\t1\n", r"test\.tsv:1: no document has the _id 'd9'"),
        ("qrels/test.tsv", b"a\tb\tscore\nq9\td0\t1\n", r"test\.tsv:2: no query has the _id 'q9'"),
        ("qrels/test.tsv", b"q0 d0 1\n", r"test\.tsv:1: expected query-id, corpus-id and score"),
        ("qrels/test.tsv", b"q0\td0\thigh\n", r"test\.tsv:1: the score 'high' is no integer"),
        ("qrels/test.tsv", b"query-id\tcorpus-id\tscore\n", "nothing to evaluate"),
    ],
)
def test_broken_files_are_told_with_their_line(folder, file, content, message):
    (folder / file).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_retrieval(folder)
    assert "\n" not in str(error.value)


def test_missing_folder_table_and_split_are_told(folder):
    with pytest.raises(UserError, match="no such folder"):
        read_corpus(folder / "nowhere")
    with pytest.raises(UserError, match=r"the splits of .* are: test"):
        read_retrieval(folder, split="dev")
    (folder / "queries.jsonl").unlink()
    with pytest.raises(UserError, match=r"no queries\.jsonl in it"):
        read_retrieval(folder)


def test_truncated_gzip_is_told(tmp_path):
    data = gzip.compress(_lines(DOCUMENTS).encode())
    (tmp_path / "corpus.jsonl.gz").write_bytes(data[:-9])
    with pytest.raises(UserError, match=r"corpus\.jsonl\.gz:\d+: cannot be read"):
        read_corpus(tmp_path)


@pytest.mark.parametrize("name", ["pystdlib", "squad"])
def test_reads_real_folders(name):
    if not (RETRIEVAL / name).is_dir():
        pytest.skip(f"no {name} in {RETRIEVAL}")
    data = read_retrieval(RETRIEVAL / name)
    rows = (RETRIEVAL / name / "qrels" / "test.tsv").read_text().splitlines()[1:]
    assert sum(map(len, data.qrels)) == len(rows)
    assert len({row.split("\t")[0] for row in rows}) == len(data.query_ids)
    assert max(max(answers) for answers in data.qrels) < len(data.corpus_texts)
