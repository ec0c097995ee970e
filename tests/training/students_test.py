"""Students computed out of teachers: principal axes, a fitted layer, a table of token vectors."""

import collections
import dataclasses
import json

import numpy as np
import pytest
from tiny_models import redrawn, tiny, with_tower

from gemb.checks import UserError
from gemb.data.sources.reading import files
from gemb.inference.embedder import Embedder
from gemb.models.model import Model
from gemb.models.spec import DenseSpec
from gemb.pretrained import saving
from gemb.training.distillation import students

TEXTS = [f"{word}{i}" for word in ("red ", "green ", "blue ") for i in range(8)]


@pytest.fixture(scope="module")
def teacher():
    return tiny(3)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return written(tmp_path_factory.mktemp("texts") / "texts.jsonl", TEXTS)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("GEMB_CACHE", str(tmp_path / "cache"))


def written(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return files(path)


def reloaded(student, folder):
    saving.save(student, folder)
    return Embedder.load(folder)


@pytest.mark.long
@pytest.mark.parametrize(
    ("own", "layers"), [((), 1), ((DenseSpec(16, 12),), 1), ((DenseSpec(16, 12, "tanh"),), 2)]
)
def test_a_reduced_model_keeps_the_leading_axes(teacher, records, tmp_path, own, layers):
    teacher = redrawn(with_tower(teacher, dense=own, widths=()), 6)
    biases = set(teacher.params) & {"dense/layers/0/bias"}
    changed = dict.fromkeys(biases, np.linspace(-1, 1, 12, dtype=np.float32))
    teacher = teacher.with_params(teacher.params | changed)
    student = students.reduced(teacher, 4, records=records, columns=("text",), widths=(4, 2))
    rows = np.float64(Embedder(teacher).encode(TEXTS))
    for width in (4, 2):
        _, vectors = np.linalg.eigh(rows.T @ rows)  # ascending: the last are the largest
        kept = rows @ vectors[:, -width:]
        kept /= np.linalg.norm(kept, axis=1, keepdims=True)
        found = reloaded(student, tmp_path / str(width)).encode(TEXTS, dim=width)
        np.testing.assert_allclose(found @ found.T, kept @ kept.T, atol=1e-4)
    assert student.spec.widths == (4, 2)
    assert len(student.document.spec.dense) == layers  # two linear layers become one
    halves = [written(tmp_path / f"{half}.jsonl", TEXTS[half::2]) for half in range(2)]
    both = students.reduced(teacher, 4, records=halves, columns=("text",))
    found = reloaded(both, tmp_path / "both").encode(TEXTS, dim=4)
    expected = reloaded(student, tmp_path / "4").encode(TEXTS, dim=4)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=1e-4)


def test_what_is_computed_of_a_model_is_computed_once(teacher, records, monkeypatch):
    kernel, table = "dense/layers/0/kernel", "text/token/table"
    arguments = {"records": records, "columns": ("text",)}
    first = students.reduced(teacher, 4, **arguments).params[kernel]
    tokens = students.static(teacher, **arguments).params[table]
    monkeypatch.setattr(students, "Embedder", None)
    monkeypatch.setattr(students, "encode_examples", None)
    np.testing.assert_array_equal(students.reduced(teacher, 4, **arguments).params[kernel], first)
    np.testing.assert_array_equal(
        students.reduced(teacher, 2, **arguments).params[kernel], first[:, :2]
    )
    np.testing.assert_array_equal(students.static(teacher, **arguments).params[table], tokens)
    changed = teacher.params[table] + np.float32(1e-6)
    changed = teacher.with_params(teacher.params | {table: changed})
    with pytest.raises(TypeError):
        students.reduced(changed, 4, **arguments)


def test_what_cannot_be_reduced(teacher, records):
    with pytest.raises(UserError, match="dim: expected 1 to 16, got 17"):
        students.reduced(teacher, 17, records=records, columns=("text",))
    with pytest.raises(UserError, match="2 texts are too few to fit 4 coordinates"):
        students.reduced(teacher, 4, records=records, columns=("text",), sample=2)


