"""Vectors equal to those of sentence-transformers, from folders that transformers itself wrote."""

import dataclasses
import json

import numpy as np
import pytest

from gemb import Embedder
from gemb.cache import cache_dir
from gemb.checks import UserError
from gemb.data.tokenizers import byte_tokenizer_json
from gemb.export import sentence_transformers as export
from gemb.models.pretrained.adapt import load

pytestmark = pytest.mark.peers
MINILM = cache_dir() / "models" / "all-MiniLM-L6-v2"


def real_texts() -> list[str]:
    """200 texts of all lengths: docstrings and source of installed packages, and awkward ones."""
    import inspect

    import numpy.linalg

    awkward = ["", "   ", "\n\t", "a", "naïve café — ünïcödé", "日本語のテキスト", "🙂🙂 emoji"]
    awkward += [
        "\x00\x07",
        "word " * 1000,
        "x" * 5000,
        "MiXeD CaSe",
        "def f(x):\n    return x ** 2\n",
    ]
    members = [getattr(module, name) for module in (np, numpy.linalg) for name in dir(module)]
    docs = [inspect.getdoc(m) for m in members if inspect.isroutine(m) and inspect.getdoc(m)]
    cut = [doc[: 20 + 37 * (i % 40)] for i, doc in enumerate(docs)]
    return (awkward + cut)[:200]


def tiny_checkpoint(folder, **config):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    shape = {
        "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 64, "max_position_embeddings": 64,
    }  # fmt: skip
    model = transformers.BertModel(transformers.BertConfig(**shape | config))
    for name, parameter in model.named_parameters():  # biases and norms start at 0 and 1
        if parameter.ndim == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)
        assert torch.isfinite(parameter).all(), name
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(byte_tokenizer_json())
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 48}))
    return model


@pytest.mark.parametrize(
    "config", [{}, {"hidden_act": "gelu_new"}, {"hidden_act": "relu", "layer_norm_eps": 1e-5}]
)
def test_token_vectors_equal_transformers(tmp_path, config):
    torch = pytest.importorskip("torch")
    reference = tiny_checkpoint(tmp_path, **config).eval()
    embedder = Embedder.load(tmp_path)
    texts = [text[:40] for text in real_texts()[:50]]
    ours = embedder.encode(texts)
    for text, vector in zip(texts, ours, strict=True):
        ids = embedder._tokenizers["document"].encode([text])
        with torch.no_grad():
            hidden = reference(torch.tensor(ids)).last_hidden_state[0].mean(0).numpy()
        np.testing.assert_allclose(vector, hidden / np.linalg.norm(hidden), atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "lasttoken"])
def test_saved_folder_gives_the_same_vectors_in_sentence_transformers(tmp_path, pooling):
    peer = pytest.importorskip("sentence_transformers")
    tiny_checkpoint(tmp_path)
    model = load(str(tmp_path))
    spec = dataclasses.replace(model.spec, pooling=pooling, widths=(32, 8), query_prompt="ask: ")
    export.save(dataclasses.replace(model, spec=spec), tmp_path / "saved", training={"steps": 1})
    embedder = Embedder.load(tmp_path / "saved")
    assert embedder.widths == (32, 8)
    reference = peer.SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    texts = real_texts()
    np.testing.assert_allclose(embedder.encode(texts), reference.encode(texts), atol=1e-5)
    queries = embedder.encode(texts[:9], kind="query")
    assert np.abs(queries - embedder.encode(texts[:9])).max() > 1e-3
    theirs = reference.encode(texts[:9], prompt_name="query")
    np.testing.assert_allclose(queries, theirs, atol=1e-5)


def test_minilm_equals_sentence_transformers_on_200_texts():
    peer = pytest.importorskip("sentence_transformers")
    if not MINILM.exists():
        pytest.skip("all-MiniLM-L6-v2 is not in the cache; run `gemb fetch`")
    texts = real_texts()
    assert len(texts) == 200
    reference = peer.SentenceTransformer(str(MINILM), device="cpu")
    ours = Embedder.load(MINILM).encode(texts)
    np.testing.assert_allclose(ours, reference.encode(texts), atol=1e-5)


def test_a_model_survives_import_and_save_bit_for_bit(tmp_path):
    tiny_checkpoint(tmp_path)
    model = load(str(tmp_path))
    export.save(model, tmp_path / "saved")
    again = load(str(tmp_path / "saved"))
    assert model.params.keys() == again.params.keys()
    for path, value in model.params.items():
        np.testing.assert_array_equal(value, again.params[path], err_msg=path)
    assert again.kept.keys() == {"pooler.dense.weight", "pooler.dense.bias"}


def test_broken_folders_are_one_line(tmp_path):
    tiny_checkpoint(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"not a readable safetensors file"):
        load(str(tmp_path))
    weights.write_bytes(whole)
    config = json.loads((tmp_path / "config.json").read_text())
    cases = [
        ({"num_hidden_layers": 3}, r"tensor encoder\.layer\.2\..* is missing"),
        ({"num_hidden_layers": 1}, r"tensors left over: encoder\.layer\.1"),
        ({"intermediate_size": 65}, r"has shape \(64, 32\), expected \(65, 32\)"),
        ({"model_type": "mamba"}, r"model_type 'mamba' is not supported; known: bert"),
        ({"hidden_act": "mish"}, r"hidden_act 'mish'"),
        ({"vocab_size": 200}, r"knows 259 tokens, but the weights have only 200 rows"),
        ({"max_position_embeddings": 40}, r"max_length: 48 exceeds the model's 40 positions"),
    ]
    for change, message in cases:
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(UserError, match=message):
            load(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        load(str(tmp_path))
    with pytest.raises(UserError, match="gemb fetch"):
        load("no-such-model")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    from safetensors.numpy import load_file, save_file

    tiny_checkpoint(tmp_path)
    tensors = dict(load_file(tmp_path / "model.safetensors"))
    tensors["embeddings.LayerNorm.bias"][3] = np.nan
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"embeddings\.LayerNorm\.bias holds NaN"):
        load(str(tmp_path))
