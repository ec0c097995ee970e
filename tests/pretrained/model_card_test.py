"""The model card of a saved folder: what the hub's own library reads of it, and whose it is."""

import json
import re

import jax
import pytest
from huggingface_hub import ModelCard

from gemb.identity import model_fingerprint
from gemb.models.functional import initial_params
from gemb.models.model import Model, two_towers
from gemb.models.scratch import from_scratch
from gemb.pretrained import saving
from gemb.pretrained.adapt import load
from gemb.pretrained.publishing.card import is_ours, write_card
from gemb.pretrained.publishing.facts import hub_ids
from gemb.processors.text import of_bytes

CONFIG = "STEPS = 7\n"
RESULTS = {
    "retrieval": {
        "bm25": {"text": {"ndcg@10": 0.25}},
        "trained": {
            "8": {"ndcg@10": 0.5, "ndcg@10_low": 0.4, "ndcg@10_high": 0.6, "mrr@10": 0.375},
            "4": {"ndcg@10": 0.125},
        },
    },
    "corpus": "data/my set",
    "queries": 1200,
    "documents": 34,
}


def model(seed: int = 0, widths: tuple[int, ...] = (8, 4)) -> Model:
    made = from_scratch(of_bytes(), layers=1, width=8, heads=2, mlp=16)
    made = made.with_spec(made.spec.with_widths(widths))
    params = jax.jit(lambda: initial_params(made.spec, jax.random.key(seed)))()
    return made.with_params(jax.device_get(params))


@pytest.fixture
def folder(tmp_path):
    saving.save(model(), tmp_path / "run" / "model", training={"steps": 7})
    return tmp_path / "run" / "model"


def card_of(folder):
    return ModelCard.load(folder / "README.md")


def test_a_saved_folder_has_a_card_that_the_hub_reads(folder):
    card = card_of(folder)
    assert card.data.library_name == "sentence-transformers"
    assert card.data.pipeline_tag == "sentence-similarity"
    expected = {"sentence-transformers", "feature-extraction", "sentence-similarity", "matryoshka"}
    assert expected <= set(card.data.tags)
    for unknown in ("base_model", "license", "language", "datasets", "model-index"):
        assert unknown not in card.data.to_dict()
    fingerprint = json.loads((folder / "gemb.json").read_text())["fingerprint"]
    assert f"`{fingerprint}`" in card.text
    assert card.text.startswith("<!-- Written by gemb")
    assert "# run\n" in card.text
    assert "- training steps: 7\n" in card.text


@pytest.mark.long
def test_tags_say_what_the_model_is(tmp_path):
    saving.save(model(widths=(8,)), tmp_path / "full")
    assert "matryoshka" not in card_of(tmp_path / "full").data.tags
    saving.save(two_towers(model(0), model(1)), tmp_path / "towers")
    card = card_of(tmp_path / "towers")
    assert {"matryoshka", "sentence-transformers"} <= set(card.data.tags)
    assert "a vector of 8 numbers" in card.text


@pytest.mark.peers
def test_the_examples_run_and_agree(folder, capsys):
    pytest.importorskip("sentence_transformers")
    printed = []
    for code in re.findall(r"```python\n(.*?)```", card_of(folder).text, re.DOTALL):
        exec(code, {})
        numbers = re.findall(r"-?\d\.\d+", capsys.readouterr().out.splitlines()[-1])
        printed.append([float(number) for number in numbers])
    gembs, others = printed
    assert len(gembs) == 2
    assert gembs == pytest.approx(others, abs=1e-3)


def test_prompts_stand_in_the_card(tmp_path):
    saving.save(model().with_prompts({"query": "find: "}), tmp_path / "prompted")
    assert "`'find: '` before a query" in card_of(tmp_path / "prompted").text


