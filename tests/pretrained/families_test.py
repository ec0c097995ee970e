"""Every family against transformers' own classes: token vectors, gradients, folders."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemb import Embedder
from gemb.checks import UserError
from gemb.models.execution import Execution
from gemb.models.functional import functional
from gemb.pretrained import saving
from gemb.pretrained.adapt import load
from gemb.pretrained.families import FAMILIES
from gemb.pretrained.folder import family_of
from gemb.structs import Tokens
from gemb.tokenizers.tokenizer import byte_tokenizer_json

pytestmark = pytest.mark.peers

SHAPE = {
    "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
T5_SHAPE = {
    "vocab_size": 300, "d_model": 32, "d_kv": 6, "d_ff": 48, "num_layers": 3, "num_heads": 4,
    "relative_attention_max_distance": 12, "relative_attention_num_buckets": 8,
}  # fmt: skip
DISTILBERT_SHAPE = {
    "vocab_size": 300, "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48,
    "max_position_embeddings": 64,
}  # fmt: skip
GROUPED = {"num_key_value_heads": 2, "head_dim": 6}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
}  # fmt: skip
ROPES = {
    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
GEMMA4 = GROUPED | {
    "sliding_window": 3, "sliding_window_pattern": 3, "hidden_size_per_layer_input": 12,
    "embedding_dim": 32,
}  # fmt: skip

# name -> (transformers class, its config class, what differs from the defaults)
VARIANTS = {
    "bert": ("BertModel", "BertConfig", {}),
    "bert-relu": ("BertModel", "BertConfig", {"hidden_act": "relu", "layer_norm_eps": 1e-5}),
    "roberta": ("RobertaModel", "RobertaConfig", {"pad_token_id": 1, "type_vocab_size": 1}),
    "xlm-roberta": ("XLMRobertaModel", "XLMRobertaConfig", {"pad_token_id": 1}),
    "clip_text_model": ("CLIPTextModel", "CLIPTextConfig", {}),
    "distilbert": ("DistilBertModel", "DistilBertConfig", DISTILBERT_SHAPE),
    "mpnet": ("MPNetModel", "MPNetConfig", {"pad_token_id": 1}),
    "modernbert": ("ModernBertModel", "ModernBertConfig", {"local_attention": 10}),
    "modernbert-biases": (
        "ModernBertModel",
        "ModernBertConfig",
        {"attention_bias": True, "mlp_bias": True, "norm_bias": True, "local_attention": 10},
    ),
    "nomic": ("NomicBertModel", "NomicBertConfig", {"type_vocab_size": 2}),
    "t5": ("T5EncoderModel", "T5Config", T5_SHAPE),
    "t5-gated": ("T5EncoderModel", "T5Config", T5_SHAPE | {"feed_forward_proj": "gated-gelu"}),
    "mt5": ("MT5EncoderModel", "MT5Config", T5_SHAPE | {"feed_forward_proj": "gated-gelu"}),
    "llama": ("LlamaModel", "LlamaConfig", {"num_key_value_heads": 1}),
    "llama-biases": (
        "LlamaModel",
        "LlamaConfig",
        {"attention_bias": True, "mlp_bias": True, "rope_parameters": LLAMA3},
    ),
    "llama-bidirectional": ("LlamaModel", "LlamaConfig", {"is_causal": False}),
    "mistral": ("MistralModel", "MistralConfig", GROUPED | {"sliding_window": 5}),
    "mistral-bidirectional": (
        "MistralModel",
        "MistralConfig",
        GROUPED | {"sliding_window": 5, "is_causal": False},
    ),
    "qwen2": ("Qwen2Model", "Qwen2Config", {"num_key_value_heads": 2}),
    "qwen2-windows": (
        "Qwen2Model",
        "Qwen2Config",
        {
            "num_key_value_heads": 4,
            "use_sliding_window": True,
            "sliding_window": 5,
            "max_window_layers": 1,
        },
    ),
    "qwen3": ("Qwen3Model", "Qwen3Config", GROUPED),
    "gemma": ("GemmaModel", "GemmaConfig", {"num_key_value_heads": 1, "head_dim": 6}),
    "gemma2": (
        "Gemma2Model",
        "Gemma2Config",
        GROUPED | {"sliding_window": 5, "query_pre_attn_scalar": 9, "attn_logit_softcapping": 1.5},
    ),
    "gemma3": (
        "Gemma3TextModel",
        "Gemma3TextConfig",
        GROUPED | {"sliding_window": 5, "sliding_window_pattern": 3, "rope_parameters": ROPES},
    ),
    "gemma3-bidirectional": (
        "Gemma3TextModel",
        "Gemma3TextConfig",
        GROUPED | {"sliding_window": 8, "use_bidirectional_attention": True},
    ),
    "embedding_gemma2_text": (
        "EmbeddingGemma2TextModel",
        "EmbeddingGemma2TextConfig",
        GEMMA4 | {"global_head_dim": 10, "num_global_key_value_heads": 1},
    ),
    "embedding_gemma2_text-equal": (
        "EmbeddingGemma2TextModel",
        "EmbeddingGemma2TextConfig",
        GEMMA4 | {"per_layer_config": {}, "attention_bias": True},
    ),
}
DECODERS = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3")
TEXTS = ["a", "some words of a text", "", "another rather longer text, of 50 tokens or so, yes"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """name -> (folder, transformers' model in eval mode), made once."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    made = {}

    def make(name: str):
        if name not in made:
            made[name] = _write(tmp_path_factory.mktemp(name), *VARIANTS[name])
        return made[name]

    return make


def _write(folder, model_class: str, config_class: str, options: dict):
    import torch
    import transformers

    torch.manual_seed(0)
    shape = {} if {"d_model", "dim"} & options.keys() else SHAPE
    config = getattr(transformers, config_class)(**shape | options)
    config._attn_implementation = "eager"
    model = getattr(transformers, model_class)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # norms and biases start at 0 and 1
                parameter += 0.2 * torch.randn_like(parameter)
            elif "t5" not in config.model_type:
                parameter *= 5.0  # so that attention is far from uniform
        for name, buffer in model.named_buffers():
            if name.endswith("layer_scalar"):
                buffer += 0.3 * torch.randn_like(buffer)
    model.save_pretrained(folder)
    tokenizer = json.loads(byte_tokenizer_json())
    if config.pad_token_id == 1:  # as published: <s> is 0, <pad> 1, and padding is known by its id
        tokenizer["model"]["vocab"] |= {"[CLS]": 0, "[PAD]": 1}
        for token in tokenizer["added_tokens"][:2]:
            token["id"] = 1 - token["id"]
        tokenizer["post_processor"]["special_tokens"]["[CLS]"]["ids"] = [0]
    write_tokenizer(folder, json.dumps(tokenizer))
    return folder, model


def write_tokenizer(folder, text: str):
    """tokenizer.json, and that transformers takes it as it is."""
    (folder / "tokenizer.json").write_text(text)
    options = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}
    options["additional_special_tokens"] = ["[PAD]", "[CLS]", "[SEP]"]
    (folder / "tokenizer_config.json").write_text(json.dumps(options))


