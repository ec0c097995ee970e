"""mteb's own procedure on a gemb model: protocol, prompts, the verb, and the same scores as through
sentence-transformers. Its data is local, in mteb's own task classes."""

import json

import numpy as np
import pytest
from stub_encoder import StubEncoder
from task_folders import write

from gemb.cli.__main__ import run
from gemb.evaluation.mteb import MtebEncoder, local_tasks
from gemb.evaluation.mteb import run as mteb_run
from gemb.evaluation.tasks import read_tasks
from gemb.files import cache_dir

# Importing mteb and what it imports takes most of a minute.
pytestmark = [pytest.mark.extra("mteb"), pytest.mark.slow]


SUBJECTS = ("cat", "dog", "train", "guitar", "river", "oven", "lawyer", "planet")
VERBS = ("sleeps near", "runs past", "is older than", "belongs to")
PLACES = ("the old bridge", "a small kitchen", "my neighbour", "the city hall")


def _sentences():
    return [f"The {s} {v} {p}." for s in SUBJECTS for v in VERBS for p in PLACES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An STS, a retrieval, a classification, a pair, a clustering and a re-ranking task."""
    root, sentences = tmp_path_factory.mktemp("local"), _sentences()
    rng = np.random.default_rng(0)
    lines = ["sentence1\tsentence2\tscore"]
    for a, b in rng.integers(0, len(sentences), (40, 2)):
        words = [set(sentences[i].split()) for i in (a, b)]
        score = 5 * len(words[0] & words[1]) / len(words[0] | words[1])
        lines.append(f"{sentences[a]}\t{sentences[b]}\t{score:.3f}")
    write(root / "sts" / "similar.tsv", "\n".join(lines))
    lines = [lines[0].replace("score", "label")] + [
        line.rsplit("\t", 1)[0] + f"\t{int(float(line.rsplit(chr(9), 1)[1]) > 1.5)}"
        for line in lines[1:]
    ]
    write(root / "pairs" / "twins.tsv", "\n".join(lines))
    corpus = [{"_id": f"d{i}", "text": text} for i, text in enumerate(sentences)]
    write(root / "search" / "corpus.jsonl", "\n".join(map(json.dumps, corpus)))
    asked = rng.permutation(len(sentences))[:12]
    queries = [{"_id": f"q{i}", "text": f"which {sentences[i].split()[1]} {i}?"} for i in asked]
    write(root / "search" / "queries.jsonl", "\n".join(map(json.dumps, queries)))
    write(root / "search" / "qrels" / "test.tsv", "\n".join(f"q{i}\td{i}\t1" for i in asked))
    for split, step in (("train", 2), ("test", 5)):
        rows = [f"{text}\t{text.split()[1]}" for text in sentences[::step]]
        write(root / "classes" / f"{split}.tsv", "\n".join(["text\tlabel", *rows]))
    clusters = {"kind": "clustering", "name": "groups", "files": {"test": "../classes/test.tsv"}}
    write(root / "groups" / "task.json", clusters)
    ranked = [
        {"query": s, "positive": [f"A {s} here."], "negative": [f"The {o}." for o in SUBJECTS[:4]]}
        for s in SUBJECTS[4:]
    ]
    write(root / "ranked" / "order.jsonl", "\n".join(map(json.dumps, ranked)))
    return root


def _tasks(folder, *names):
    return local_tasks.local_tasks([t for t in read_tasks([folder]) if t.name in names])


def test_a_gemb_model_is_an_encoder_to_mteb():
    from mteb.models import CrossEncoderProtocol, EncoderProtocol, SearchProtocol

    model = MtebEncoder(StubEncoder(), "runs/my/model")
    assert isinstance(model, EncoderProtocol)
    assert not isinstance(model, SearchProtocol | CrossEncoderProtocol)
    meta = model.mteb_model_meta
    assert (meta.name, meta.embed_dim) == ("gemb/runs__my__model", 16)
    assert meta.revision == model.encoder.fingerprint


def test_mtebs_figures_are_those_of_the_vectors(folder):
    """Spearman's of the cosines by scipy, at each width, from the stub's own vectors."""
    import mteb
    from scipy.stats import spearmanr

    (task,) = read_tasks([folder / "sts"])
    encoder = StubEncoder(dim=16, widths=(16, 4))
    found = mteb.evaluate(MtebEncoder(encoder), local_tasks.local_tasks([task]), cache=None)
    results = mteb_run.evaluate_mteb(encoder, local_tasks.local_tasks([task]), cache=folder / "c")
    assert list(results["similar"]) == ["16", "4"]
    for width, figures in results["similar"].items():
        sides = [
            encoder.encode(task.data[side], kind="document")[:, : int(width)]
            for side in ("first", "second")
        ]
        sides = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides]
        expected = spearmanr((sides[0] * sides[1]).sum(axis=1), task.data["scores"]).statistic
        assert next(iter(figures)) == "cosine_spearman"
        assert figures["cosine_spearman"] == pytest.approx(expected, abs=1e-6)
    (one,) = found.task_results
    assert one.get_score() == pytest.approx(results["similar"]["16"]["cosine_spearman"])


def test_each_text_is_encoded_once_for_all_widths_and_then_read(folder, tmp_path):
    encoder = StubEncoder()
    tasks = _tasks(folder, "search")
    first = mteb_run.evaluate_mteb(encoder, tasks, cache=tmp_path)
    assert len(encoder.encoded) == len(set(encoder.encoded)) > 0
    assert {kind for kind, _ in encoder.encoded} == {"query", "document"}
    assert 0 < first["search"]["8"]["ndcg_at_10"] <= 1
    again = StubEncoder()
    assert mteb_run.evaluate_mteb(again, tasks, cache=tmp_path) == first
    assert again.encoded == []
    mteb_run.evaluate_mteb(again, tasks, cache=tmp_path, force=True)
    assert again.encoded
    other = StubEncoder()
    mteb_run.evaluate_mteb(other, tasks, cache=tmp_path, prompts={"query": "ask "})
    assert other.encoded, "the prompts are part of what was measured"


@pytest.mark.parametrize(
    ("prompts", "side", "kind", "expected"),
    [
        ({}, None, "STS", ""),  # neither query nor document: no prompt, as sentence-transformers
        ({}, "query", "Retrieval", "own query: "),
        ({"query": "q "}, "query", "Retrieval", "q "),
        ({"query": "q "}, "document", "Retrieval", "own document: "),
        ({"STS": "s ", "query": "q "}, None, "STS", "s "),
        ({"Retrieval-query": "r ", "query": "q "}, "query", "Retrieval", "r "),
        ({"t": "t ", "Retrieval-query": "r "}, "query", "Retrieval", "t "),
        ({"t-query": "tq ", "t": "t "}, "query", "Retrieval", "tq "),
        ({"query": ""}, "query", "Retrieval", ""),
    ],
)
def test_prompts_by_task_and_type(prompts, side, kind, expected):
    from types import SimpleNamespace

    from mteb.types import PromptType
    from stub_encoder import Spec, StubModel

    seen = []

    class Recording(StubEncoder):
        def encode(self, texts, *, kind, progress=""):
            seen.extend(getattr(self.spec, f"{kind}_prompt") + text for text in texts)
            return super().encode(texts, kind=kind)

    encoder = Recording(StubModel(Spec("own query: ", "own document: "), 0, 16))
    about = SimpleNamespace(name="t", type=kind, modalities=["text"])
    MtebEncoder(encoder, prompts=prompts).encode(
        [{"text": ["a"]}, {"text": ["b"]}], task_metadata=about, hf_split="test",
        hf_subset="default", prompt_type=side and PromptType(side), batch_size=1,
    )  # fmt: skip
    assert seen == [f"{expected}a", f"{expected}b"]


def test_prompts_of_a_tasks_folder_reach_mteb(tmp_path):
    told = {"kind": "sts", "files": {"test": "a.tsv"}, "prompts": {"document": "say "}}
    write(tmp_path / "t" / "a.tsv", "sentence1\tsentence2\tscore\na\tb\t1\nc\td\t2\n")
    write(tmp_path / "t" / "task.json", told)
    assert local_tasks.task_prompts(read_tasks([tmp_path / "t"])) == {
        "t-document": "say ", "t": "say "
    }  # fmt: skip


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    from gemb.inference.embedder import Embedder

    monkeypatch.setattr(Embedder, "load", staticmethod(lambda place: StubEncoder(seed=len(place))))
    monkeypatch.setenv("GEMB_CACHE", str(tmp_path / "gemb"))

    def call(*arguments):
        with pytest.raises(SystemExit) as left:
            run("evaluate", list(arguments))
        return left.value.code, capsys.readouterr()

    return call


def test_the_verb_runs_mteb(call, folder, tmp_path):
    import mteb

    prompts = write(tmp_path / "prompts.json", {"STS": "say "})
    status, said = call(
        "--model=x/a,x/bb", f"--mteb={folder / 'sts'},{folder / 'pairs'}", f"--output={tmp_path}",
        f"--mteb_prompts={prompts}", "--widths=16,8",
    )  # fmt: skip
    assert status == 0, said.err
    tree = json.loads((tmp_path / "results.json").read_text())
    assert set(tree["results"]) == {"similar", "twins"}
    assert set(tree["results"]["twins"]["a"]) == {"16", "8"}
    assert tree["tasks"]["similar"]["kind"] == "STS"
    assert tree["mteb"] == mteb.__version__
    assert "similar cosine_spearman" in said.out
    assert "max_ap" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--mteb=STSBenchmrak",), "has no task 'STSBenchmrak'. Did you mean STSBenchmark"),
        (("--mteb=STS12", "--tasks=x"), "--tasks is measured by gemb, --mteb by mteb"),
        (("--mteb=STS12", "--mteb_prompts=no.json"), "no.json: cannot be read as JSON"),
        (("--mteb={}", "--widths=99"), "--widths: a has vectors of 16, not of 99"),
    ],
)
def test_mistakes_end_in_one_line(call, folder, arguments, message):
    status, said = call("--model=a", *(one.format(folder / "sts") for one in arguments))
    assert status == 2
    assert message in said.err
    assert "Traceback" not in said.err


def _minilm():
    return cache_dir() / "models" / "all-MiniLM-L6-v2"


@pytest.mark.peers
@pytest.mark.skipif(not _minilm().exists(), reason="all-MiniLM-L6-v2 has not been fetched")
def test_scores_equal_those_through_sentence_transformers(folder, tmp_path):
    import mteb

    SentenceTransformer = pytest.importorskip("sentence_transformers").SentenceTransformer
    from gemb import Embedder

    names = ("similar", "search", "classes", "twins", "groups", "order")
    reference = mteb.evaluate(
        SentenceTransformer(str(_minilm()), device="cpu"), _tasks(folder, *names), cache=None
    )
    ours = mteb.evaluate(MtebEncoder(Embedder.load(_minilm())), _tasks(folder, *names), cache=None)
    mains = {}
    for there, here in zip(reference.task_results, ours.task_results, strict=True):
        (expected,), (found,) = there.scores["test"], here.scores["test"]
        assert there.task_name == here.task_name
        mains[there.task_name] = expected["main_score"]
        for name, value in expected.items():
            if isinstance(value, float) and np.isfinite(value):
                assert found[name] == pytest.approx(value, abs=1e-4), (there.task_name, name)
    assert set(mains) == set(names)
    assert len(set(mains.values())) > 3, "the tasks tell something"
