"""`gemb classify` from files to a folder, and /v1/classify as the folder decides."""

import csv
import json

import numpy as np
import pytest
import served

from gemb.cli.__main__ import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Texts in two formats, and a model."""
    made = tmp_path_factory.mktemp("classes")
    served.save_model(made / "tiny")
    rows = [(f"{word} {word} {n}", word) for word in served.WORDS[:3] for n in range(12)]
    with open(made / "train.csv", "w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    test = [{"said": f"{word} {word} {n}", "what": word} for word in served.WORDS[:3]
            for n in range(12, 20)]  # fmt: skip
    (made / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in test))
    return made


def gemb(*words):
    with pytest.raises(SystemExit) as left:
        run("classify", list(map(str, words)))
    return left.value.code


@pytest.mark.long
def test_the_verb_trains_and_evaluates(folder, capsys):
    out, report = folder / "made", folder / "report"
    train = (f"--model={folder}/tiny", f"--input={folder}/train.csv", f"--output={out}")
    assert gemb("train", *train) == 0
    assert "3 labels, 36 texts" in capsys.readouterr().out
    asked = (f"--classifier={out}", f"--input={folder}/test.jsonl", "--column=said")
    assert gemb("evaluate", *asked, "--label=what", f"--output={report}") == 0
    said = capsys.readouterr().out
    tree = json.loads((report / "results.json").read_text())
    assert tree["texts"] == 24
    assert [row["width"] for row in tree["widths"]] == [8, 16]
    assert tree["accuracy"]["value"] > 0.8
    assert f"leave early: {tree['early']:.1%}" in said
    assert "leave here" in (report / "report.html").read_text()
    served.save_model(folder / "other", 1)
    assert gemb("evaluate", *asked, "--label=what", f"--model={folder}/other") == 2
    assert "train the classifier again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected `gemb classify train` or `gemb classify evaluate`"),
        (["trian"], "Did you mean"),
        (["train", "--model=m", "--input=x"], "--output is required"),
        (["evaluate", "--classifier=c"], "--input is required"),
        (["evaluate", "--classifier=c", "--input=x", "--tolerance=0.1"], "cannot be combined"),
        (["train", "--model=m", "--input={}/none.csv", "--output={}/o"], "no such file"),
        (["train", "--model=m", "--input={}/train.csv", "--output={}/o", "--label=x"], "'x'"),
        (["train", "--model={}/tiny", "--input={}/train.csv", "--output={}/o", "--widths=99"],
         "widths"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(folder, capsys, words, message):
    assert gemb(*(word.replace("{}", str(folder)) for word in words)) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.strip().splitlines()) == 1


@pytest.fixture(scope="module")
def server(places):
    made = served.Running(classifiers=[places["classifier"]])
    yield made
    made.close()


@pytest.mark.extra("serve")
def test_the_route_decides_as_the_folder(server, places):
    from gemb.analysis.classifier import Classifier
    from gemb.inference.embedder import Embedder

    texts = ["bridge bridge 7", "candle candle", "apple apple 3", "bridge bridge 7"]
    kept = Classifier.load(places["classifier"])
    expected = kept.decide(Embedder.load(str(places["model"])).encode(texts))
    status, answer = server.post("/v1/classify", input=texts, top=3)
    assert status == 200
    assert answer["classifier"] == "days"
    rows = answer["data"]
    assert [row["index"] for row in rows] == [0, 1, 2, 3]
    assert [row["label"] for row in rows] == [kept.labels[row] for row in expected.classes]
    assert [row["width"] for row in rows] == expected.widths.tolist()
    for row, probabilities in zip(rows, expected.probabilities, strict=True):
        by_label = {each["label"]: each["score"] for each in row["labels"]}
        found = [by_label[label] for label in kept.labels]
        np.testing.assert_allclose(found, probabilities, atol=1e-5)
        assert row["score"] == row["labels"][0]["score"] == max(found)
    _, one = server.post("/v1/classify", input="apple apple 3", classifier="days")
    assert len(one["data"][0]["labels"]) == 1
    page = server.ask("GET", "/metrics")[1].decode()
    counted = [line for line in page.splitlines() if line.startswith("gemb_classified_total")]
    assert sum(float(line.split()[-1]) for line in counted) == 5
    known = server.ask("GET", "/v1/versions")[1]["classifiers"]
    assert known == [
        {"classifier": "days", "model": "tiny", "fingerprint": kept.model, "labels": 3,
         "widths": [8, 16]}
    ]  # fmt: skip


@pytest.mark.extra("serve")
def test_mistakes_of_requests(server):
    for body, status, code in (
        ({"input": "a", "classifier": "other"}, 404, "unknown_classifier"),
        ({"input": ""}, 400, "empty_input"),
        ({"input": [1, 2]}, 400, "invalid_value"),
        ({"input": "a", "top": 0}, 400, "invalid_value"),
        ({"input": ["a"] * 2049}, 413, "too_many_inputs"),
    ):
        came, answer = server.post("/v1/classify", **body)
        assert (came, answer["error"]["code"]) == (status, code), body


@pytest.mark.extra("serve")
def test_a_classifier_of_another_model_is_refused(places, tmp_path):
    import dataclasses

    from gemb.analysis.classifier import Classifier
    from gemb.checks import UserError
    from gemb.serving.classifying import open_classifier

    other = dataclasses.replace(Classifier.load(places["classifier"]), model="0" * 64)
    other.save(tmp_path / "stale")
    with pytest.raises(UserError, match=r"stale: .* train the classifier again"):
        open_classifier(tmp_path / "stale", {}, budget=64)