def _tokens(model, left=False):
    processor = model.processors.document.with_limit(64)
    examples = processor.prepare(TEXTS, "document")
    tokens = processor.collate(examples, max(example.size for example in examples))
    if not left:
        return tokens
    shift = (~tokens.mask).sum(1)
    rolled = [np.stack([np.roll(r, s) for r, s in zip(a, shift, strict=True)]) for a in tokens[:2]]
    return tokens._replace(ids=rolled[0], mask=rolled[1])


def _reference(model, tokens):
    import torch

    ids, mask = torch.tensor(tokens.ids, dtype=torch.long), torch.tensor(tokens.mask).long()
    return model(input_ids=ids, attention_mask=mask, output_hidden_states=True)


def test_every_family_has_a_variant():
    covered = {"gemma3": "gemma3_text", "nomic": "nomic_bert"}
    names = {covered.get(name, name) for name in VARIANTS}
    assert set(FAMILIES) - names == {"camembert", "static"}  # roberta's twin; tested by itself


@pytest.mark.long
@pytest.mark.parametrize("name", VARIANTS)
def test_token_vectors_and_gradients_equal_transformers(checkpoint, name):
    import torch

    folder, model = checkpoint(name)
    loaded = load(str(folder))
    face, tokens = functional(loaded.spec).document, _tokens(loaded)
    probe = np.random.default_rng(0).normal(size=(*tokens.ids.shape, 32)).astype(np.float32)
    probe *= tokens.mask[..., None]

    @jax.jit
    def scalar(params):
        states = face.every_layer(params, tokens)[1]
        return (states[-1] * probe).sum(), states

    (_, states), ours = jax.value_and_grad(scalar, has_aux=True)(loaded.params)
    reference = _reference(model, tokens)
    theirs, real = reference.last_hidden_state, tokens.mask
    assert np.std(theirs.detach().numpy()[real]) > 1e-2
    np.testing.assert_allclose(states[-1][real], theirs.detach().numpy()[real], atol=1e-4)
    layers = reference.hidden_states[1:-1]  # the first are the embeddings
    assert len(layers) == len(states) - 1
    for own, its in zip(states, layers, strict=False):
        if loaded.spec.encoder.output:
            its = model.embedding_projection(its)  # of the last layer's vectors there
        np.testing.assert_allclose(own[real], its.detach().numpy()[real], atol=1e-4)
    model.zero_grad()
    (theirs * torch.tensor(probe)).sum().backward()
    grads = {n: p.grad.numpy() for n, p in model.named_parameters() if p.grad is not None}
    table = family_of(loaded.document).tensors[0](loaded.spec.encoder)
    for path, tensor in table.items():
        if tensor.name in dict(model.named_buffers()):  # published, and not trained
            assert not ours[path].any()
            continue
        expected = np.split(grads[tensor.name], tensor.parts)[tensor.part]
        expected = expected.T if tensor.transposed else expected
        scale = max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(ours[path] / scale, expected / scale, atol=1e-4, err_msg=path)


