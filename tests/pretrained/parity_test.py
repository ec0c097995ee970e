"""Vectors equal to those of sentence-transformers, from folders that transformers itself wrote."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from gemb import Embedder
from gemb.checks import UserError
from gemb.files import cache_dir
from gemb.models.model import Model, Origin, Tower
from gemb.models.spec import TowerSpec
from gemb.pretrained import saving
from gemb.pretrained.adapt import load
from gemb.pretrained.families import FAMILIES
from gemb.processors.text import TextProcessor
from gemb.structs import NO_PROMPTS, Prompts
from gemb.tokenizers.tokenizer import byte_tokenizer_json

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
    options = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}
    options["additional_special_tokens"] = ["[PAD]", "[CLS]", "[SEP]"]
    (folder / "tokenizer_config.json").write_text(json.dumps(options))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 48}))
    return model


@pytest.mark.long
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
        ids = embedder.model.processors.document.tokenizer().encode([text])
        with torch.no_grad():
            hidden = reference(torch.tensor(ids)).last_hidden_state[0].mean(0).numpy()
        np.testing.assert_allclose(vector, hidden / np.linalg.norm(hidden), atol=1e-5)


def changed(model: Model, **changes) -> Model:
    """A model of one tower with another spec, processor or origin."""
    return Model.of(dataclasses.replace(model.document, **changes))


@pytest.mark.long
@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "lasttoken"])
def test_saved_folder_gives_the_same_vectors_in_sentence_transformers(tmp_path, pooling):
    peer = pytest.importorskip("sentence_transformers")
    tiny_checkpoint(tmp_path)
    model = load(str(tmp_path))
    spec = dataclasses.replace(model.document.spec, pooling=pooling, widths=(32, 8))
    model = changed(model, spec=spec).with_prompts({"query": "ask: "})
    saving.save(model, tmp_path / "saved", training={"steps": 1})
    embedder = Embedder.load(tmp_path / "saved")
    assert embedder.widths == (32, 8)
    reference = peer.SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    texts = real_texts()
    np.testing.assert_allclose(embedder.encode(texts), reference.encode(texts), atol=1e-5)
    queries = embedder.encode(texts[:9], kind="query")
    assert np.abs(queries - embedder.encode(texts[:9])).max() > 1e-3
    theirs = reference.encode(texts[:9], prompt_name="query")
    np.testing.assert_allclose(queries, theirs, atol=1e-5)


@pytest.mark.long
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
    saving.save(model, tmp_path / "saved")
    again = load(str(tmp_path / "saved"))
    assert model.params.keys() == again.params.keys()
    for path, value in model.params.items():
        np.testing.assert_array_equal(value, again.params[path], err_msg=path)
    assert again.document.origin.kept.keys() == {"pooler.dense.weight", "pooler.dense.bias"}


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
        ({"hidden_act": "mish"}, r'config.json: hidden_act: expected one of .*, got "mish"'),
        ({"vocab_size": 200}, r"gives ids up to 258 .*, but the weights have only 200 rows"),
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


LONG = ["Ein Text, with CAPITALS and more words than twenty tokens hold: " * 3, "Short."]


def saved_with(tmp_path, prompts=NO_PROMPTS, **changes):
    """A saved model, and the same texts' vectors by sentence-transformers."""
    peer = pytest.importorskip("sentence_transformers")
    tiny_checkpoint(tmp_path)
    tower = load(str(tmp_path)).document
    spec = dataclasses.replace(tower.spec, **changes)
    processor = dataclasses.replace(tower.processor, prompts=prompts)
    saved = Model.of(dataclasses.replace(tower, spec=spec, processor=processor))
    saving.save(saved, tmp_path / "saved")
    return tmp_path / "saved", lambda place: peer.SentenceTransformer(str(place), device="cpu")


