"""Drift: the panel against the distances, its calibration, verdicts, bad input, the verb."""

import json
import types

import numpy as np
import pytest

import gemb
from gemb.analysis.drift import (
    Reference,
    alerts,
    calibration,
    clusters,
    judge_columns,
    judge_outcomes,
    panel,
    topics,
)
from gemb.checks import UserError
from gemb.identity import SpaceError
from gemb.inference.canaries import Canaries, texts
from gemb.metrics import distances

DIM, TOPICS = 8, 6
CENTRES = np.random.default_rng(5).normal(size=(TOPICS, DIM)) * 3


def draw(rows, seed, topic=None):
    rng = np.random.default_rng(seed)
    chosen = rng.integers(TOPICS - 1, size=rows) if topic is None else np.full(rows, topic)
    return CENTRES[chosen] + rng.normal(size=(rows, DIM))


@pytest.fixture(scope="module")
def reference():
    words = [f"topic word{i % 7}" for i in range(1_500)]
    return Reference.fit(
        draw(1_500, 0), fingerprint="a", sizes=(100, 300), texts=words, windows=500
    )


def test_the_panel_equals_the_distances(reference):
    old, new = draw(1_500, 0), draw(300, 7, topic=1)
    geometry = reference.geometry
    now, before = geometry.means(np.float32(new)), geometry.means(np.float32(old))
    found = dict(zip(panel.TESTS, panel.statistics(now, before, geometry), strict=True))
    z = geometry.random_features()
    axes = [(rows - geometry.mean) @ geometry.axes for rows in (old, new)]
    counts = [
        np.bincount(
            clusters.nearest_centre(rows, geometry.clusters)[0], minlength=len(geometry.clusters)
        )
        for rows in (old, new)
    ]
    expected = {
        "mean shift": distances.mean_shift(old, new).value,
        "mmd": distances.mmd_features(z(old), z(new)).value,
        "topics": distances.jensen_shannon(*counts).value,
        "frechet": distances.frechet(*axes).value,
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=5e-3), name  # ddof
    assert found["far share"] == pytest.approx(
        geometry.is_far(new).mean() - geometry.is_far(old).mean(), abs=1e-6
    )


def test_directions_separate_topics_as_the_formula_says(reference):
    rows = np.float64(draw(1_500, 0))
    mean, covariance, topics = rows.mean(0), np.cov(rows, rowvar=False), CENTRES[:4]
    found = panel.topic_directions(mean, covariance, topics)
    ridge = panel._RIDGE * np.linalg.eigvalsh(covariance)[-1] * np.eye(DIM)
    expected = np.linalg.solve(covariance + ridge, (topics - mean).T)
    expected /= np.sqrt(np.einsum("dk,de,ek->k", expected, covariance, expected))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(np.var(rows @ found, axis=0), 1, rtol=1e-2)
    geometry = reference.geometry
    shift = CENTRES[2] - reference.means.vectors
    towards = np.maximum(shift @ geometry.directions, 0)
    now = reference.means._replace(vectors=CENTRES[2])
    values = panel.statistics(now, reference.means, geometry)
    expected = np.mean(towards**3) ** (2 / 3)
    assert values[panel.TESTS.index("directions")] == pytest.approx(expected)


def test_an_unlucky_reference_by_a_normal_sample():
    null = np.random.default_rng(0).normal(size=(20_000, 6)) ** 2
    found = calibration.unlucky(null)
    far = panel.TESTS.index("far share")
    np.testing.assert_allclose(np.delete(found, far), 6.635, rtol=0.08)  # chi-square, 1 degree
    assert found[far] == pytest.approx(2.3263**2, abs=1e-3)


