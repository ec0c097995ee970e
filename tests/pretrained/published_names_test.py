"""Names under which models are published: old norms, wrappers, model2vec, Nomic's hub, rotary."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from gemb.checks import UserError
from gemb.inference.embedder import Embedder
from gemb.pretrained.families import FAMILIES
from gemb.pretrained.folder import read

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
TEXTS = ["a b c", "words o f letters", "z", "q r s t u v w x y z a b c d e f"]
SHAPE = {
    "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 64,
}  # fmt: skip


def word_level(folder) -> Tokenizer:
    """tokenizer.json of one token a letter, which transformers takes as it is."""
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    options = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(options))
    return tokenizer


def save(folder, kind: str, **options):
    """A folder with a random model of transformers' class, and the model."""
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}Model")(
        getattr(transformers, f"{kind}Config")(**SHAPE | options)
    )
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.2 * torch.randn_like(parameter)
        else:
            parameter.data *= 4.0  # so that attention is far from uniform
    model.save_pretrained(folder)
    word_level(folder)
    return model.eval()


def pooled(folder, texts=TEXTS) -> np.ndarray:
    """Vectors of transformers' own class, each text alone, mean over tokens, unit length."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer, vectors = transformers.AutoTokenizer.from_pretrained(folder), []
    with torch.no_grad():
        for text in texts:
            tokens = tokenizer(text, return_tensors="pt")
            hidden = model(tokens["input_ids"]).last_hidden_state
            vectors.append(torch.nn.functional.normalize(hidden.mean(1))[0].numpy())
    return np.stack(vectors)


def renamed(folder, rename) -> None:
    file = folder / "model.safetensors"
    save_file({rename(name): value for name, value in load_file(file).items()}, file)


def old_norms(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
        "LayerNorm.bias", "LayerNorm.beta"
    )


@pytest.mark.peers
@pytest.mark.parametrize("prefix", ["", "bert.", "0.auto_model.", "encoder.", "module.bert."])
def test_old_norms_and_prefixes_are_read(prefix, tmp_path):
    save(tmp_path, "Bert")
    expected = read(str(tmp_path)).params
    renamed(tmp_path, lambda name: prefix + old_norms(name))
    assert f"{prefix}embeddings.LayerNorm.gamma" in load_file(tmp_path / "model.safetensors")
    for path, value in read(str(tmp_path)).params.items():
        np.testing.assert_array_equal(value, expected[path])


@pytest.mark.peers
def test_one_tensor_under_two_names_is_refused(tmp_path):
    save(tmp_path, "Bert")
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    save_file(
        tensors | {"embeddings.LayerNorm.gamma": 2 * tensors["embeddings.LayerNorm.weight"]}, file
    )
    with pytest.raises(UserError, match=r"LayerNorm.* and .*LayerNorm.* are the same tensor"):
        read(str(tmp_path))


def static_folder(folder, **tensors) -> None:
    word_level(folder)
    kinds = [("", "StaticEmbedding"), ("1_Normalize", "Normalize")]
    steps = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(steps))
    save_file(tensors, folder / "model.safetensors")


RANDOM = np.random.default_rng(0)
MODEL2VEC = {
    "plain": {"embeddings": RANDOM.normal(size=(31, 8)).astype(np.float32)},
    "half": {"embeddings": RANDOM.normal(size=(31, 8)).astype(np.float16)},
    "mapped": {
        "embeddings": RANDOM.normal(size=(5, 8)).astype(np.float32),
        "mapping": RANDOM.integers(0, 5, size=31),
    },
    "weighted": {
        "embeddings": RANDOM.normal(size=(31, 8)).astype(np.float16),
        "weights": RANDOM.uniform(size=31),
    },
    "all": {
        "embeddings": RANDOM.normal(size=(5, 8)).astype(np.float32),
        "mapping": RANDOM.integers(0, 5, size=31),
        "weights": RANDOM.uniform(size=31).astype(np.float32),
    },
}


@pytest.mark.peers
@pytest.mark.parametrize("name", MODEL2VEC)
def test_model2vec_folders_equal_sentence_transformers(name, tmp_path):
    peer = pytest.importorskip("sentence_transformers")
    static_folder(tmp_path, **MODEL2VEC[name])
    text = {"model_type": "model2vec", "normalize": False, "seq_length": 2}
    (tmp_path / "config.json").write_text(json.dumps(text))  # which the other library overlooks
    long = "".join(np.random.default_rng(1).choice(list("abcdef"), 3000))
    texts = [*TEXTS, long]
    expected = peer.SentenceTransformer(str(tmp_path), device="cpu").encode(texts)
    found = Embedder.load(tmp_path).encode(texts)
    # the other library averages float16 tables in float16, and adds 3,000 vectors one by one
    half = expected.dtype == np.float16 or name in ("half", "weighted")
    np.testing.assert_allclose(found[:-1], expected[:-1], atol=3e-3 if half else 2e-6)
    np.testing.assert_allclose(found[-1], expected[-1], atol=3e-3 if half else 5e-5)


@pytest.mark.peers
def test_a_static_model_is_cut_where_its_tokenizer_cuts(tmp_path):
    peer = pytest.importorskip("sentence_transformers")
    static_folder(tmp_path, **MODEL2VEC["plain"])
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for side in ("right", "left"):
        tokenizer.enable_truncation(3, direction=side)
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        expected = peer.SentenceTransformer(str(tmp_path), device="cpu").encode(["abcdefg"])
        ours = Embedder.load(tmp_path).encode(["abcdefg"])
        np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"table": np.zeros((31, 8))}, r"tensor embedding.weight \(or embeddings, of model2vec\)"),
        ({"mapping": np.full(31, 40)}, "mapping: expected rows of the 31 embeddings"),
        ({"weights": np.zeros(4)}, r"weights: expected 31 numbers, got \(4,\)"),
        ({"other": np.zeros(4)}, "1 tensors left over: other"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tensors, message, tmp_path):
    embeddings = {} if "table" in tensors else MODEL2VEC["plain"]
    static_folder(tmp_path, **embeddings, **tensors)
    with pytest.raises(UserError, match=message):
        read(str(tmp_path))


HUB = {
    "n_embd": 32, "n_head": 4, "n_inner": 48, "n_layer": 2, "n_positions": 64, "vocab_size": 40,
    "type_vocab_size": 2, "layer_norm_epsilon": 1e-12, "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0, "rotary_scaling_factor": None, "causal": False,
    "qkv_proj_bias": False, "mlp_fc1_bias": False, "mlp_fc2_bias": False, "prenorm": False,
    "model_type": "nomic_bert", "activation_function": "swiglu",
}  # fmt: skip


@pytest.mark.peers
@pytest.mark.parametrize(("name", "own"), [("swiglu", "silu"), ("geglu", "gelu")])
def test_the_hub_keys_of_nomic_equal_transformers(name, own, tmp_path):
    save(tmp_path, "NomicBert", hidden_act=own)
    expected = pooled(tmp_path)
    content = HUB | {"activation_function": name}
    (tmp_path / "config.json").write_text(json.dumps(content))
    np.testing.assert_allclose(Embedder.load(tmp_path).encode(TEXTS), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("activation_function", "gelu"), ("causal", True), ("qkv_proj_bias", True),
        ("mlp_fc1_bias", True), ("mlp_fc2_bias", True), ("rotary_emb_fraction", 0.5),
        ("rotary_emb_interleaved", True), ("prenorm", True), ("parallel_block", True),
        ("rotary_emb_scale_base", 512), ("scale_attn_weights", False), ("use_rms_norm", True),
    ],
)  # fmt: skip
def test_variants_of_nomic_that_are_not_computed_are_refused(key, value):
    FAMILIES["nomic_bert"].text_spec(HUB)
    with pytest.raises(UserError, match=r"config\.json: "):
        FAMILIES["nomic_bert"].text_spec(HUB | {key: value})


HALF = [1.0, 1.5, 2.0, 3.0]
SCALINGS = {
    "theta": {"rope_theta": 500.0},
    "linear, old": {"rope_scaling": {"type": "linear", "factor": 3.0}},
    "linear, new": {"rope_parameters": {"rope_type": "linear", "factor": 3, "rope_theta": 99.0}},
    "dynamic": {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}},
    "llama3": {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 16}},
    "yarn": {"rope_scaling": {"type": "yarn", "factor": 4.0,
             "original_max_position_embeddings": 16}},
    "yarn, all": {"rope_theta": 1000.0, "rope_parameters": {
        "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8, "beta_fast": 8,
        "beta_slow": 2, "mscale": 0.7, "mscale_all_dim": 0.9, "truncate": False}},
    "yarn, attention": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0,
                        "original_max_position_embeddings": 16, "attention_factor": 1.3}},
    "longrope": {"original_max_position_embeddings": 8, "rope_scaling": {
        "rope_type": "longrope", "short_factor": HALF, "long_factor": HALF[::-1]}},
    "longrope, factor": {"rope_parameters": {
        "rope_type": "longrope", "short_factor": HALF, "long_factor": HALF[::-1], "factor": 4.0,
        "original_max_position_embeddings": 8}},
}  # fmt: skip


@pytest.mark.peers
@pytest.mark.parametrize("name", SCALINGS)
def test_rotary_scalings_equal_transformers(name, tmp_path):
    """One text is shorter and one longer than original_max_position_embeddings."""
    save(tmp_path, "Llama", num_key_value_heads=2)
    plain = pooled(tmp_path)
    file = tmp_path / "config.json"
    content = json.loads(file.read_text())
    content.pop("rope_parameters", None)
    content.pop("architectures")  # so that tokens are averaged
    file.write_text(json.dumps(content | SCALINGS[name]))
    expected = pooled(tmp_path)
    assert (name == "dynamic") == np.allclose(plain, expected, atol=1e-4)
    np.testing.assert_allclose(Embedder.load(tmp_path).encode(TEXTS), expected, atol=1e-5)


KINDS = {
    "full_attention": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 5000.0,
                       "original_max_position_embeddings": 16},
    "sliding_attention": {"rope_type": "default", "rope_theta": 300.0},
}  # fmt: skip
BY_KIND = {
    "gemma, new": ("Gemma3Text", {"rope_parameters": KINDS}),
    "gemma, old": ("Gemma3Text", {"rope_theta": 5000.0, "rope_local_base_freq": 200.0,
                   "rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
    "modernbert, new": ("ModernBert", {"rope_parameters": KINDS}),
    "modernbert, old": ("ModernBert", {"global_rope_theta": 5000.0, "local_rope_theta": 200.0,
                        "rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
}  # fmt: skip


@pytest.mark.peers
@pytest.mark.parametrize("name", BY_KIND)
def test_rotary_positions_of_each_kind_of_layer_equal_transformers(name, tmp_path):
    kind, options = BY_KIND[name]
    sizes = {"head_dim": 8, "sliding_window": 6} if kind == "Gemma3Text" else {"local_attention": 6}
    if kind == "ModernBert":
        sizes |= {"pad_token_id": 0, "global_attn_every_n_layers": 2}
    else:
        sizes["layer_types"] = ["sliding_attention", "full_attention"]
    save(tmp_path, kind, **sizes)
    file = tmp_path / "config.json"
    content = json.loads(file.read_text())
    for key in ("rope_parameters", "architectures", "rope_theta", "rope_local_base_freq"):
        content.pop(key, None)
    file.write_text(json.dumps(content | options))
    np.testing.assert_allclose(Embedder.load(tmp_path).encode(TEXTS), pooled(tmp_path), atol=1e-5)


LLAMA = SHAPE | {"model_type": "llama"}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"rope_scaling": {"type": "mrope"}}, "rope_type 'mrope' is not one of"),
        ({"rope_scaling": {"type": "linear"}}, "key 'factor' is missing"),
        ({"rope_scaling": {"type": "linear", "factor": "x"}}, "factor: expected a number"),
        ({"rope_scaling": {"type": "default", "odd": 1}}, "odd: gemb does not know this key"),
        ({"rope_parameters": KINDS}, "expected one object for all layers"),
        ({"rope_scaling": {"type": "linear", "factor": 2, "partial_rotary_factor": 0.5}},
         "partial_rotary_factor"),
    ],
)  # fmt: skip
def test_rotary_positions_that_are_not_computed_are_refused(config, message):
    with pytest.raises(UserError, match=message):
        FAMILIES["llama"].text_spec(LLAMA | config)
