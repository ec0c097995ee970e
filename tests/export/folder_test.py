"""`gemb export`: whole folders, their manifests, refusals, and the documented way to use them."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from exported_models import CONFIGS, drawn, of, projected
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from gemb import Embedder
from gemb.checks import UserError
from gemb.export import folder as exporting
from gemb.export import gguf_file
from gemb.export.folder import export
from gemb.models.model import Model, two_towers
from gemb.pretrained.adapt import load
from gemb.pretrained.convert import convert_into
from gemb.pretrained.from_config import from_config
from gemb.tokenizers import byte_tokenizer_json

ROOT = Path(__file__).parents[2]
QUERIES = ["reverse a list", "join words with commas"]


def snippets():
    """The Python of docs/howto/export.md, by its section."""
    text = (ROOT / "docs" / "howto" / "export.md").read_text(encoding="utf-8")
    found = {}
    for section in text.split("\n## ")[1:]:
        for code in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
            found[section.partition("\n")[0]] = code
    return found


def run_snippet(section, place, monkeypatch):
    monkeypatch.chdir(place)
    names = {}
    exec(next(code for title, code in snippets().items() if section in title), names)
    return {name: np.asarray(vectors) for name, vectors in names["vectors"].items()}


def same_as_gemb(vectors, model):
    embedder = Embedder(model)
    assert {int(name.removeprefix("embedding_")) for name in vectors} == set(embedder.widths)
    for name, found in vectors.items():
        width = int(name.removeprefix("embedding_"))
        expected = embedder.encode_query(QUERIES, dim=width)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.extra("export")
def test_the_documented_use_of_onnx(tmp_path, monkeypatch):
    model = projected().with_prompts({"query": "find: "})
    (manifest,) = export(model, tmp_path / "exported", texts=20).values()
    assert manifest["measured"]["largest_difference"] < 1e-5
    assert manifest["outputs"] == {"embedding_16": 16, "embedding_8": 8, "embedding_4": 4}
    assert manifest["fingerprint"] == Embedder(model).fingerprint
    same_as_gemb(run_snippet("ONNX", tmp_path, monkeypatch), model)


@pytest.mark.long
def test_the_documented_use_of_stablehlo(tmp_path, monkeypatch):
    model = projected().with_prompts({"query": "find: "})
    export(model, tmp_path / "exported", form="stablehlo", texts=20)
    same_as_gemb(run_snippet("JAX", tmp_path, monkeypatch), model)


@pytest.mark.extra("export")
def test_int8_reports_what_it_keeps(tmp_path):
    (manifest,) = export(of("bert"), tmp_path / "exported", form="onnx-int8", texts=20).values()
    measured = manifest["measured"]
    assert 1e-5 < measured["largest_difference"] < 0.2
    assert 0.9 < measured["least_cosine"] < 1
    assert 0 < measured["neighbour_overlap"] <= 1


@pytest.mark.extra("export")
def test_two_towers_become_two_folders(tmp_path):
    query, document = of("bert"), of("static")
    model = two_towers(query, document)
    manifests = export(model, tmp_path / "exported", texts=20)
    assert list(manifests) == ["query", "document"]
    for side, kind in (("query", query), ("document", document)):
        kept = json.loads((tmp_path / "exported" / side / "export.json").read_text())
        assert kept["fingerprint"] == Embedder(kind).fingerprint
        assert kept["model"] == Embedder(model).fingerprint
        assert list(kept["prompts"]) == [side]


@pytest.mark.extra("export")
def test_vectors_that_differ_are_refused_and_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "LIMIT", 1e-12)
    with pytest.raises(UserError, match=r"differ from gemb's by .* nothing was kept"):
        export(of("bert"), tmp_path / "exported", texts=20)
    assert not list(tmp_path.iterdir())


def test_what_is_there_already_is_kept(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else than an export"):
        export(of("bert"), tmp_path, form="stablehlo")
    with pytest.raises(UserError, match="--format: expected one of"):
        export(of("bert"), tmp_path / "new", form="pickle")


def with_tokenizer(model, change):
    """The model with a tokenizer that `change` made of its own, a tokenizers.Tokenizer."""
    tokenizer = Tokenizer.from_str(byte_tokenizer_json())
    tokenizer = change(tokenizer) or tokenizer
    tower = model.document
    processor = dataclasses.replace(tower.processor, tokenizer_json=tokenizer.to_str())
    return Model.of(dataclasses.replace(tower, processor=processor))


def words_of_smollm(tokenizer):
    steps = [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    vocabulary = tokenizer.get_vocab() | {"th": 259, "the": 260}
    tokenizer.model = models.BPE(vocabulary, [("t", "h"), ("th", "e")])


def word_pieces(tokenizer, lower=True):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "hello", "##s", "[x]"]
    made = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}))
    made.normalizer = normalizers.BertNormalizer(lowercase=lower)
    made.add_special_tokens(words[:4])
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def split_at_spaces(tokenizer):
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()


@pytest.mark.extra("export", "convert")
@pytest.mark.parametrize("causal", [True, False])
def test_a_llama_comes_back_by_gembs_own_reader(tmp_path, causal):
    config = CONFIGS["llama-bidirectional"] | {"is_causal": causal}
    model = with_tokenizer(drawn(from_config(config, max_length=32)), words_of_smollm)
    (manifest,) = export(model, tmp_path / "exported", form="gguf", texts=20).values()
    assert manifest["measured"]["largest_difference"] < 1e-6
    assert manifest["causal"] is causal
    (tmp_path / "back").mkdir()
    convert_into(tmp_path / "exported" / "model.gguf", tmp_path / "back")
    attention = "causal" if causal else "bidirectional"
    again = load(str(tmp_path / "back"), pooling="mean", max_length=32, attention=attention)
    texts = ["the 1234 b", "naïve 日本語", ""]
    expected = Embedder(model).encode(texts)
    np.testing.assert_allclose(Embedder(again).encode(texts), expected, atol=1e-5)


@pytest.mark.extra("export", "convert")
def test_shape_pooling_and_attention_are_in_a_gguf_file(tmp_path):
    import gguf

    model = with_tokenizer(of("bert", pooling="cls"), word_pieces)
    path = gguf_file.write(model.document, tmp_path)
    fields = {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}
    assert fields["general.architecture"] == "bert"
    assert fields["bert.pooling_type"] == gguf.PoolingType.CLS
    assert fields["bert.attention.causal"] is False
    assert fields["bert.block_count"] == 2
    tokens = fields["tokenizer.ggml.tokens"]
    assert tokens[:7] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁hello", "s", "[x]"]
    assert len(tokens) == len(fields["tokenizer.ggml.token_type"]) == 300
    assert fields["tokenizer.ggml.bos_token_id"] == 2


@pytest.mark.extra("export")
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: of("t5"), "the family 't5'"),
        (lambda: of("static"), "the family 'static'"),
        (projected, "layers over the pooled vector"),
        (lambda: of("bert", pooling="max"), "the pooling 'max'"),
        (lambda: with_tokenizer(of("bert"), split_at_spaces), "cuts texts into words"),
        (
            lambda: with_tokenizer(of("bert"), lambda t: word_pieces(t, lower=False)),
            "lower case and takes accents away",
        ),
    ],
)
def test_what_llama_cpp_does_not_compute_is_refused_by_name(tmp_path, model, message):
    with pytest.raises(UserError, match=message):
        export(model(), tmp_path / "exported", form="gguf")
    assert not list(tmp_path.iterdir())
