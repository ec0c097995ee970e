"""Every format reads the same records; broken files are told with their place."""

import csv
import gzip
import json
import subprocess
import sys

import numpy as np
import pytest

from gemb.checks import UserError
from gemb.data.forms import Pairs
from gemb.data.selection import Selection
from gemb.data.sources import lines, reading, tfrecord

ROWS = [
    {"query": "ünï\u2028code, with a comma", "document": "吾輩は猫である"},
    {"query": 'he said "so"', "document": "two\nlines"},
    {"query": "three", "document": "trois"},
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GEMB_CACHE", str(tmp_path / "cache"))


def example_bytes(row) -> bytes:
    """A serialized tf.train.Example, written by hand: the wire format is public."""

    def field(number, content):
        size, prefix = len(content), bytes([number << 3 | 2])
        while size >= 128:
            prefix, size = prefix + bytes([size & 127 | 128]), size >> 7
        return prefix + bytes([size]) + content

    entries = b""
    for name, value in row.items():
        feature = field(1, field(1, value.encode()))  # bytes_list
        entries += field(1, field(1, name.encode()) + field(2, feature))
    return field(1, entries)


def write(folder, name):
    path = folder / name
    if name.startswith("rows.jsonl"):
        content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
        path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    elif name.startswith("rows.csv"):
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["query", "document"])
            writer.writeheader()
            writer.writerows(ROWS)
    elif name == "rows.tfrecord":
        path.write_bytes(
            b"".join(
                len(x).to_bytes(8, "little") + b"\0" * 4 + x + b"\0" * 4
                for x in map(example_bytes, ROWS)
            )
        )
    elif name == "rows.array_record":
        module = pytest.importorskip("array_record.python.array_record_module")
        writer = module.ArrayRecordWriter(str(path), "group_size:1")
        for row in ROWS:
            writer.write(example_bytes(row))
        writer.close()
    else:
        arrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        table = arrow.Table.from_pylist(ROWS)
        if name.endswith("parquet"):
            parquet.write_table(table, path, row_group_size=2)
        elif name == "rows.arrow":
            with arrow.ipc.new_file(str(path), table.schema) as writer:
                writer.write_table(table, max_chunksize=2)
        else:  # a Hugging Face dataset: a folder of Arrow streams
            path.mkdir()
            for number, part in enumerate((table.slice(0, 2), table.slice(2))):
                shard = path / f"data-{number:05}-of-00002.arrow"
                with arrow.ipc.new_stream(str(shard), table.schema) as writer:
                    writer.write_table(part)
            (path / "state.json").write_text("{}")
            (path / "cache-0123456789abcdef.arrow").write_bytes(shard.read_bytes())  # of `map`
    return path


@pytest.mark.parametrize(
    "name",
    [
        *("rows.jsonl", "rows.jsonl.gz", "rows.csv", "rows.tfrecord", "rows.array_record"),
        *("rows.parquet", "rows.arrow", "saved_dataset"),
    ],
)
def test_formats_read_the_same_rows(tmp_path, name):
    path = write(tmp_path, name)
    records = reading.files(path)
    assert [records[i] for i in (2, 0, 1)] == [ROWS[i] for i in (2, 0, 1)]
    assert len(records) == 3
    again = reading.files(str(path))
    assert again.fingerprint == records.fingerprint
    both = reading.files([path, path])
    assert [both[i] for i in range(6)] == ROWS * 2
    assert both.where(4) == records.where(1)