@pytest.mark.long
def test_a_fitted_layer_brings_a_model_near_its_teachers(teacher, records, tmp_path):
    """Held against scikit-learn's ridge regression; reduced to its own width it stays as it is."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    model = redrawn(teacher, 4)
    student = students.fitted(
        model, [teacher, redrawn(teacher, 5)], weights=(1.0, 2.0), records=records,
        columns=("text",), ridge=1e-3,
    )  # fmt: skip
    assert student.spec.dim == 32
    rows = [np.float64(Embedder(redrawn(teacher, seed)).encode(TEXTS)) for seed in (4, 3, 5)]
    goal = np.concatenate([rows[1], 2 * rows[2]], 1) / 5**0.5
    ridge = linear_model.Ridge(alpha=1e-3 * len(TEXTS), fit_intercept=False).fit(rows[0], goal)
    expected = ridge.predict(rows[0])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = reloaded(student, tmp_path / "fitted").encode(TEXTS)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    narrow = students.reduced(student, 16, records=records, columns=("text",))
    narrow = reloaded(narrow, tmp_path / "narrow").encode(TEXTS)
    assert narrow.shape == (len(TEXTS), 16)
    np.testing.assert_allclose(narrow @ narrow.T, found @ found.T, atol=1e-4)


def test_a_layer_is_fitted_to_what_teachers_say_of_queries(teacher, tmp_path):
    linear_model = pytest.importorskip("sklearn.linear_model")
    asked = redrawn(teacher, 5).with_prompts({"query": "ask: "})
    path = tmp_path / "pairs.jsonl"
    pairs = [{"query": text, "document": text[::-1]} for text in TEXTS]
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    student = students.fitted(teacher, [asked], records=files(path), ridge=1e-3)
    kinds = {"query": TEXTS, "document": [text[::-1] for text in TEXTS]}
    rows, goal = (
        np.concatenate([np.float64(embedder.encode(kinds[kind], kind=kind)) for kind in kinds])
        for embedder in (Embedder(teacher), Embedder(asked))
    )
    ridge = linear_model.Ridge(alpha=1e-3 * len(rows), fit_intercept=False).fit(rows, goal)
    found = student.params["dense/layers/0/kernel"]
    np.testing.assert_allclose(found, ridge.coef_.T, atol=1e-4)
    alike = Embedder(asked).encode(TEXTS)
    assert np.abs(goal[: len(TEXTS)] - alike).max() > 0.01  # the prompt matters


@pytest.mark.long
def test_what_cannot_be_fitted(teacher, records):
    def fitted(**changed):
        options = {"records": records, "columns": ("text",)} | changed
        return students.fitted(teacher, [redrawn(teacher, 4)], **options)

    with pytest.raises(UserError, match="2 texts are too few to fit 16 coordinates"):
        fitted(sample=2)
    with pytest.raises(UserError, match="columns: a record has no 'txet'; its columns are text"):
        fitted(columns=("txet",))
    with pytest.raises(UserError, match="ridge: expected a number above 0, got 0"):
        fitted(ridge=0)
    with pytest.raises(UserError, match="weights: expected one above zero for each of 1 teachers"):
        fitted(weights=(1.0, 2.0))


def test_a_static_model_is_a_weighted_mean_of_token_vectors(teacher, records, tmp_path):
    student = students.static(teacher, records=records, columns=("text",), smoothing=0.1)
    counts = collections.Counter("".join(TEXTS))
    total = sum(counts.values())
    letters = "re7d"
    alone = np.float64(Embedder(teacher).encode(list(letters)))
    weights = [0.1 / (0.1 + counts[letter] / total) for letter in letters]
    assert max(weights) > 1.2 * min(weights)  # some letters are more frequent than others
    expected = np.array(weights) @ alone
    expected /= np.linalg.norm(expected)
    found = reloaded(student, tmp_path / "static")
    assert not found.spec.encoder.stack.layers
    np.testing.assert_allclose(found.encode(letters), expected, atol=1e-5)
    np.testing.assert_allclose(found.encode("der7"), expected, atol=1e-5)  # a bag of tokens


def test_a_tokenizer_that_pads_gives_the_same_table(teacher, records):
    """As all-MiniLM-L6-v2's does: every text to 128 tokens."""
    padding = {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": None}
    padding |= {"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}
    processor = teacher.document.processor
    content = json.loads(processor.tokenizer_json) | {"padding": padding}
    processor = dataclasses.replace(processor, tokenizer_json=json.dumps(content))
    padded = Model.of(dataclasses.replace(teacher.document, processor=processor))
    tables = [
        students.static(one, records=records, columns=("text",)).params["text/token/table"]
        for one in (teacher, padded)
    ]
    np.testing.assert_array_equal(*tables)