@pytest.mark.long
@pytest.mark.parametrize("name", VARIANTS)
def test_saved_folder_gives_the_same_vectors_in_sentence_transformers(checkpoint, name, tmp_path):
    peer = pytest.importorskip("sentence_transformers")
    folder, _ = checkpoint(name)
    loaded = load(str(folder), projection=(24, 16), prompts={"query": "x y "})
    saving.save(loaded, tmp_path / "saved")
    again = Embedder.load(tmp_path / "saved")
    reference = peer.SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    texts = [*TEXTS, "x y z " * 7]
    np.testing.assert_allclose(again.encode(texts), reference.encode(texts), atol=1e-5)
    np.testing.assert_array_equal(Embedder(loaded).encode(texts), again.encode(texts))
    asked = reference.encode(texts, prompt_name="query")
    np.testing.assert_allclose(again.encode(texts, kind="query"), asked, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("attention", ["plain", "xla", "splash"])
@pytest.mark.parametrize("name", DECODERS)
def test_bidirectional_tokens_see_the_next_causal_ones_do_not(checkpoint, name, attention):
    if attention != "plain" and name == "gemma2":
        pytest.skip("Gemma 2 caps its scores, which only plain attention does")
    folder, _ = checkpoint(name)
    execution = Execution(attention=attention)
    ids = np.arange(5, 17, dtype=np.int32)[None]
    changed = ids.copy()
    changed[0, 7] = 99
    seen = {}
    for mode in ("bidirectional", "causal"):
        loaded = load(str(folder), attention=mode)
        face = functional(loaded.spec).document
        run = jax.jit(
            lambda i, face=face, p=loaded.params: face.hidden(p, _as_tokens(i), execution)
        )
        seen[mode] = np.abs(np.asarray(run(ids) - run(changed)))[0, 6].max()
    assert seen["bidirectional"] > 1e-3
    assert seen["causal"] == 0


def _as_tokens(ids):
    return Tokens(jnp.asarray(ids), jnp.ones(ids.shape, bool))


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    ["bert", "roberta", "mpnet", "modernbert", "t5", "mistral", "gemma3", "embedding_gemma2_text"],
)
@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken", "weightedmean"])
def test_padding_and_batching_leave_vectors_as_they_are(checkpoint, name, pooling):
    folder, _ = checkpoint(name)
    loaded = load(str(folder), pooling=pooling)
    apply = jax.jit(functional(loaded.spec).document.embed)
    right = apply(loaded.params, _tokens(loaded))
    left = apply(loaded.params, _tokens(loaded, left=True))
    np.testing.assert_allclose(left, right, atol=2e-6)
    tokens = _tokens(loaded)
    for row in range(len(TEXTS)):
        alone = tokens.ids[row : row + 1, : tokens.mask[row].sum()]
        np.testing.assert_allclose(
            apply(loaded.params, _as_tokens(alone))[0], right[row], atol=2e-6
        )


