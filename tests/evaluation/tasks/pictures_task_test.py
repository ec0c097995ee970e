"""Tasks of pictures: recall both ways against a plain loop, classes, languages."""

import numpy as np
import pytest
from picture_folders import captioned_folder

from gemb.checks import UserError
from gemb.evaluation.suite import evaluate_model, summary
from gemb.evaluation.tasks import read_tasks
from gemb.evaluation.tasks.pictures import evaluate_picture_classes, evaluate_pictures
from gemb.inference.embedder import Embedder
from gemb.models.scratch import of_pictures
from gemb.processors.text import of_bytes
from gemb.reports.suite_page import write_suite_page

WAYS = ("text_to_image", "image_to_text")


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_recall_against_a_plain_loop():
    random = np.random.default_rng(0)
    captions, pictures = unit(random.normal(size=(40, 6))), unit(random.normal(size=(30, 6)))
    positives = random.random((40, 30)) < 0.1
    positives[np.arange(40), random.integers(0, 30, 40)] = True
    positives[random.integers(0, 40, 30), np.arange(30)] = True
    found = evaluate_pictures(captions, pictures, positives)
    for name, queries, documents, right in (
        ("text_to_image", captions, pictures, positives),
        ("image_to_text", pictures, captions, positives.T),
    ):
        for cut in (1, 5, 10):
            hits = [
                any(
                    right[row, place]
                    for place in np.argsort(-(documents @ query), kind="stable")[:cut]
                )
                for row, query in enumerate(queries)
            ]
            assert found[f"{name}_recall@{cut}"] == pytest.approx(np.mean(hits))
    gap = np.linalg.norm(captions.mean(0) - pictures.mean(0))
    assert found["modality_gap"] == pytest.approx(gap)


def test_equal_scores_do_not_count_as_found():
    same = np.ones((12, 2), np.float32)
    found = evaluate_pictures(same, same, np.eye(12, dtype=bool))
    assert found["text_to_image_recall@1"] == pytest.approx(1 / 12)
    assert found["text_to_image_recall@10"] == pytest.approx(10 / 12)


def test_a_caption_of_many_pictures_counts_once():
    """Seven pictures, six of the same caption: the seventh's own caption is the second of two."""
    captions = unit(np.array([[1.0, 0.0]] * 6 + [[0.8, 0.6]]))
    pictures = unit(np.array([[1.0, 0.0]] * 7))
    texts = ["cat"] * 6 + ["dog"]
    positives = np.array([[text == other for other in texts] for text in texts])
    found = evaluate_pictures(captions, pictures, positives, texts)
    assert found["image_to_text_recall@1"] == pytest.approx(6 / 7)
    assert found["image_to_text_recall@5"] == 1.0


def test_nearest_classes():
    classes = np.array([[2.0, 0.0], [0.0, 1.0]], np.float32)
    pictures = unit(np.array([[1.0, 0.2], [0.9, 1.0], [0.1, 1.0]]))
    assert evaluate_picture_classes(pictures, np.array([0, 0, 1]), classes).tolist() == [1, 0, 1]


@pytest.mark.long
@pytest.mark.extra("images")
def test_tasks_of_a_folder_at_every_width(tmp_path):
    folder = captioned_folder(tmp_path / "pictures", copies=2)
    plain = read_tasks([folder])
    assert [(task.kind, task.main) for task in plain] == [("pictures", "text_to_image_recall@10")]
    (folder / "task.json").write_text(
        '[{"kind": "pictures", "name": "both", "files": {"folder": "."},'
        ' "columns": {"labels": "labels"}, "limit": 8},'
        ' {"kind": "picture_classes", "name": "colours", "files": {"folder": "."}}]'
    )
    tasks = read_tasks([folder])
    model = of_pictures(of_bytes(), width=16)
    model = model.with_spec(model.spec.with_widths((16, 8)))
    results = evaluate_model(Embedder(model), tasks, cache=tmp_path / "cache")
    both, colours = results.tasks["both"], results.tasks["colours"]
    assert set(both) == set(colours) == {16, 8}
    figures = both[16].figures
    assert set(figures) == {
        *(f"{way}_recall@{cut}" for way in WAYS for cut in (1, 5, 10)),
        "modality_gap", "text_to_image_recall@10_de",
    }  # fmt: skip
    assert figures["text_to_image_recall@10"] == 1.0  # of eight pictures
    assert len(both[16].items["text_to_image_recall@10"]) == 16  # two captions each
    # Copies of a drawing differ by a little noise: the nearest of the train split has its colour.
    assert colours[16].figures["knn_accuracy"] > 0.3  # chance: 0.25
    assert plain[0].fingerprint != tasks[0].fingerprint
    (folder / "task.json").write_text('{"kind": "pictures", "split": "dev"}')
    with pytest.raises(UserError, match="no record with"):
        read_tasks([folder])


@pytest.mark.extra("images")
def test_a_report_shows_what_captions_find(tmp_path):
    folder = captioned_folder(tmp_path / "pictures", copies=2)
    tasks = read_tasks([folder])
    models = {"tiny": evaluate_model(Embedder(of_pictures(of_bytes())), tasks, cache=tmp_path)}
    write_suite_page(tmp_path / "report.html", summary(tasks, models, tmp_path))
    page = (tmp_path / "report.html").read_text()
    assert page.count('<img src="data:image/jpeg;base64,') == 6 * 4
    assert "red left" in page