def test_a_length_that_sentence_transformers_saved_is_kept(tmp_path):
    folder, reference = saved_with(tmp_path)
    theirs = reference(folder)
    theirs.max_seq_length = 20
    theirs.save(str(tmp_path / "theirs"))
    ours = Embedder.load(tmp_path / "theirs")
    assert ours.model.processors.document.max_length == 20
    expected = reference(tmp_path / "theirs").encode(LONG)
    np.testing.assert_allclose(ours.encode(LONG), expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_the_lower_case_of_a_folder_is_made(tmp_path, kind):
    folder, reference = saved_with(tmp_path)
    (folder / "sentence_bert_config.json").unlink()
    settings = {"max_seq_length": 24, "do_lower_case": True}
    (folder / f"sentence_{kind}_config.json").write_text(json.dumps(settings))
    ours = Embedder.load(folder)
    np.testing.assert_allclose(ours.encode(LONG), reference(folder).encode(LONG), atol=1e-5)
    np.testing.assert_array_equal(ours.encode(LONG), ours.encode([t.lower() for t in LONG]))
    saving.save(ours.model, tmp_path / "again")
    theirs = reference(tmp_path / "again").encode(LONG)
    np.testing.assert_allclose(ours.encode(LONG), theirs, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "weightedmean"])
def test_a_prompt_that_is_not_pooled_is_left_out_as_there(tmp_path, pooling):
    prompts = Prompts("ask this: ", pooled=False)
    folder, reference = saved_with(tmp_path, prompts, pooling=pooling)
    found = Embedder.load(folder).encode(LONG, kind="query")
    np.testing.assert_allclose(found, reference(folder).encode_query(LONG), atol=1e-5)


def test_the_config_tells_the_precision_of_what_is_saved(tmp_path):
    tiny_checkpoint(tmp_path)
    model = load(str(tmp_path))
    origin = model.document.origin
    config = origin.config | {"dtype": "bfloat16"}
    half = changed(model, origin=dataclasses.replace(origin, config=config))
    for dtype in ("float32", "bfloat16"):
        saving.save(half, tmp_path / dtype, dtype=dtype)
        config = json.loads((tmp_path / dtype / "config.json").read_text())
        assert (config["torch_dtype"], "dtype" in config) == (dtype, False)


def test_what_is_missing_or_in_another_order_is_told(tmp_path):
    tiny_checkpoint(tmp_path)
    folder = tmp_path / "saved"

    def fresh(**options):
        saving.save(load(str(tmp_path), **options), folder)
        return folder

    (fresh() / "1_Pooling" / "config.json").unlink()
    with pytest.raises(UserError, match=r"1_Pooling/config\.json: cannot be read"):
        load(str(folder))
    steps = json.loads((fresh(projection=(8,)) / "modules.json").read_text())
    steps[2:] = steps[:1:-1]
    (folder / "modules.json").write_text(json.dumps(steps))
    with pytest.raises(UserError, match="Dense after Normalize is not supported"):
        load(str(folder))
    dense = fresh(projection=(8,)) / "2_Dense" / "config.json"
    whole = json.loads(dense.read_text())
    for key, value in (("use_residual", True), ("module_input_name", "token_embeddings")):
        dense.write_text(json.dumps(whole | {key: value}))
        with pytest.raises(UserError, match=f"{key}: expected .*, the only value that gemb"):
            load(str(folder))
    shutil.rmtree(fresh(pooling="attention") / "gemb")
    with pytest.raises(UserError, match="saved/gemb"):
        load(str(folder))


def test_a_narrow_vector_of_nothing_is_zero_as_the_whole_one(tmp_path):
    config = {"model_type": "static", "vocab_size": 512, "hidden_size": 8}
    spec = TowerSpec(FAMILIES["static"].text_spec(config), widths=(8, 4))
    params = {"text/token/table": np.random.default_rng(0).normal(size=(512, 8)).astype("float32")}
    processor = TextProcessor(byte_tokenizer_json(), 16)
    made = Tower(spec, params, processor, Origin(config=config))
    saving.save(Model.of(made), tmp_path / "static")
    embedder = Embedder.load(tmp_path / "static")
    for dim in (8, 4):
        lengths = np.linalg.norm(embedder.encode(["", "a"], dim=dim), axis=1)
        np.testing.assert_allclose(lengths, [0, 1], atol=1e-6)
