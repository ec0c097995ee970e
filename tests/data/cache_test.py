"""Offline caches: the same batches as from the source, whole or not at all, never of other data."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gemb.checks import UserError
from gemb.data.mixing import Task
from gemb.data.pipeline import mixture
from gemb.data.sources import cached, tfrecord
from gemb.data.sources.reading import files
from gemb.processors.text import of_bytes
from gemb.structs import Processors

ROOT = Path(__file__).parents[2]
ROWS = [{"query": f"q{i}", "document": "dö " * (i % 7 + 1) + str(i)} for i in range(41)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GEMB_CACHE", str(tmp_path / "cache"))


def framed(row: dict) -> bytes:
    """One TFRecord of an Example; the checksums, which gemb does not read, are left zero."""
    example = tfrecord._example()()
    for name, value in row.items():
        kind = "int64_list" if isinstance(value, int) else "bytes_list"
        getattr(example.features.feature[name], kind).value.append(value)
    content = example.SerializeToString()
    return struct.pack("<Q", len(content)) + bytes(4) + content + bytes(4)


def write_cache(folder: Path, numbers, fingerprint="f") -> Path:
    """A cache as Beam may leave it: any order, three files, one of them empty."""
    folder.mkdir()
    rows = [
        {"number": n, "size": len(json.dumps(ROWS[n])), "record": json.dumps(ROWS[n]).encode()}
        for n in numbers
    ]
    for i, part in enumerate((rows[::2], [], rows[1::2])):
        path = folder / f"train.tfrecord-0000{i}-of-00003"
        path.write_bytes(b"".join(map(framed, part)))
    notes = {"records": len(ROWS), "fingerprint": fingerprint}
    (folder / cached.NOTES).write_text(json.dumps(notes))
    (folder / cached.COMPLETED).touch()
    return folder


def batches(records, **options):
    sizes = {"query_length": 8, "document_length": 16}
    tasks = {"t": Task(records, **sizes, **options)}
    return mixture(Processors(of_bytes(), of_bytes()), 3, tasks=tasks, batch_size=4)


@pytest.mark.parametrize("options", [{}, {"neighbours": 3}, {"length_window": 4}])
def test_records_come_in_their_old_order_and_give_the_same_batches(tmp_path, options):
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    order = np.random.default_rng(0).permutation(len(ROWS)).tolist()
    records = cached.records(str(write_cache(tmp_path / "made", order)))
    assert [records[i] for i in range(len(ROWS))] == ROWS
    assert records.where(order[2]).endswith("train.tfrecord-00000-of-00003: record 1")
    two = batches(records, **options), batches(files(source), **options)
    for _ in range(25):
        left, right = map(next, two)
        np.testing.assert_array_equal(left.query.ids, right.query.ids)
        np.testing.assert_array_equal(left.document.ids, right.document.ids)


def test_a_cache_made_again_is_the_same_data(tmp_path):
    """A run goes on from its checkpoint, though Beam writes another order each time."""
    orders = list(range(len(ROWS))), list(range(len(ROWS)))[::-1]
    made = [write_cache(tmp_path / f"made{i}", order) for i, order in enumerate(orders)]
    one, two = (batches(cached.records(str(folder))) for folder in made)
    next(one)
    two.set_state(one.get_state())
    np.testing.assert_array_equal(next(one).query.ids, next(two).query.ids)


def test_what_is_no_whole_cache_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no cached task; `gemb cache` writes one"):
        cached.records(str(tmp_path))
    whole = write_cache(tmp_path / "mix_t", range(len(ROWS)))
    with pytest.raises(UserError, match="name one of its tasks: mix_t"):
        cached.records(str(tmp_path))
    (whole / cached.COMPLETED).unlink()
    with pytest.raises(UserError, match="holds no cached task"):
        cached.records(str(whole))
    short = write_cache(tmp_path / "short", [*range(39), 7])
    with pytest.raises(UserError, match="of 41 records 2 are missing and 1 there more than once"):
        cached.records(str(short))


BEAM = """
import json, os, sys
from pathlib import Path
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np
import seqio
from gemb.checks import UserError
from gemb.data import forms, offline, seqio_tasks
from gemb.data.mixing import Task
from gemb.data.pipeline import mixture
from gemb.data.sources import cached, reading
from gemb.processors.text import of_bytes
from gemb.structs import Processors

folder, processors = Path(sys.argv[1]), Processors(of_bytes(), of_bytes())
FORMS = {
    "hard": (forms.Pairs(negatives=2), {"query": "{title}: {query}"}),
    "classes": (forms.Classification(negatives=3), {}),
    "spans": (forms.SpanCorruption(replace="drop"), {}),
}
rows = [{
    "query": f"q{i}", "document": f"document {i}", "answers": [f"a {i}.{j}" for j in range(3)],
    "negatives": [f"wrong {i}.{j}" for j in range(i % 4)], "score": i % 6, "label": i % 5,
    "title": f"title\\u00fc {i}", "text": f"Text {i}. " + "On and on. " * (i % 5) + f"End {i}.",
} for i in range(53)]
source = folder / "rows.jsonl"
source.write_text("".join(json.dumps(row) + "\\n" for row in rows) + "{broken\\n")

def made(records, names, bare=False):
    some = {"query_length": 24, "document_length": 32, "max_bad_fraction": 0.02}
    chosen = {name: FORMS[name] for name in names}
    return {name: Task(records(name), form, None if bare else columns, length_window=2, **some)
            for name, (form, columns) in chosen.items()}

def mixed(made):
    return mixture(processors, 5, tasks=made, batch_size=6, rates=dict.fromkeys(made, 1))