@pytest.mark.long
@pytest.mark.parametrize("name", ["bert", "modernbert", "gemma3", "embedding_gemma2_text"])
def test_looped_and_recomputed_layers_equal_unrolled_ones(checkpoint, name):
    folder, _ = checkpoint(name)
    loaded = load(str(folder))
    face, tokens = functional(loaded.spec).document, _tokens(loaded)
    key = jax.random.key(3)

    def gradient(execution):
        def loss(params):
            vectors = face.embed(params, tokens, execution, key)
            return (vectors * jnp.arange(32)).sum()

        return jax.jit(jax.value_and_grad(loss))(loaded.params)

    base = gradient(Execution(dropout=0.3))
    assert not np.allclose(base[0], gradient(Execution())[0], atol=1e-3)
    for remat in ("full", "dots"):
        other = gradient(Execution(dropout=0.3, layers="scan", remat=remat))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), base, other)


def test_a_subset_of_layers_is_what_transformers_computes_with_those_layers(checkpoint, tmp_path):
    import torch

    folder, model = checkpoint("bert")
    student = load(str(folder), layers=[0, 2])
    tokens = _tokens(student)
    layers = model.encoder.layer
    model.encoder.layer = torch.nn.ModuleList([layers[0], layers[2]])
    try:
        expected = _reference(model, tokens).last_hidden_state.detach().numpy()
    finally:
        model.encoder.layer = layers
    hidden = functional(student.spec).document.hidden(student.params, tokens)
    np.testing.assert_allclose(hidden[tokens.mask], expected[tokens.mask], atol=1e-4)
    saving.save(student, tmp_path / "student")
    assert json.loads((tmp_path / "student/config.json").read_text())["num_hidden_layers"] == 2


@pytest.mark.long
def test_lora_starts_as_the_model_and_merges_into_it(checkpoint, tmp_path):
    folder, _ = checkpoint("llama")
    plain, adapted = load(str(folder)), load(str(folder), lora=(2, 16.0))
    apply = jax.jit(functional(adapted.spec).document.embed)
    tokens = _tokens(plain)
    before = jax.jit(functional(plain.spec).document.embed)(plain.params, tokens)
    np.testing.assert_allclose(apply(adapted.params, tokens), before, atol=1e-6)
    rng = np.random.default_rng(0)
    params = {
        path: rng.normal(size=value.shape).astype(np.float32) if "lora_b" in path else value
        for path, value in adapted.params.items()
    }
    assert sum("lora_b" in path for path in params) == 3 * 7
    moved = adapted.with_params(params)
    after = np.asarray(apply(params, tokens))
    assert np.abs(after - before).max() > 1e-2
    saving.save(moved, tmp_path / "merged")
    merged = load(str(tmp_path / "merged"))
    assert merged.params.keys() == plain.params.keys()
    np.testing.assert_allclose(
        jax.jit(functional(merged.spec).document.embed)(merged.params, tokens), after, atol=1e-5
    )


def test_static_models_equal_sentence_transformers(tmp_path):
    peer = pytest.importorskip("sentence_transformers")
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer

    module = StaticEmbedding(Tokenizer.from_str(byte_tokenizer_json()), embedding_dim=16)
    reference = peer.SentenceTransformer(modules=[module], device="cpu")
    reference.save(str(tmp_path / "static"))
    ours = Embedder.load(tmp_path / "static")
    texts = ["a b c", "words and words", "x" * 600]
    np.testing.assert_allclose(ours.encode(texts), reference.encode(texts), rtol=2e-5, atol=1e-6)
    saving.save(ours.model, tmp_path / "saved")
    again = peer.SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(again.encode(texts), reference.encode(texts), atol=1e-6)


