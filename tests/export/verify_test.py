"""`gemb verify`: rows for what is installed, what is not, and what differs."""

import json

import jax
import pytest
from exported_models import of, projected

from gemb.checks import UserError
from gemb.cli import verify as verb
from gemb.export import verification
from gemb.export.folder import export
from gemb.export.rules import RULES
from gemb.export.verification import agrees, table, verify
from gemb.models.encoders.vision import VisionSpec
from gemb.models.functional import initial_params
from gemb.models.model import Model, Tower
from gemb.models.spec import ModelSpec, StackSpec, TowerSpec
from gemb.pretrained import saving
from gemb.processors.image import ImageProcessor


@pytest.fixture
def folder(tmp_path):
    model = projected().with_prompts({"query": "find: "})
    saving.save(model, tmp_path / "model")
    return tmp_path / "model"


def by_program(rows):
    found = {}
    for row in rows:
        found.setdefault(row.consumer, []).append(row)
    return found


@pytest.mark.long
@pytest.mark.peers
@pytest.mark.extra("export", "peers")
def test_every_program_prompt_and_width_has_a_row(folder):
    rows = verify(str(folder), texts=20)
    found = by_program(rows)
    for name in ("sentence-transformers", "transformers", "ONNX Runtime"):
        assert len(found[name]) == 6  # two prompts, three widths
        assert {row.verdict for row in found[name]} == {"same"}
        assert all(row.difference.cosine > 0.9999 for row in found[name])
    by_key = {row.what: row.verdict for row in found["vLLM (rule)"]}
    assert "leaves layers out" in by_key.pop("at most one Dense module")  # this model has two
    assert set(by_key.values()) == {"as gemb"}
    assert agrees(rows)
    lines = table(rows).splitlines()
    assert len(lines) == len(rows) + 1
    assert "prompt query, width 8" in table(rows)


@pytest.mark.peers
@pytest.mark.extra("peers")
def test_a_folder_that_another_program_reads_otherwise_fails(folder, monkeypatch):
    one = {"sentence-transformers": verification.CONSUMERS["sentence-transformers"]}
    monkeypatch.setattr(verification, "CONSUMERS", one)
    assert agrees(verify(str(folder), texts=20))
    place = folder / "config_sentence_transformers.json"
    monkeypatch.setattr(
        verification,
        "load",
        lambda name, load=verification.load: load(name).with_prompts({"query": "seek: "}),
    )
    rows = verify(str(folder), texts=20)
    assert not agrees(rows)
    assert json.loads(place.read_text())["prompts"]["query"] == "find: "
    verdicts = {row.what: row.verdict for row in rows if row.difference}
    assert verdicts["prompt query, width 16"] == "DIFFERENT"
    assert verdicts["prompt document, width 16"] == "same"


def test_missing_programs_are_listed_as_such(folder, monkeypatch):
    from gemb.checks import MissingExtra

    def missing(*_):
        raise MissingExtra("no")

    monkeypatch.setattr(verification, "CONSUMERS", dict.fromkeys(verification.CONSUMERS, missing))
    rows = by_program(verify(str(folder), texts=20))
    for name in verification.CONSUMERS:
        assert [row.verdict for row in rows[name]] == ["not installed"]


def test_rules_name_what_a_server_does_otherwise(tmp_path, monkeypatch):
    monkeypatch.setattr(verification, "CONSUMERS", {})
    saving.save(of("llama-bidirectional", widths=(32, 8)), tmp_path / "model")
    rows = {row.consumer + row.what: row for row in verify(str(tmp_path / "model"), texts=20)}
    flag = "text-embeddings-inference (rule)config.json: use_bidirectional_attention"
    assert rows[flag].verdict == "as gemb"
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    del config["use_bidirectional_attention"], config["matryoshka_dimensions"]
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    rows = {row.consumer + row.what: row for row in verify(str(tmp_path / "model"), texts=20)}
    assert "attends causally" in rows[flag].verdict
    assert "dimensions" in rows["vLLM (rule)config.json: matryoshka_dimensions"].verdict
    assert all(rule.source.startswith("https://") for rule in RULES)


def test_the_verb_wants_one_folder():
    with pytest.raises(UserError, match="expected FOLDER"):
        verb.main([])


@pytest.mark.extra("export", "images")
def test_models_of_other_values_are_refused_in_one_line(tmp_path):
    spec = TowerSpec(VisionSpec((8, 8), 4, StackSpec(1, 8, 2, 8)), pooling="cls")
    params = jax.device_get(initial_params(ModelSpec.of(spec), jax.random.key(0)))
    saving.save(Model.of(Tower(spec, params, ImageProcessor(8, 8))), tmp_path / "model")
    for call in (
        lambda: verify(str(tmp_path / "model")),
        lambda: export(str(tmp_path / "model"), tmp_path / "exported"),
    ):
        with pytest.raises(UserError, match=r"only models of texts .*; this one reads 'image'"):
            call()