def write(made, output=folder / "out", **options):
    return offline.write(mixed(made).parts, processors, output, name="mix", shards=3, **options)

def told(call):
    try:
        call()
    except (UserError, KeyboardInterrupt) as error:
        return str(error)

shown = {}
source_tasks = made(lambda name: reading.files(source), FORMS)
seqio_tasks._SHARD_RECORDS = 20  # three shards to read
first = write(source_tasks)
shown["first"] = [(r.folder.name, r.records, r.left_out, r.fresh) for r in first]
shown["again"] = [r.fresh for r in write(source_tasks)]
shown["files"] = sorted(p.name for p in first[0].folder.iterdir())

same, two = [], (mixed(source_tasks), mixed(made(
    lambda name: cached.records(folder / "out" / f"mix_{name}"), FORMS, bare=True)))
for _ in range(60):
    left, right = map(next, two)
    pairs = [(left.query.ids, right.query.ids), (left.document.ids, right.document.ids)]
    pairs += [(left.query_id, right.query_id), (left.document_mask, right.document_mask)]
    pairs += [(left.fields[name], right.fields[name]) for name in left.fields]
    same.append(all(np.array_equal(*pair) for pair in pairs))
shown["same batches"] = sum(same)

made_tasks = made(lambda name: reading.files(source), ["hard", "spans"])
seqio_tasks.register("mix", processors, tasks=made_tasks)
seqio.add_global_cache_dirs([str(folder / "out")])
def seqio_rows(**options):
    sizes = {"batch_size": 53, "query_length": 24, "document_length": 32}
    found = seqio_tasks.batches("mix_hard", **sizes, **options)
    return sorted(map(bytes, next(found).query.ids))
shown["seqio"] = [seqio_rows(seed=1, use_cached=True) == seqio_rows(seed=2)]
sizes = {"batch_size": 8, "query_length": 24, "document_length": 32}
shown["seqio"].append(next(seqio_tasks.batches("mix", **sizes, use_cached=True)).query.ids.shape)

source.write_text(json.dumps(rows[0]) + "\\n" + json.dumps(rows[1]) + "\\n")
shown["other"] = told(lambda: write(made(lambda name: reading.files(source), ["hard"])))
(folder / "mine" / "mix_hard").mkdir(parents=True)
shown["foreign"] = told(lambda: write(made(lambda name: reading.files(source), ["hard"]),
    folder / "mine"))
small = made(lambda name: reading.files(source), ["hard"])
shown["runner"] = told(lambda: write(small, folder / "late", options=["--runner=NoneSuch"]))

run = offline._run
def killed(name, place, *rest):
    run(name, place, *rest)
    (Path(place) / "train.tfrecord-00001-of-00003").unlink()
    raise KeyboardInterrupt("killed")
offline._run = killed
shown["killed"] = told(lambda: write(small, folder / "late")), os.listdir(folder / "late")
print(json.dumps(shown))
"""


@pytest.fixture(scope="module")
def beam(tmp_path_factory):
    folder = tmp_path_factory.mktemp("beam")
    (folder / "script.py").write_text(BEAM, encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-W", "ignore", str(folder / "script.py"), str(folder)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "GEMB_CACHE": str(folder / "cache")},
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.strip().splitlines()[-1])


@pytest.mark.extra("beam")
def test_beam_caches_every_task_with_its_counts(beam):
    left_out = {"bad": 1, "unfit": 0}
    assert beam["first"] == [
        [f"mix_{name}", 53, left_out, True] for name in ("classes", "hard", "spans")
    ]
    assert beam["again"] == [False] * 3
    shards = [f"train.tfrecord-0000{i}-of-00003" for i in range(3)]
    assert beam["files"] == [
        "COMPLETED",
        "gemb.json",
        "info.train.json",
        "stats.train.json",
        *shards,
    ]


@pytest.mark.extra("beam")
def test_training_gets_the_same_batches_from_beams_cache(beam):
    assert beam["same batches"] == 60


@pytest.mark.extra("beam")
def test_seqio_reads_beams_cache(beam):
    assert beam["seqio"] == [True, [8, 24]]


@pytest.mark.extra("beam")
def test_other_data_is_refused_and_nothing_half_stays(beam):
    assert "mix_hard: holds a cache of other data (53 records; here are 2)" in beam["other"]
    assert "is there already and holds no cache of gemb's" in beam["foreign"]
    assert beam["runner"].startswith("--pipeline_options: ")
    assert beam["killed"] == ["killed", []]


MISTAKES = """
import json, sys
from gemb.cli.__main__ import run
sys.modules["apache_beam"] = None
for arguments in json.loads(sys.argv[1]):
    try:
        run("cache", arguments)
    except SystemExit as end:
        print(end.code)
"""


def test_the_verb_tells_mistakes(tmp_path):
    experiment, output = "--gin_file=quickstart.gin", f"--output_cache_dir={tmp_path}/out"
    mistakes = {
        (): "--gin_file is required",
        (experiment,): "--output_cache_dir is required",
        (experiment, "--output_cache_dir=gs://bucket/x"): "mount the bucket",
        (experiment, output, "--shards=0"): "--shards: expected at least 1, got 0",
        # Flags keep their values from one call to the next.
        (experiment, output, "--shards=1", "--name=a/b"): "--name: expected letters",
        (experiment, output, "--name=mix"): "pip install 'gemb[beam]'",
    }
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MISTAKES, json.dumps(list(mistakes))],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.stdout.split() == ["2"] * len(mistakes), result.stderr
    for line, message in zip(result.stderr.strip().splitlines(), mistakes.values(), strict=True):
        assert line.startswith("gemb cache: error: ")
        assert message in line
    assert not (tmp_path / "out").exists()