def test_both_spellings_of_nomic_are_read(checkpoint, tmp_path):
    """transformers writes the hub's older names; its own names of the same weights are read too."""
    from safetensors.numpy import load_file, save_file

    folder, model = checkpoint("nomic")
    assert "encoder.layers.0.attn.Wqkv.weight" in load_file(folder / "model.safetensors")
    for file in folder.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    own = {name: value.numpy() for name, value in model.state_dict().items()}
    assert "layers.0.self_attn.q_proj.weight" in own
    save_file(own, tmp_path / "model.safetensors")
    old, new = load(str(folder)), load(str(tmp_path))
    for path, value in old.params.items():
        np.testing.assert_array_equal(new.params[path], value)


def test_bfloat16_and_sharded_files_are_read(checkpoint, tmp_path):
    import torch

    _, model = checkpoint("qwen3")
    half = model.to(torch.bfloat16)
    try:
        half.save_pretrained(tmp_path, max_shard_size="20KB")
    finally:
        expected = {n: p.detach().float().numpy() for n, p in model.named_parameters()}
        model.to(torch.float32)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    write_tokenizer(tmp_path, byte_tokenizer_json())
    loaded = load(str(tmp_path))
    table = family_of(loaded.document).tensors[0](loaded.spec.encoder)
    for path, tensor in table.items():
        value = expected[tensor.name]
        np.testing.assert_array_equal(loaded.params[path], value.T if tensor.transposed else value)


def test_wishes_that_a_model_cannot_fulfil_are_one_line(checkpoint):
    folder, _ = checkpoint("bert")
    cases = [
        ({"attention": "causal"}, "bert models are bidirectional only"),
        ({"attention": "both"}, r"expected one of \['causal', 'bidirectional'\], got 'both'"),
        ({"layers": []}, "layers: expected at least one"),
        ({"layers": [0, 7]}, "layers: 7 is not one of 0 to 2"),
        ({"pooling": "median"}, "pooling: expected one of"),
        ({"max_length": 65}, "max_length: 65 exceeds the model's 64 positions"),
        ({"widths": (33,)}, "widths: expected widths between 1 and 32, got 33"),
    ]
    for wish, message in cases:
        with pytest.raises(UserError, match=message):
            load(str(folder), **wish)


@pytest.mark.long
def test_a_new_pooler_takes_nothing_of_the_old(checkpoint, tmp_path):
    folder, _ = checkpoint("bert")
    learned = load(str(folder), pooling="attention")
    saving.save(learned, tmp_path / "learned")
    for pooling in ("mean", "latent_attention"):
        again = load(str(tmp_path / "learned"), pooling=pooling)
        assert set(again.params) == set(functional(again.spec).shapes)
    assert not [
        path for path in load(str(tmp_path / "learned"), pooling="mean").params if "pooler" in path
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", "[1]", r"config\.json: expected an object, got list"),
        ("config.json", "null", "expected an object, got NoneType"),
        ("config.json", '{"model_type": ["bert"]}', "is not supported"),
        ("gemb.json", "3", r"gemb\.json: expected an object"),
        ("gemb.json", '{"widths": "84"}', "widths: expected a list of whole numbers above 0"),
        ("gemb.json", '{"heads": [1]}', "heads: expected projections by name"),
        ("modules.json", "{}", r"modules\.json: expected a list"),
        ("modules.json", "[]", "names no module"),
        ("modules.json", '[{"type": 1, "path": ""}]', "type: expected a text, got 1"),
        (
            "config_sentence_transformers.json",
            '{"prompts": "x"}',
            "expected texts by name",
        ),
        (
            "sentence_bert_config.json",
            '{"max_seq_length": "x"}',
            'max_seq_length: expected a whole number of at least 1 or null, got "x"',
        ),
        ("sentence_bert_config.json", '{"max_seq_length": 48.5}', r"or null, got 48\.5"),
    ],
)
def test_json_of_another_kind_is_one_line(checkpoint, tmp_path, name, content, message):
    folder, _ = checkpoint("bert")
    saving.save(load(str(folder)), tmp_path / "model")
    (tmp_path / "model" / name).write_text(content)
    with pytest.raises(UserError, match=message):
        load(str(tmp_path / "model"))
