"""Models over tasks: each text once, the cache, comparisons and the report."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from stub_encoder import StubEncoder
from task_folders import STS, house, write

from gemb import checks
from gemb.evaluation import comparison, suite
from gemb.evaluation.mteb import MtebEncoder
from gemb.evaluation.mteb.run import get_tasks, whole_names
from gemb.evaluation.tasks import read_tasks, sts
from gemb.inference.encoded_once import EncodedOnce, with_prompts
from gemb.reports import write_suite_page
from gemb.reports.terminal import tasks_table

pytestmark = pytest.mark.extra("eval")  # tasks of all kinds

WORDS = [f"word{i}" for i in range(40)]


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(comparison, "_DRAWS", 300)
    monkeypatch.setattr(comparison, "_COSTLY_DRAWS", 300)


@pytest.fixture
def tasks(tmp_path):
    return read_tasks([house(tmp_path / "house")])


def _graded(folder, pairs=60):
    """An STS task whose score is the share of words that two texts have in common."""
    rng, lines = np.random.default_rng(0), ["sentence1\tsentence2\tscore"]
    for _ in range(pairs):
        first, kept = rng.choice(WORDS, 6, replace=False), rng.integers(0, 7)
        second = [*first[:kept], *rng.choice(WORDS, 6 - kept)]
        lines.append(f"{' '.join(first)}\t{' '.join(second)}\t{len({*first} & {*second})}")
    (task,) = read_tasks([write(folder / "graded.tsv", "\n".join(lines)).parent])
    return task


def test_every_task_at_every_width_each_text_once(tasks, tmp_path):
    encoder = StubEncoder()
    results = suite.evaluate_model(encoder, tasks, cache=tmp_path / "cache")
    assert len(encoder.encoded) == len(set(encoder.encoded)), "a text was encoded twice"
    for task in tasks:
        widths = results.tasks[task.name]
        assert list(widths) == [16, 8]
        assert widths[16].figures.keys() == widths[8].figures.keys()
        for measured in widths.values():
            assert task.main in measured.figures
            assert all(np.isfinite(value) for value in measured.figures.values())
    asked = {text for kind, text in encoder.encoded if kind == "query"}
    assert asked == {"query 0", "query 2", "q"}


def test_the_second_run_reads_and_new_widths_keep_the_old(tasks, tmp_path):
    def evaluate(encoder, **more):
        return suite.evaluate_model(encoder, tasks, cache=tmp_path / "cache", **more)

    first = evaluate(StubEncoder())
    again = StubEncoder()
    second = evaluate(again)
    assert again.encoded == []
    assert set(second.seconds.values()) == {0.0}
    trees = [suite.summary(tasks, {"m": one}, tmp_path / "cache") for one in (first, second)]
    assert trees[0]["results"] == trees[1]["results"]
    for task in tasks:
        items = [one.tasks[task.name][8].items[task.main] for one in (first, second)]
        np.testing.assert_array_equal(*items)
    wider = StubEncoder()
    evaluate(wider, widths=[4])
    assert wider.encoded
    both = StubEncoder()
    assert list(evaluate(both, widths=[4, 16]).tasks["r"]) == [16, 4]
    assert both.encoded == []
    for other in (StubEncoder(seed=1), StubEncoder()):
        evaluate(other, force=not other.model.seed)
        assert other.encoded, "another model, or --force"


def test_a_broken_cache_file_is_replaced(tasks, tmp_path):
    cache = tmp_path / "cache"
    first = suite.evaluate_model(StubEncoder(), tasks, cache=cache)
    for i, path in enumerate(sorted(cache.iterdir())):
        path.write_bytes(path.read_bytes()[: 100 * i])
    again = StubEncoder()
    second = suite.evaluate_model(again, tasks, cache=cache)
    assert again.encoded
    for name, widths in first.tasks.items():
        assert {w: m.figures for w, m in widths.items()} == {
            w: m.figures for w, m in second.tasks[name].items()
        }


def test_prompts_of_a_task_replace_the_models(tmp_path):
    encoder = StubEncoder()
    assert with_prompts(encoder, {}) is encoder
    prompted = with_prompts(encoder, {"query": "ask "})
    assert prompted.fingerprint != encoder.fingerprint
    EncodedOnce(prompted).vectors(["a", "b", "a"], "query")
    assert prompted.encoded == [("query", "ask a"), ("query", "ask b")]
    assert (prompted.spec.query_prompt, prompted.spec.document_prompt) == ("ask ", "")


def test_averages_are_of_tasks_and_of_kinds(tasks, tmp_path):
    results = suite.evaluate_model(StubEncoder(), tasks, cache=tmp_path / "cache")
    tree = suite.summary(tasks, {"m": results}, tmp_path / "cache")
    mains = {t.name: results.tasks[t.name][8].figures[t.main] for t in tasks}
    assert tree["averages"]["m"]["8"]["tasks"] == pytest.approx(np.mean(list(mains.values())))
    bitexts = np.mean([mains["t"], mains["plain"]])
    rest = [value for name, value in mains.items() if name not in ("t", "plain")]
    assert tree["averages"]["m"]["8"]["kinds"] == pytest.approx(np.mean([bitexts, *rest]))
    assert tree["comparisons"] == []
    assert {name: task["items"] for name, task in tree["tasks"].items()} == {
        "beir": 2, "en_test": 2, "groups": 3, "intents": 3, "plain": 2, "r": 1, "t": 2, "twins": 2
    }  # fmt: skip
    assert json.loads(json.dumps(tree, allow_nan=False)) == tree


@pytest.mark.long
def test_a_difference_is_called_one_only_where_it_is(tmp_path):
    task, cache = _graded(tmp_path / "graded"), tmp_path / "cache"
    encoders = {
        "good": StubEncoder(dim=64),
        "twin": StubEncoder(dim=64, seed=9),
        "bad": StubEncoder(dim=64, noise=6.0),
        "narrow": StubEncoder(dim=32),
    }
    models = {
        name: suite.evaluate_model(encoder, [task], cache=cache, widths=encoder.widths)
        for name, encoder in encoders.items()
    }
    tree = suite.summary([task], models, cache)
    rows = {(*row["models"], *row["widths"]): row for row in tree["comparisons"]}
    assert ("good", "narrow", 64, 32) in rows, "each at its full width"
    assert ("good", "narrow", 32, 32) in rows
    assert ("good", "narrow", 64, 64) not in rows
    worse, same = rows["good", "bad", 64, 64], rows["good", "twin", 64, 64]
    figures = {name: tree["results"]["graded"][name]["64"]["spearman"] for name in ("good", "bad")}
    assert worse["difference"] == pytest.approx(figures["bad"] - figures["good"])
    assert worse["high"] < 0
    assert worse["different"]
    assert max(worse["p_bootstrap"], worse["p_randomisation"]) < 0.05
    assert not same["different"]
    assert suite.summary([task], models, cache)["comparisons"] == tree["comparisons"]


def test_the_spread_of_a_models_cosines_does_not_matter(tmp_path):
    """All cosines of the second model are squeezed into a small part of the first one's range."""
    task = _graded(tmp_path / "graded")
    cosines = np.random.default_rng(3).uniform(-1, 1, 60)
    measure = sts.TASK_TYPE.measure

    def measured(values):
        first = np.stack([np.ones(60), np.zeros(60)], 1)
        second = np.stack([values, np.sqrt(1 - values**2)], 1)
        return measure({"first": first, "second": second}, task.data)

    wide, narrow = measured(cosines), measured(0.9 + cosines / 100)
    assert narrow.figures == pytest.approx(wide.figures)
    for metric in sts.TASK_TYPE.mains:
        np.testing.assert_allclose(wide.items[metric], narrow.items[metric], atol=1e-9)