def test_windows_without_drift_are_as_the_closed_forms_say(reference):
    old = draw(1_500, 0)
    null = dict(zip(panel.TESTS, reference.null[300].T, strict=True))
    rate = distances.mean_shift(old, old[:300])
    assert null["mean shift"].mean() == pytest.approx(rate.expected, rel=0.15)
    z = reference.geometry.random_features()
    features = distances.mmd_features(z(old), z(old[:300]))
    assert null["mmd"].mean() == pytest.approx(features.expected, rel=0.15)
    scaled = calibration.rescaled(reference.null[300], 300, 100, 1_500)
    np.testing.assert_allclose(
        scaled.mean(axis=0)[[0, 1, 2, 5]], reference.null[100].mean(axis=0)[[0, 1, 2, 5]], rtol=0.2
    )


def test_adjusted_p_by_a_plain_loop():
    rng = np.random.default_rng(0)
    null = rng.normal(size=(99, 3))
    null[:, 1] = null[:, 0]  # the same test twice costs nothing
    value = np.array([2.0, 2.0, 0.5])
    p = (1 + (null >= value).sum(0)) / 100
    found = calibration.adjusted(p, calibration.shares_above(null))
    least = [min((null[:, t] >= null[w, t]).sum() / 99 for t in range(3)) for w in range(99)]
    assert found[np.argmin(p)] == pytest.approx((1 + sum(np.array(least) <= p.min())) / 100)
    assert np.all(found >= p)
    assert found[0] == found[1]


def test_false_alarms_are_as_rare_as_alpha_says(reference):
    found = [reference.judge(draw(300, seed), alpha=0.05).drifted for seed in range(100, 180)]
    assert np.mean(found) <= 0.12


def test_a_topic_that_grew_is_found_named_and_shown(reference):
    new = np.concatenate([draw(200, 1), draw(100, 2, topic=2)])
    texts = [f"topic word{i % 7}" for i in range(200)] + [f"cats number{i}" for i in range(100)]
    verdict = reference.judge(new, texts=texts)
    assert verdict.tests["topics"].drifted
    assert verdict.status == 3
    assert verdict.topics[0].share_now > verdict.topics[0].share_before
    grown = [text for topic in verdict.topics for text in topic.texts]
    assert any(text.startswith("cats") for text in grown)
    assert "cats" in verdict.topics[0].words
    assert verdict.tree()["advice"].startswith("refresh")


def test_what_is_far_from_everything_is_found(reference):
    new = np.concatenate([draw(250, 1), np.full((50, DIM), 30.0) + draw(50, 2)])
    verdict = reference.judge(new)
    assert verdict.tests["far share"].drifted
    assert "far from everything" in verdict.tree()["advice"]


def test_significant_but_small_is_no_alarm(reference):
    gates = reference._arrays["gates"]
    found = calibration.judged(gates * 0.5, np.zeros((500, 6)), 0.01)
    from gemb.analysis.drift.verdict import findings

    assert all(f.p < 0.01 and not f.drifted for f in findings(found, gates, 0.01).values())


def test_a_saved_reference_gives_the_same_verdict(reference, tmp_path):
    reference.save(tmp_path / "r")
    again = Reference.load(tmp_path / "r")
    new = draw(120, 3)
    assert again.judge(new).tree() == reference.judge(new).tree()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").touch()
    with pytest.raises(UserError, match="not a reference"):
        reference.save(tmp_path / "other")
    (tmp_path / "r" / "arrays.safetensors").write_bytes(b"x" * 20)
    with pytest.raises(UserError, match="fit it again"):
        Reference.load(tmp_path / "r")


def test_rows_of_other_models(reference):
    new = draw(100, 4)
    verdict = reference.judge(new, fingerprints=["a"] * 95 + ["b"] * 5)
    assert verdict.foreign == pytest.approx(0.05)
    assert verdict.status == 3
    with pytest.raises(SpaceError, match="another model, not drift"):
        reference.judge(new, fingerprints="b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda new: new[:20], "20 rows are too few"),
        (lambda new: np.tile(new, (20, 1)), "but the reference has 1500: cut the window"),
        (lambda new: new[:, :5], "vectors of dim 5, but the reference's have 8"),
        (lambda new: np.where(np.arange(100)[:, None] == 7, np.nan, new), "row 7 has NaN"),
        (lambda new: np.where(np.arange(100)[:, None] == 7, 0, new), "row 7 is all zero"),
        (lambda new: np.repeat(new[:1], 100, axis=0), "all 100 vectors are the same"),
        (lambda new: np.repeat(new[:50], 2, axis=0), "50% of the rows are copies"),
        (lambda new: draw(1_500, 0)[:100], "every row is a row of the reference"),
        (lambda new: new.astype(int), "expected .rows, dim. floats"),
    ],
)  # fmt: skip
def test_bad_windows_are_one_line(reference, change, message):
    with pytest.raises(UserError, match=message) as raised:
        reference.judge(change(draw(100, 9)), repeats="cut" in message)
    assert "\n" not in str(raised.value)