def test_results_are_a_table_and_a_model_index(folder):
    assert write_card(folder, config=CONFIG, results=RESULTS)
    card = card_of(folder)
    rows = {(r.metric_type, r.metric_args["width"]): r.metric_value for r in card.data.eval_results}
    expected = {("ndcg_at_10", 8): 0.5, ("mrr_at_10", 8): 0.375, ("ndcg_at_10", 4): 0.125}
    assert rows == expected
    assert {r.dataset_name for r in card.data.eval_results} == {"my set"}
    assert {r.dataset_type for r in card.data.eval_results} == {"my-set"}
    assert "| this model | 8 | 0.500 [0.400, 0.600] |  |  | 0.375 |" in card.text
    assert "| BM25 | text | 0.250 |" in card.text
    assert "1,200 queries, 34 documents" in card.text
    assert "gemb train --gin_file=config.gin --workdir=runs/run" in card.text
    assert "```\nSTEPS = 7\n```" in card.text


@pytest.mark.long
def test_what_a_person_wrote_or_edited_is_kept(folder, tmp_path):
    path = folder / "README.md"
    assert is_ours(path)
    edited = path.read_text() + "\nMy own remark.\n"
    for kept in (edited, "# By hand\n", "\udcff".encode(errors="surrogateescape")):
        path.write_bytes(kept if isinstance(kept, bytes) else kept.encode())
        before = path.read_bytes()
        assert not write_card(folder, config=CONFIG)
        saving.save(model(1), folder)
        assert path.read_bytes() == before
    path.unlink()
    assert write_card(folder, config=CONFIG)
    saving.save(model(2), folder)  # ours is replaced: it was of the weights before
    assert model_fingerprint(load(str(folder))) in path.read_text()


def test_license_language_and_base_come_from_the_published_model(tmp_path):
    start = tmp_path / "models--someone--tiny" / "snapshots" / "0123"
    saving.save(model(), start)
    front = "---\nlicense: mit\nlanguage:\n- en\n- de\n---\n# Theirs\n"
    (start / "README.md").write_text(front)
    saving.save(load(str(start)), tmp_path / "first", training={"started_from": str(start)})
    second = {"started_from": str(tmp_path / "first")}
    saving.save(model(1), tmp_path / "second", training=second)
    data = card_of(tmp_path / "second").data
    assert (data.base_model, data.license, data.language) == ("someone/tiny", "mit", ["en", "de"])
    saving.save(load(str(tmp_path / "second")), tmp_path / "copy")  # with no training of its own
    assert card_of(tmp_path / "copy").data.base_model == "someone/tiny"
    assert hub_ids(tmp_path / "copy") == ["someone/tiny"]
    other = tmp_path / "models--else--other" / "snapshots" / "1"
    saving.save(model(), other)
    parts = {str(tmp_path / "second"): "x", str(other): "y"}
    made = {"soup_of": parts, "weights": [2.0, 1.0], "slerp": None}
    saving.save(model(2), tmp_path / "soup", training=made)
    card = card_of(tmp_path / "soup")
    assert card.data.base_model == ["someone/tiny", "else/other"]
    assert card.data.license is None  # only one of them says
    assert f"gemb soup --weights=2,1 {tmp_path / 'soup'} {tmp_path / 'second'}" in card.text


def test_a_known_models_licence_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("GEMB_CACHE", str(tmp_path))
    start = tmp_path / "models" / "all-MiniLM-L6-v2"
    start.mkdir(parents=True)
    saving.save(model(), tmp_path / "tuned", training={"started_from": str(start)})
    data = card_of(tmp_path / "tuned").data
    expected = ("sentence-transformers/all-MiniLM-L6-v2", "apache-2.0")
    assert (data.base_model, data.license) == expected


def test_a_pooler_of_gembs_own_is_not_for_the_other_library(folder):
    place = folder / "1_Pooling" / "config.json"
    place.write_text(json.dumps({"pooling_mode": "attention"}))
    assert write_card(folder)
    card = card_of(folder)
    assert card.data.library_name == "gemb"
    assert "sentence-transformers" not in card.data.tags
    assert "SentenceTransformer" not in card.text
