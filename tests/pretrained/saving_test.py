"""What a saved folder says to other programs, and that reading and saving again keeps it."""

import json

import numpy as np
import pytest

from gemb import Embedder
from gemb.models.functional import functional
from gemb.models.model import Model, Tower
from gemb.models.scratch import static_text
from gemb.models.spec import TowerSpec
from gemb.pretrained import saving
from gemb.pretrained.adapt import load
from gemb.pretrained.from_config import from_config
from gemb.processors.text import TextProcessor
from gemb.tokenizers import byte_tokenizer_json
from gemb.training.quantisation import int8_weights

SMOL = {
    "model_type": "llama", "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48,
    "max_position_embeddings": 64,
}  # fmt: skip
TEXTS = ["MiXeD CaSe", "naïve CAFÉ", "", "word " * 100, "日本語 🙂"]


def random_model(config=None, **how):
    """A decoder with random weights."""
    model = from_config(SMOL | (config or {}), max_length=32, **how)
    random = np.random.default_rng(1)
    shapes = functional(model.spec).shapes
    params = {p: random.normal(0, 0.3, s.shape).astype(np.float32) for p, s in shapes.items()}
    return model.with_params(params)


def saved(folder, config=None, **how):
    """A folder with a random decoder."""
    saving.save(random_model(config, **how), folder)
    return folder


def content(folder, name="config.json"):
    return json.loads((folder / name).read_text())


def change(folder, name, **keys):
    (folder / name).write_text(json.dumps(content(folder, name) | keys))


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2"])
def test_bidirectional_decoders_are_marked_in_both_spellings(tmp_path, kind):
    given = {"is_causal": False, "sliding_window": 8}
    folder = saved(tmp_path / "model", {"model_type": kind} | given)
    assert content(folder)["is_causal"] is False
    assert content(folder)["use_bidirectional_attention"] is True
    again = load(str(folder))
    assert again.spec.encoder == random_model({"model_type": kind} | given).spec.encoder


def test_gemma_3_is_marked_in_its_own_spelling(tmp_path):
    given = {"model_type": "gemma3_text", "use_bidirectional_attention": True, "sliding_window": 8}
    folder = saved(tmp_path / "model", given)
    assert content(folder)["use_bidirectional_attention"] is True
    assert "is_causal" not in content(folder)


@pytest.mark.parametrize(
    "flags",
    [
        {"is_causal": False},
        {"is_causal": False, "use_bidirectional_attention": True},
    ],
)
def test_attention_that_is_asked_for_wins_over_the_folders(tmp_path, flags):
    folder = saved(tmp_path / "both", flags)
    change(folder, "config.json", is_causal=True, use_bidirectional_attention=None)
    change(folder, "config.json", **flags)
    causal = load(str(folder), attention="causal")
    assert causal.spec.encoder.stack.causal
    saving.save(causal, tmp_path / "causal")
    assert content(tmp_path / "causal")["is_causal"] is True
    assert content(tmp_path / "causal")["use_bidirectional_attention"] is False
    assert load(str(tmp_path / "causal")).spec.encoder.stack.causal


def test_prompts_default_and_similarity_survive(tmp_path):
    folder = saved(tmp_path / "first")
    settings = {
        "prompts": {"query": "find: ", "document": "", "sts": "compare: "},
        "default_prompt_name": "sts",
        "similarity_fn_name": "dot",
    }
    change(folder, "config_sentence_transformers.json", **settings)
    model = load(str(folder), prompts={"document": "text: "})
    saving.save(model, tmp_path / "second")
    again = content(tmp_path / "second", "config_sentence_transformers.json")
    settings["prompts"]["document"] = "text: "
    assert again == settings


def test_nested_widths_stand_where_vllm_reads_them(tmp_path, capsys):
    nested = saved(tmp_path / "nested", widths=(8, 32, 16))
    assert content(nested)["matryoshka_dimensions"] == [8, 16, 32]
    capsys.readouterr()
    projected = load(str(nested), projection=(4,))
    assert "warning" not in capsys.readouterr().err, "gemb knows all keys that it writes"
    saving.save(projected, tmp_path / "projected")
    assert "matryoshka_dimensions" not in content(tmp_path / "projected")
    assert "matryoshka_dimensions" not in content(saved(tmp_path / "plain"))


@pytest.mark.long
def test_weights_on_the_grid_of_int8_stay_there(tmp_path):
    model = random_model()
    rounded = {path: np.asarray(v) for path, v in int8_weights(model.params).items()}
    saving.save(model.with_params(rounded), tmp_path / "model")
    again = load(str(tmp_path / "model")).params
    assert all(np.array_equal(again[path], value) for path, value in rounded.items())


def cased_bert(folder):
    """A BERT whose words are made lower case by sentence_bert_config.json alone."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    shape = {
        "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4,
        "intermediate_size": 48, "max_position_embeddings": 64,
    }  # fmt: skip
    transformers.BertModel(transformers.BertConfig(**shape)).save_pretrained(folder)
    letters = [chr(c) for c in (*range(33, 127), 0xE9, 0xEF, 0xC9)]
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters)]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizer(
        {word: i for i, word in enumerate(words)}, do_lower_case=False
    )
    tokenizer.save_pretrained(folder)
    texts = {"max_seq_length": 32, "do_lower_case": True}
    (folder / "sentence_bert_config.json").write_text(json.dumps(texts))
    return folder


@pytest.mark.peers
def test_lower_case_reaches_every_reader(tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    embedder = Embedder(load(str(cased_bert(tmp_path / "cased"))))
    embedder.save(tmp_path / "saved")
    ours = embedder.encode(TEXTS)
    np.testing.assert_allclose(ours[0], embedder.encode(TEXTS[0].lower()), atol=1e-6)
    peer = sentence_transformers.SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(peer.encode(TEXTS), ours, atol=1e-5)
    np.testing.assert_allclose(
        Embedder.load(str(tmp_path / "saved")).encode(TEXTS), ours, atol=1e-6
    )
    assert "Lowercase" in (tmp_path / "saved" / "tokenizer.json").read_text()


@pytest.mark.peers
def test_a_static_model_cuts_texts_in_sentence_transformers_too(tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    processor = TextProcessor(byte_tokenizer_json(), 16).without_special_tokens()
    table = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    spec = TowerSpec(static_text(300, 8))
    embedder = Embedder(Model.of(Tower(spec, {"text/token/table": table}, processor)))
    fingerprint = embedder.save(tmp_path / "model")
    ours = embedder.encode(TEXTS)
    peer = sentence_transformers.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    np.testing.assert_allclose(peer.encode(TEXTS), ours, atol=1e-6)
    assert Embedder.load(str(tmp_path / "model")).fingerprint == fingerprint


def test_a_folder_that_is_not_changed_keeps_its_tokenizer_files(tmp_path):
    folder = saved(tmp_path / "first")
    change(folder, "tokenizer_config.json", clean_up_tokenization_spaces=False)
    saving.save(load(str(folder)), tmp_path / "second")
    given, again = (
        content(place, "tokenizer_config.json") for place in (folder, tmp_path / "second")
    )
    assert given == again
    assert (tmp_path / "second" / "tokenizer.json").read_text() == byte_tokenizer_json()
