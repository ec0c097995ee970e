"""Classifiers: exits as adaptive.classify decides, figures from numpy, the folder."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gemb.analysis import adaptive
from gemb.analysis.classifier import (
    Classifier,
    evaluate_classifier,
    held_out,
    train_classifier,
)
from gemb.checks import UserError


def _texts(count, seed, dim=24, classes=5):
    """Vectors around class centres in turned coordinates, and names of the classes."""
    fixed = np.random.default_rng(9)
    turn = np.linalg.qr(fixed.normal(size=(dim, dim)))[0]
    centres = fixed.normal(size=(classes, dim)) * 0.85 ** np.arange(dim)
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    rows = centres[labels] + rng.normal(size=(count, dim)) * 0.5 * 0.85 ** np.arange(dim)
    rows = rows @ turn
    vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return vectors, [f"class {label}" for label in labels]


@pytest.fixture(scope="module")
def made():
    names = {"model": "a" * 64, "encoder": "some/model"}
    return train_classifier(*_texts(700, 0), widths=[3, 6, 12], **names)


def test_early_exit_computes_what_all_heads_decide(made):
    vectors, _ = _texts(400, 1)
    assert made.widths == [3, 6, 12, 24]
    by_width = adaptive.probabilities(made.heads, made.turned(vectors))
    expected, widths = adaptive.classify(by_width, made.thresholds)
    decided = made.decide(vectors)
    assert len(set(widths)) > 1
    np.testing.assert_array_equal(decided.classes, expected)
    np.testing.assert_array_equal(decided.widths, widths)
    at = [by_width[width][row] for row, width in enumerate(widths)]
    np.testing.assert_allclose(decided.probabilities, at, atol=1e-6)
    np.testing.assert_allclose(decided.probabilities.sum(axis=1), 1, atol=1e-5)


def test_figures_are_those_of_plain_arithmetic(made):
    vectors, labels = _texts(600, 2)
    labels[:7] = ["another"] * 7
    tree = evaluate_classifier(made, vectors, labels)
    decided = made.decide(vectors)
    said = [made.labels[row] for row in decided.classes]
    right = np.array(said) == np.array(labels)
    assert tree["unknown_labels"] == 7
    assert tree["accuracy"]["value"] == pytest.approx(right.mean())
    error = 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / len(right))
    assert tree["accuracy"]["high"] - tree["accuracy"]["low"] == pytest.approx(2 * error, rel=0.15)
    assert tree["macro_f1"]["low"] < tree["macro_f1"]["value"] < tree["macro_f1"]["high"]
    assert sum(row["share"] for row in tree["widths"]) == pytest.approx(1)
    assert tree["early"] == pytest.approx(1 - tree["widths"][-1]["share"])
    assert 0 < tree["early"] < 1
    there = sum(row["share"] * (row["accuracy_there"] or 0) for row in tree["widths"])
    assert there == pytest.approx(right.mean())
    assert tree["widths"][0]["accuracy"]["value"] < tree["full"]["accuracy"]["value"]
    gap = tree["full"]["accuracy"]["value"] - right.mean()
    assert tree["loss"]["value"] == pytest.approx(gap)
    assert tree["mean_width"] == pytest.approx(decided.widths.mean())
    tried = [sum(w for w in made.widths if w <= used) for used in decided.widths]
    assert tree["computed_width"] == pytest.approx(np.mean(tried))


@pytest.mark.peers
def test_macro_f1_is_scikit_learns(made):
    metrics = pytest.importorskip("sklearn.metrics")
    vectors, labels = _texts(300, 3)
    said = [made.labels[row] for row in made.decide(vectors).classes]
    expected = metrics.f1_score(labels, said, average="macro")
    assert evaluate_classifier(made, vectors, labels)["macro_f1"]["value"] == pytest.approx(
        expected
    )


def test_turning_helps_a_model_that_is_not_nested(made):
    vectors, labels = _texts(600, 2)
    names = {"model": "a" * 64, "encoder": "some/model"}
    plain = train_classifier(*_texts(700, 0), widths=[3, 6, 12], nested=True, **names)
    assert plain.axes is None
    narrow = [
        evaluate_classifier(each, vectors, labels)["widths"][0]["accuracy"]["value"]
        for each in (made, plain)
    ]
    assert narrow[0] > narrow[1] + 0.05


def test_a_fifth_of_each_class_is_held_out():
    labels = np.repeat([0, 1, 2], [50, 11, 4])
    held = held_out(labels)
    assert [int(held[labels == each].sum()) for each in range(3)] == [10, 2, 0]
    assert not np.array_equal(held, held_out(labels, seed=1))


def test_the_folder_gives_the_same_decisions(made, tmp_path):
    made.save(tmp_path / "kept")
    again = Classifier.load(tmp_path / "kept")
    vectors, _ = _texts(100, 4)
    for mine, its in zip(made.decide(vectors), again.decide(vectors), strict=True):
        np.testing.assert_array_equal(mine, its)
    assert (again.labels, again.thresholds) == (made.labels, made.thresholds)
    again.check_model("a" * 64)
    with pytest.raises(UserError, match=f"this model has {'b' * 64}; train the classifier again"):
        again.check_model("b" * 64)


def test_broken_folders_are_one_line(made, tmp_path):
    with pytest.raises(UserError, match="make it with `gemb classify train"):
        Classifier.load(tmp_path)
    made.save(tmp_path / "kept")
    file = tmp_path / "kept" / "heads.safetensors"
    tensors = load_file(file)
    tensors["3/bias"] = np.full(5, np.nan, np.float32)
    save_file(tensors, file)
    with pytest.raises(UserError, match="head of width 3 has numbers that are not finite"):
        Classifier.load(tmp_path / "kept")
    del tensors["3/bias"]
    save_file(tensors, file)
    with pytest.raises(UserError, match="damaged"):
        Classifier.load(tmp_path / "kept")
    manifest = tmp_path / "kept" / "classifier.json"
    tree = json.loads(manifest.read_text()) | {"version": 9}
    manifest.write_text(json.dumps(tree))
    with pytest.raises(UserError, match="of format version 9"):
        Classifier.load(tmp_path / "kept")


def test_mistakes_are_named():
    names = {"model": "a", "encoder": "m"}
    rows = np.eye(6, dtype=np.float32)
    with pytest.raises(UserError, match="expected two labels or more, got 1"):
        train_classifier(rows, ["a"] * 6, **names)
    with pytest.raises(UserError, match="no label has 5 texts"):
        train_classifier(rows, list("aabbcc"), **names)
    with pytest.raises(UserError, match="validation: no text of training has the label 'z'"):
        train_classifier(rows, list("aabbcc"), validation=(rows[:1], ["z"]), **names)
