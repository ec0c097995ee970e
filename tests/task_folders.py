"""Folders of evaluation tasks, written for tests."""

import gzip
import json

STS = "sentence1\tsentence2\tscore\na b\ta c\t4.5\nd\te\t0\n"
CLASSES = "text\tlabel\tmore\none\tx\t1\ntwo\ty\t2\nthree\tx\t3\n"
PAIRS = "sentence1\tsentence2\tlabel\n"
FILE = {"kind": "sts", "files": {"test": "x"}}
RERANK = {"query": "q", "positive": ["a"], "negative": ["b", "c"]}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def house(folder):
    """A folder with a task of every kind."""
    write(folder / "sts" / "en_test.tsv", STS)
    write(folder / "sts" / "en_train.tsv", "not\ta\ttable\n")
    write(folder / "pairs" / "twins.tsv.gz", "label\tsentence1\tsentence2\n1\ta\ta\n0\ta\tb\n")
    write(folder / "intents" / "train.tsv", CLASSES)
    write(folder / "intents" / "test.tsv.gz", CLASSES)
    write(folder / "bitext" / "t.tsv", "lang\tsource\tenglish\nde\teins\tone\nfr\tun\tone\n")
    write(folder / "bitext" / "plain.tsv", "source\ttarget\neins\tone\nzwei\ttwo\n")
    write(folder / "rerank" / "r.jsonl", json.dumps(RERANK) + "\n")
    corpus = ({"_id": f"d{i}", "text": f"document {i}"} for i in range(3))
    write(folder / "beir" / "corpus.jsonl", "\n".join(map(json.dumps, corpus)))
    queries = ({"_id": f"q{i}", "text": f"query {i}"} for i in range(3))
    write(folder / "beir" / "queries.jsonl", "\n".join(map(json.dumps, queries)))
    write(folder / "beir" / "qrels" / "test.tsv", "q0\td0\t1\nq1\td1\t0\nq2\td2\t2\n")
    described = [
        {"kind": "clustering", "name": "groups", "files": {"test": "../intents/train.tsv"}}
    ]
    write(folder / "described" / "task.json", described)
    return folder
