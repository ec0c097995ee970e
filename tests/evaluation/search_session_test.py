"""Typed queries: hits of an index folder as lines, the conversation, and a changed corpus."""

import json

import pytest
from task_folders import write

from gemb.checks import UserError
from gemb.evaluation.search_session import converse, of_index
from gemb.identity import texts_fingerprint
from gemb.search import Bm25Searcher, save_index

TEXTS = ["apple pie", "plum cake", "pear juice"]


@pytest.fixture
def index(tmp_path):
    rows = [{"_id": f"d{i}", "text": text} for i, text in enumerate(TEXTS)]
    rows[1] |= {"name": "bake", "path": "kitchen.py", "line": 3}
    write(tmp_path / "data" / "corpus.jsonl", "\n".join(map(json.dumps, rows)))
    about = {"corpus": str(tmp_path / "data"), "texts": texts_fingerprint(TEXTS)}
    save_index(tmp_path / "index", Bm25Searcher(TEXTS), model="", **about)
    return tmp_path / "index"


def test_hits_are_lines_of_score_name_and_place(index):
    ask = of_index(index, count=2)
    score, *name = ask("apple").splitlines()[0].split()
    assert float(score) > 0
    assert name == ["d0", "apple", "pie"]
    assert ask("cake").splitlines()[0].split()[1:] == ["bake", "kitchen.py:3"]
    assert len(ask("apple plum pear").splitlines()) == 2


@pytest.mark.parametrize("end", ["", "  ", None])
def test_a_conversation_ends_with_an_empty_line_or_the_input(end, monkeypatch, capsys):
    typed = iter(["one", "two", end, "three"])

    def read(prompt):
        line = next(typed)
        if line is None:
            raise EOFError
        return line

    monkeypatch.setattr("builtins.input", read)
    converse(lambda query: f"found {query}")
    assert capsys.readouterr().out.splitlines()[1:] == ["found one", "found two"]


def test_a_changed_corpus_is_refused(index, tmp_path):
    write(tmp_path / "data" / "corpus.jsonl", json.dumps({"_id": "d0", "text": "other"}))
    with pytest.raises(UserError, match=r"changed since .*index was made; make it again"):
        of_index(index)