def test_every_kind_can_be_compared(tasks, tmp_path):
    models = {
        str(seed): suite.evaluate_model(StubEncoder(seed=seed), tasks, cache=tmp_path / "cache")
        for seed in (0, 1)
    }
    rows = suite.summary(tasks, models, tmp_path / "cache")["comparisons"]
    assert {row["task"] for row in rows} == {task.name for task in tasks}
    for row in rows:
        one, other = (models[name].tasks[row["task"]][row["widths"][0]] for name in "01")
        main = next(task.main for task in tasks if task.name == row["task"])
        assert row["difference"] == pytest.approx(other.figures[main] - one.figures[main], abs=1e-6)
        assert (row["p_randomisation"] is None) == (row["task"] == "groups")


def test_bad_widths_and_zero_vectors_are_told(tasks, tmp_path, monkeypatch):
    with pytest.raises(checks.UserError, match="--widths: m has vectors of 16, not of 17"):
        suite.evaluate_model(StubEncoder(), tasks, widths=[17], cache=tmp_path, label="m")
    write(tmp_path / "e" / "empty.tsv", STS + "\tb\t1\n")
    empty = read_tasks([tmp_path / "e"])
    results = suite.evaluate_model(StubEncoder(), empty, cache=tmp_path, label="m")
    assert results.tasks["empty"][16].details == {"without_direction": {"first": 1}}
    assert "empty, m: 1 texts have no direction" in tasks_table(
        suite.summary(empty, {"m": results})
    )
    monkeypatch.setattr(StubEncoder, "_vector", lambda self, text: np.zeros(self.dim))
    with pytest.raises(checks.UserError, match="m on empty: first: every row is zero in its first"):
        suite.evaluate_model(StubEncoder(seed=1), empty, cache=tmp_path, label="m")