def test_unnormalised_vectors_and_known_ids_are_refused():
    unit = draw(400, 0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    made = Reference.fit(unit, sizes=(100,), windows=20, ids=range(400))
    new = draw(100, 1)
    with pytest.raises(UserError, match="do not have unit length"):
        made.judge(new)
    new /= np.linalg.norm(new, axis=1, keepdims=True)
    with pytest.raises(UserError, match="1 ids are of the reference as well, such as 399"):
        made.judge(new, ids=range(399, 499))
    assert made.judge(new, ids=range(400, 500)).rows == 100
    with pytest.raises(UserError, match="60 rows are too few"):
        Reference.fit(unit[:60])


def test_named_tests_have_their_expected_values(reference):
    found = [reference.named_tests(draw(300, seed)) for seed in range(40)]
    for name in ("psi mean", "gaussian kl"):
        values = np.mean([one[name].value for one in found])
        assert values == pytest.approx(found[0][name].expected, rel=0.35)


def test_canaries():
    chosen = texts()
    assert len(chosen) == len(set(chosen)) == 32
    assert sum(len(text.split()) > 100 or len(text) > 600 for text in chosen) >= 16
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(32, 24)).astype(np.float32)
    vectors[12] = 0  # an empty text of a static model

    def giving(rows):
        return lambda texts, kind: rows[:16] if kind == "query" else rows[16:]

    model = types.SimpleNamespace(fingerprint="f", encode=giving(vectors))
    canaries = Canaries.of(model)
    assert canaries.check(giving(vectors)).cosine == pytest.approx(1, abs=1e-6)
    half = canaries.check(giving(vectors.astype(np.float16)))
    assert not half.broken
    assert not half.warned
    other = vectors.copy()
    other[3] += 0.3 * rng.normal(size=24)
    found = canaries.check(giving(other))
    assert found.broken
    assert found.text == chosen[3]
    assert canaries.check(giving(vectors[:, :12])).broken


def test_alerts_are_read_by_other_programs(reference):
    verdict = reference.judge(draw(100, 3))
    tree = json.loads(alerts.json_line(verdict, window="w"))
    assert (tree["window"], tree["status"]) == ("w", 0)
    for line in alerts.prometheus(verdict).splitlines():
        if not line.startswith("#"):
            float(line.rsplit(" ", 1)[1])


def test_columns():
    rng = np.random.default_rng(0)
    old = {"price": rng.normal(size=800).tolist(), "lang": rng.choice(["en", "de"], 800).tolist()}
    same = {"price": rng.normal(size=400).tolist(), "lang": rng.choice(["en", "de"], 400).tolist()}
    assert not any(column.drifted for column in judge_columns(old, same).values())
    moved = {"price": [None] * 100 + same["price"][100:], "lang": ["fr"] * 30 + same["lang"][30:]}
    found = judge_columns(old, moved)
    assert found["price"].missing_now == 0.25
    assert found["price"].drifted
    assert found["lang"].new == {"fr": 0.075}
    assert found["lang"].drifted
    shifted = judge_columns(old, same | {"price": (np.array(same["price"]) + 0.5).tolist()})
    assert shifted["price"].drifted
    assert not shifted["lang"].drifted
    counts = np.bincount(rng.integers(3, size=50)), np.bincount(rng.integers(3, size=50))
    assert distances.psi(*counts).value >= 0
    with pytest.raises(UserError, match="price: not in both"):
        judge_columns(old, {"lang": ["en"]})
    with pytest.raises(UserError, match="numbers in one period and texts"):
        judge_columns({"a": [1.0]}, {"a": ["x"]})