def test_tables_with_tabs_headers_and_blank_lines(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_text('\ufeffa\tb\n"1\t2\n\n3\t4"\r\n', encoding="utf-8")
    records = reading.files(path)
    assert [records[i] for i in range(len(records))] == [
        {"a": '"1', "b": "2"},
        {},
        {"a": "3", "b": '4"'},
    ]
    named = reading.files(path, header=["x", "y"])
    assert named[0] == {"x": "a", "y": "b"}
    path.write_text("a\tb\n1\t2\t3\n")
    with pytest.raises(ValueError, match="3 fields where the header has 2"):
        reading.files(path)[0]


def test_units_of_plain_text(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text("One\nline.\n\n      \nTwo.\n\nThree", encoding="utf-8")

    def texts(unit):
        records = reading.files(path, unit=unit)
        return [r["text"] for r in (records[i] for i in range(len(records))) if r]

    assert texts("line") == ["One", "line.", "Two.", "Three"]
    assert texts("paragraph") == ["One\nline.", "Two.", "Three"]
    assert texts("file") == ["One\nline.\n\n      \nTwo.\n\nThree"]


def test_the_same_bytes_read_otherwise_are_another_source(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_text("a\tb\n")
    readings = [
        *({"format": "text", "unit": unit} for unit in ("line", "paragraph", "file")),
        *({"header": names} for names in (("query", "document"), ("document", "query"))),
    ]
    assert len({reading.files(path, **one).fingerprint for one in readings}) == len(readings)


def test_parquet_in_capitals_with_categories_that_change(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "ROWS.PARQUET"
    names = [[f"{part}{i % 7}" for i in range(5000)] for part in "ab"]
    tables = [arrow.table({"label": arrow.array(part).dictionary_encode()}) for part in names]
    with parquet.ParquetWriter(str(path), tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)
    records = reading.files(path)
    assert [records[i]["label"] for i in range(10_000)] == names[0] + names[1]


def test_columns_are_renamed_and_put_together(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"t": "A", "b": "x", "q": "why"}\n')
    records = Selection(reading.files(path), Pairs(), {"query": "q", "document": "{t}: {b}"})
    assert records[0] == {"query": "why", "document": "A: x"}


def test_each_text_of_a_list_is_a_record(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"q": "x", "d": ["a", "b"]}, {"q": "y", "d": []}, {"q": "z", "d": "c"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    records = reading.each(reading.files(path), "d")
    assert [tuple(records[i].values()) for i in range(len(records))] == [
        ("x", "a"), ("x", "b"), ("z", "c"),
    ]  # fmt: skip
    assert records.where(2).endswith(":3")


def test_beir_pairs_and_what_is_wrong_with_them(tmp_path):
    corpus = [{"_id": f"d{i}", "title": "", "text": f"text {i}"} for i in (0, 1, 2, 2)]
    corpus[1]["title"] = "Title"
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in corpus))
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "ask"}\n')
    (tmp_path / "qrels").mkdir()
    rows = ["query-id\tcorpus-id\tscore", "q\td1\t2", "q\td0\t0", "q\td9\t1", "q\td2\t1"]
    rows.append("w\td0\t1")
    (tmp_path / "qrels" / "train.tsv").write_text("\n".join(rows) + "\n")
    records = reading.beir(str(tmp_path))
    assert len(records) == 4  # the judgement of 0 is left out
    assert records[0] == {"query": "ask", "document": "Title\ntext 1", "score": 2}
    (tmp_path / "qrels" / "bad.tsv").write_bytes(b"q\td1\t1\nq\t\xff\t1\n")
    with pytest.raises(UserError, match=r"bad\.tsv:2: invalid UTF-8"):
        reading.beir(str(tmp_path), "bad")
    wrong = {1: "no document has the _id 'd9'", 2: "'d2' occurs twice", 3: "no query has"}
    for row, message in wrong.items():
        with pytest.raises(ValueError, match=message):
            records[row]
    assert records.where(1).endswith("train.tsv:4")
    with pytest.raises(UserError, match=r"train\.tsv:4: no document.*3 of 4 records"):
        Selection(records, Pairs())
    kept = Selection(records, Pairs(), max_bad_fraction=0.75)
    assert len(kept) == 1
    lines_read = json.dumps(corpus[1]) + '\n{"_id": "q", "text": "ask"}\n'
    np.testing.assert_array_equal(kept.sizes(np.arange(1)), [len(lines_read)])


def _arrow(*values):
    return pytest.param(*values, marks=pytest.mark.extra("data"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", b"", "the file is empty"),
        ("rows.jsonl.gz", gzip.compress(b'{"a": 1}' * 99, mtime=0)[:-9], "cannot be unpacked"),
        ("rows.jsonl.gz", b"no gzip", "cannot be unpacked"),
        ("rows.tfrecord", b"\x09\0\0\0\0\0\0\0....abc", "record 1 is cut off"),
        _arrow("rows.parquet", b"PAR1 but not really", "cannot be read"),
        _arrow("rows.arrow", b"ARROW1\0\0nothing", "cannot be read"),
        ("rows.csv", b'"query,document\nx,y\n', "rows.csv:1: a double quote begins a field"),
        ("rows.xyz", b"x", "format None is unknown"),
    ],
)
def test_broken_files_are_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        reading.files(path)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_files_and_broken_records(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no such file"):
        reading.files(tmp_path / "*.jsonl")
    with pytest.raises(UserError, match=r"no \.arrow files in it"):
        reading.files(tmp_path)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"query": "a"}\n{"query": "\xff"}\n' + b'"' + b"x" * 100 + b'"\n')
    monkeypatch.setattr(lines, "MAX_RECORD_BYTES", 64)
    table = tmp_path / "rows.tsv"
    table.write_bytes(b"query\tdocument\na\tb\n\xff\tc\n")
    with pytest.raises(ValueError, match="invalid UTF-8 at byte 0"):
        reading.files(table)[1]  # not told as one of the header's
    records = reading.files(path)
    with pytest.raises(ValueError, match="invalid UTF-8 at byte 11"):
        records[1]
    with pytest.raises(ValueError, match="longer than"):
        records[2]
    with pytest.raises(ValueError, match=r"not a tf\.train\.Example"):
        tfrecord.parse_example(b"\xff\xff")


def test_chunks_of_big_files_join(tmp_path, monkeypatch):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n" + "".join(f'{i},"x\n,{i}"\n' for i in range(50)))
    monkeypatch.setattr(lines, "_CHUNK", 7)
    monkeypatch.setattr(lines, "_KEEP_INDEX_BYTES", 10)
    for _ in range(2):  # the second time from the cache
        records = reading.files(path)
        expected = [{"a": str(i), "b": f"x\n,{i}"} for i in range(50)]
        assert [records[i] for i in range(50)] == expected
        assert records.where(3) == f"{path}:8"
        np.testing.assert_array_equal(records.sizes([0, 49]), [9, 11])


SEQIO = """
import json, os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import tensorflow_datasets as tfds
from gemb.data import seqio_tasks
from gemb.data.mixing import Task
from gemb.data.pipeline import mixture
from gemb.data.sources import reading
from gemb.processors.text import of_bytes
from gemb.structs import Processors

folder, processors = sys.argv[1], Processors(of_bytes(), of_bytes())

class Small(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    def _info(self):
        text = tfds.features.Text()
        features = tfds.features.FeaturesDict({"ask": text, "reply": text})
        return tfds.core.DatasetInfo(builder=self, features=features)
    def _split_generators(self, manager):
        return {"train": self._generate_examples()}
    def _generate_examples(self):
        for i in range(30):
            yield i, {"ask": f"q\u00fc{i}", "reply": f"d{i}"}

Small(data_dir=folder).download_and_prepare()
records = reading.tfds("small:1.0.0", "train", folder)
columns = {"query": "ask", "document": "reply"}
made = {"t": Task(records, columns=columns, query_length=8, document_length=8)}
made["v"] = made["t"]
name = seqio_tasks.register("mix", processors, tasks=made, rates={"t": 1, "v": 1})
task = list(seqio_tasks.batches("mix_t", batch_size=10, query_length=8, document_length=8, seed=3))
halves = [list(seqio_tasks.batches("mix_t", batch_size=5, query_length=8, document_length=8, seed=3,
                             shard=(i, 2))) for i in range(2)]
mixed = seqio_tasks.batches("mix", batch_size=10, query_length=8, document_length=8, seed=3)
ours = mixture(processors, 0, tasks={"t": made["t"]}, batch_size=30)
rows = lambda batches: sorted(map(bytes, np.concatenate([b.query.ids for b in batches])))
print(json.dumps([
    len(records), sorted(records[0]), rows(task) == rows([next(ours)]),
    rows(halves[0] + halves[1]) == rows(task), not set(rows(halves[0])) & set(rows(halves[1])),
    next(mixed).document.ids.shape,
]))
"""


@pytest.mark.long
@pytest.mark.extra("seqio")
def test_seqio_registers_and_reads_the_same_pairs_of_a_tfds_builder(tmp_path):
    script = tmp_path / "small.py"
    script.write_text(SEQIO, encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), str(tmp_path / "tfds")],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    found = json.loads(result.stdout.strip().splitlines()[-1])
    assert found == [30, ["ask", "reply"], True, True, True, [10, 8]]