def test_the_report_shows_tasks_models_and_differences(tasks, tmp_path):
    models = {
        name: suite.evaluate_model(StubEncoder(seed=len(name)), tasks, cache=tmp_path / "cache")
        for name in ("one", "<other>")
    }
    tree = suite.summary(tasks, models, tmp_path / "cache")
    write_suite_page(tmp_path / "out" / "report.html", tree)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<svg") == 3 + len(tasks)  # means by width, by size; calibration
    for text in (
        "beir",
        "ndcg@10",
        "&lt;other&gt;",
        "Significant differences",
        "mean of task types",
    ):
        assert text in page
    assert "<other>" not in page
    assert "<script" not in page
    figure = tree["results"]["beir"]["one"]["16"]["ndcg@10"]
    assert f"{figure:.3f}" in page


def test_prompts_of_two_towers_go_to_the_tower_of_their_side(tmp_path):
    from gemb.models.model import two_towers
    from gemb.models.scratch import from_scratch
    from gemb.processors.text import of_bytes

    query, document = (from_scratch(of_bytes(), layers=layers) for layers in (1, 2))
    towers = two_towers(query, document)
    made = towers.with_prompts({"query": "ask ", "document": "say "})
    assert made.query.processor.prompt("query") == "ask "
    assert made.document.processor.prompt("document") == "say "
    assert [tower.spec.encoder.stack.layers for tower in (made.query, made.document)] == [1, 2]
    assert towers.with_prompts({"query": ""}) == towers, "nothing changes"
    shared = two_towers(query, query).with_prompts({"query": "ask "})
    assert shared.query.processor.prompt("query") == "ask "
    assert shared.query is shared.document, "one model stays one"


def test_mteb_asks_for_texts_by_their_side():
    """The adapter by itself: mteb's library comes in with its tasks only."""
    encoder, about = StubEncoder(), SimpleNamespace(name="t", type="STS", modalities=["text"])
    model, where = MtebEncoder(encoder, width=4), {"hf_split": "test", "hf_subset": "default"}
    batches = [{"text": ["a", "b"]}, {"text": ["a"]}]
    vectors = model.encode(batches, task_metadata=about, prompt_type="query", **where)
    assert encoder.encoded == [("query", "a"), ("query", "b"), ("query", "a")]
    whole = encoder.encode(["a", "b", "a"], kind="query")[:, :4]
    expected = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, expected, rtol=1e-6)
    about.modalities = ["image"]
    with pytest.raises(checks.UserError, match="t: a task of image; gemb's models read text"):
        model.encode(batches, task_metadata=about, **where)


def test_a_query_that_is_a_document_does_not_find_itself(tmp_path):
    texts = ["one two three", "one two four", "five six"]
    rows = [json.dumps({"_id": f"a{i}", "text": text}) for i, text in enumerate(texts)]
    write(tmp_path / "beir" / "corpus.jsonl", "\n".join(rows))
    write(tmp_path / "beir" / "queries.jsonl", "\n".join(rows[::2]))
    write(tmp_path / "beir" / "qrels" / "test.tsv", "a0\ta1\t1\na2\ta2\t1\n")
    [task] = read_tasks([tmp_path])
    result = suite.evaluate_model(StubEncoder(), [task], cache=tmp_path / "cache")
    # a0's nearest is itself and does not count; a2 is judged to be its own answer
    assert result.tasks[task.name][16].figures["ndcg@10"] == 1.0


def test_names_of_benchmarks_may_hold_a_comma():
    assert whole_names(["MTEB(eng", "v2)", "STS12", "MTEB(Multilingual", "v1)"]) == [
        "MTEB(eng, v2)", "STS12", "MTEB(Multilingual, v1)",
    ]  # fmt: skip


def test_without_mteb_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(checks.UserError, match=r"pip install 'gemb\[mteb\]'"):
        get_tasks(["STS12"])
