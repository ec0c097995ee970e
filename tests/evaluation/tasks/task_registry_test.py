"""Tasks on disk: what a folder is taken for, and mistakes in it told with file and line."""

import json
from pathlib import Path

import pytest
from task_folders import CLASSES, FILE, PAIRS, RERANK, STS, house, write

from gemb import checks
from gemb.evaluation.tasks import TASK_TYPES, read_tasks

DATA = Path(__file__).parents[4] / "shared" / "data" / "text"


@pytest.mark.extra("eval")
def test_every_kind_is_found(tmp_path):
    tasks = {task.name: task for task in read_tasks([house(tmp_path)])}
    kinds = {name: task.kind for name, task in tasks.items()}
    assert kinds == {
        "beir": "retrieval",
        "plain": "bitext",
        "t": "bitext",
        "groups": "clustering",
        "intents": "classification",
        "twins": "pair_classification",
        "r": "reranking",
        "en_test": "sts",
    }
    assert set(kinds.values()) == set(TASK_TYPES) - {"pictures", "picture_classes", "videos"}
    assert all(task.main == TASK_TYPES[task.kind].mains[0] for task in tasks.values())
    data = {name: task.data for name, task in tasks.items()}
    assert data["en_test"]["scores"] == [4.5, 0.0]
    assert data["twins"] == {"first": ["a", "a"], "second": ["a", "b"], "labels": [1, 0]}
    assert data["intents"]["test_labels"] == ["x", "y", "x"]
    assert data["t"]["groups"] == ["de", "fr"]
    assert data["r"]["candidates"] == [[0, 1, 2]]
    assert data["beir"]["queries"] == ["query 0", "query 2"], "query 1 has nothing relevant"
    assert data["beir"]["qrels"] == [{0: 1}, {2: 2}]


def test_a_description_names_files_columns_prompts_and_more(tmp_path):
    write(tmp_path / "rows.jsonl", "\n".join(json.dumps({"q": f"{i}", "a": "x", "w": ["y"]})
                                               for i in range(5)))  # fmt: skip
    description = {
        "kind": "reranking", "files": {"test": "rows.jsonl"}, "prompts": {"query": "ask: "},
        "columns": {"query": "q", "positive": "a", "negative": "w"}, "main": "mrr@10", "limit": 3,
    }  # fmt: skip
    (task,) = read_tasks([write(tmp_path / "other.json", description)])
    assert (task.name, task.main) == (tmp_path.name, "mrr@10")
    assert task.prompts == {"query": "ask: "}
    assert task.data["queries"] == ["0", "2", "4"]
    assert task.data["documents"] == ["x", "y"]


def test_the_fingerprint_is_of_content_and_prompts_alone(tmp_path):
    def read(folder, text=STS, **more):
        files = {"files": {"test": write(tmp_path / folder / "any.tsv", text).name}}
        description = {"kind": "sts", "name": folder} | files | more
        (task,) = read_tasks([write(tmp_path / folder / "task.json", description)])
        return task.fingerprint

    same = read("a")
    assert read("b") == same
    assert read("c", main="pearson") == same, "what is measured does not change"
    others = {read("d", STS.replace("4.5", "4")), read("e", prompts={"document": "p"})}
    others |= {read("f", STS.replace("a b", "a  b")), read("g", limit=1)}
    assert len(others | {same}) == 5


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("en.tsv", STS + "a\tb\n", r"en.tsv:4: expected 3 fields between tabs, got 2"),
        ("en.tsv", STS + "a\tb\tmuch\n", r"en.tsv:4: the score 'much' is no finite number"),
        ("en.tsv", STS + "a\tb\tnan\n", r"en.tsv:4: the score 'nan' is no finite number"),
        ("en.tsv", STS.replace("4.5", "0"), r"en.tsv: every score is 0.0"),
        ("en.tsv", STS.splitlines()[0], r"en.tsv: holds no rows"),
        ("en.tsv.gz", STS + "a\tb\n", r"en.tsv.gz:4: expected 3 fields"),
        ("p.tsv", PAIRS + "a\tb\t2\n", r"p.tsv:2: the label must be 0 or 1, got 2"),
        ("p.tsv", PAIRS + "a\tb\t1\n", r"p.tsv: every label is 1"),
        ("r.jsonl", json.dumps(RERANK | {"query": 1}), r"r.jsonl:1: the query must be a text"),
        ("r.jsonl", json.dumps(RERANK) + "\n{", r"r.jsonl:2: broken JSON"),
        ("r.jsonl", json.dumps(RERANK | {"negative": []}), r"r.jsonl:1: the negative list"),
        ("r.jsonl", json.dumps(RERANK | {"negative": ["a"]}), r"r.jsonl:1: 'a' is both"),
        ("r.jsonl", json.dumps(RERANK) + '\n{"query": "q"}', r"r.jsonl:2: no column 'positive'"),
        ("task.json", "{", r"task.json: cannot be read as JSON"),
        ("task.json", {"kind": "stss"}, r'"kind" must be one of .*\'stss\'. Did you mean sts\?'),
        ("task.json", {"kind": "sts", "file": {}}, r"unknown field 'file'.* Did you mean files\?"),
        ("task.json", {"kind": "sts"}, r"\"files\" has no 'test'"),
        ("task.json", {"kind": "sts", "files": {"test": "no.tsv"}}, r"no.tsv: no such file"),
        ("task.json", {"kind": "sts", "files": {"tset": "x"}}, r"\"files\" knows \['test'\]"),
        ("task.json", FILE | {"main": "f1"}, r'"main" must be one of spearman, pearson; got .f1'),
        ("task.json", {"kind": "sts", "limit": 0}, r'"limit" must be a whole number above 0'),
        ("task.json", {"kind": "sts", "columns": {"a": 1}}, r'"columns" must map names to texts'),
        ("task.json", [3], r"expected an object or a list of objects, got 3"),
        ("nothing.txt", "", r"no task in it; see `gemb evaluate --help`"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_line(name, content, message, tmp_path):
    write(tmp_path / "task" / name, content)
    with pytest.raises(checks.UserError, match=message) as raised:
        read_tasks([tmp_path])
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.extra("eval")
def test_labels_and_names_must_be_known_and_unique(tmp_path):
    write(tmp_path / "a" / "train.tsv", CLASSES)
    write(tmp_path / "a" / "test.tsv", CLASSES + "four\tz\t4\n")
    with pytest.raises(checks.UserError, match=r"test.tsv:5: no training text has the label 'z'"):
        read_tasks([tmp_path])
    write(tmp_path / "a" / "test.tsv", CLASSES)
    with pytest.raises(checks.UserError, match="a second task named 'a'"):
        read_tasks([tmp_path / "a", tmp_path / "a"])
    with pytest.raises(checks.UserError, match="none: no such folder"):
        read_tasks([tmp_path / "none"])
    binary = tmp_path / "b" / "x.tsv"
    write(binary, "")
    binary.write_bytes(STS.encode() + b"\xff\tb\t1\n")
    with pytest.raises(checks.UserError, match=r"x.tsv:4: invalid UTF-8 at byte 0"):
        read_tasks([tmp_path / "b"])


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data in {DATA}")
@pytest.mark.extra("eval")
def test_real_folders_are_recognised():
    tasks = {task.name: task for task in read_tasks([DATA / "sts", DATA / "classification"])}
    assert {"stsb_en_test", "stsb_zh_test", "banking77", "clinc150"} <= tasks.keys()
    assert "stsb_en_train" not in tasks
    assert len(tasks["stsb_en_test"].data["scores"]) == 1379
    assert len(set(tasks["banking77"].data["train_labels"])) == 77