def test_outcomes_are_compared_for_the_same_inputs():
    rng = np.random.default_rng(0)
    rates = np.array([0.1, 0.6])

    def period(rows, share, rates):
        inputs = (rng.random(rows) < share).astype(int)
        return inputs, (rng.random(rows) < rates[inputs]).astype(float)

    before = period(4_000, 0.5, rates)
    mixed = judge_outcomes(before, period(2_000, 0.9, rates))  # more of one input: no concept drift
    assert not mixed.drifted
    assert mixed.now == pytest.approx(0.55, abs=0.04)
    changed = period(2_000, 0.5, rates - np.array([0, 0.2]))
    found = judge_outcomes(before, changed)
    assert found.drifted
    assert found.difference == pytest.approx(-0.1, abs=0.04)
    scores = rates[before[0]], rates[changed[0]]
    assert judge_outcomes(before, changed, scores=scores).calibration == pytest.approx(
        -0.1, abs=0.04
    )
    p = [judge_outcomes(before, period(500, 0.5, rates)).p for _ in range(200)]
    assert np.mean(np.array(p) < 0.1) < 0.2


def test_words_of_a_topic():
    background = topics.word_shares(["the cat", "the dog", "the house"])
    assert topics.words(["the moon rose", "the moon set"], background) == ("moon",)


def test_gemb_drift(tmp_path, capsys, monkeypatch, reference):
    from gemb.cli.__main__ import run

    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        with pytest.raises(SystemExit) as left:
            run("drift", list(arguments))
        return left.value.code, *capsys.readouterr()

    np.save("good.npy", draw(600, 0))
    status, out, err = call("--reference=r", "--fit=good.npy", "--sizes=100")
    assert status == 0, err
    assert "reference of 600 vectors" in out
    (tmp_path / "in").mkdir()
    np.save("in/a.npy", draw(100, 3))
    status, out, err = call(
        "--reference=r", "--window=in", "--output=out", "--watch=.01", "--rounds=2"
    )
    assert status == 0, err
    rows = [
        {"vector": row.tolist(), "text": f"cats {i}"} for i, row in enumerate(draw(100, 4, topic=2))
    ]
    (tmp_path / "in" / "b.jsonl").write_text("\n".join(map(json.dumps, rows)))
    status, out, err = call("--reference=r", "--window=in", "--output=out")
    assert status == 3, err
    [line] = out.splitlines()  # a.npy is in the history
    assert json.loads(line)["topics"][0]["words"] == ["cats"]
    assert "advice" in json.loads((tmp_path / "out" / "history.jsonl").read_text().splitlines()[1])
    assert "gemb_drift 1" in (tmp_path / "out" / "drift.prom").read_text()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "cats" in page
    status, _, err = call("--reference=r", "--window=none.npy")
    assert status == 2
    assert err == "gemb drift: error: --window: none.npy: no such file or folder\n"
    (tmp_path / "texts.jsonl").write_text('{"text": "x"}\n')
    assert "give --model" in call("--reference=r", "--window=texts.jsonl")[2]
    rows = [{"price": i % 9, "clicked": i % 2} for i in range(300)]
    (tmp_path / "old.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "new.jsonl").write_text("\n".join(json.dumps(r | {"clicked": 0}) for r in rows))
    asked = ("--before=old.jsonl", "--now=new.jsonl", "--columns=price")
    assert call(*asked)[0] == 0
    status, out, _ = call(*asked, "--outcome=clicked", "--by=price")
    assert status == 3
    assert json.loads(out)["outcome"]["difference"] == pytest.approx(-0.5, abs=0.1)


def test_the_door_has_the_reference():
    assert gemb.drift.Reference is Reference
