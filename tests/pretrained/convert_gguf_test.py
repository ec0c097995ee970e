"""GGUF files of Llama: weights, the order of rotary pairs, tokenizers."""

import json

import numpy as np
import pytest
from foreign_models import (
    HEAD_SIZE,
    HEADS,
    KEY_HEADS,
    byte_level_fields,
    interleaved,
    llama_weights,
    save_gguf,
)
from safetensors.numpy import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from gemb.checks import UserError
from gemb.pretrained.adapt import load
from gemb.pretrained.convert import convert, gguf_llama

gguf = pytest.importorskip("gguf")
VOCAB = 288
TEXTS = (
    "How do I flatten a nested list?", "In 2024 there were 1234567 of 89.", "don't   stop\n\n\tnow",
    "naïve café, Straße — 日本語のテキスト 🙂", "", " ", "<|start|>user<|end|>", "x" * 50,
)  # fmt: skip


@pytest.fixture(scope="module")
def byte_level():
    """A BPE such as SmolLM's, trained on a few lines by the tokenizers library."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<|start|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        [TEXTS[0] * 3, "a list of the nested lists, stopping now"], trainer
    )
    return tokenizer


@pytest.fixture(scope="module")
def fields(byte_level):
    return byte_level_fields(byte_level)


def read(path, **options):
    checkpoint = gguf_llama.read(path, **options)
    return checkpoint.config, dict(checkpoint.tensors), checkpoint.files


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_float_files_give_the_weights_back(tmp_path, fields, tied, bias):
    weights = llama_weights(VOCAB, tied=tied, bias=bias)
    config, tensors, _ = read(save_gguf(tmp_path / "m.gguf", weights, fields=fields.items()))
    assert set(tensors) == set(weights)
    for name, value in weights.items():
        np.testing.assert_array_equal(tensors[name], value)
    expected = {
        "model_type": "llama", "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 5000.0,
        "tie_word_embeddings": tied, "attention_bias": bias, "mlp_bias": bias,
        "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
    }  # fmt: skip
    assert {name: config[name] for name in expected} == expected


# Of a block of 32 values: 8 bits, and 4 bits, of its largest magnitude; a float16 has 11 bits.
@pytest.mark.parametrize(
    ("kind", "steps"), [("F16", 2**11), ("BF16", 2**8), ("Q8_0", 127), ("Q4_0", 8)]
)
def test_quantized_files_come_within_a_step(tmp_path, fields, kind, steps):
    weights = llama_weights(VOCAB)
    path = save_gguf(tmp_path / "m.gguf", weights, kind=kind, fields=fields.items())
    _, tensors, _ = read(path)
    differs = 0
    for name, value in weights.items():
        if value.ndim == 1:
            np.testing.assert_array_equal(tensors[name], value)
            continue
        blocks = value.reshape(-1, 32)
        error = np.abs(tensors[name].reshape(-1, 32) - blocks)
        assert (error <= np.abs(blocks).max(axis=1, keepdims=True) / steps * 1.01).all(), name
        differs += error.max() > 0
    assert differs > 5, "nothing was quantised"


@pytest.mark.parametrize("heads", [HEADS, KEY_HEADS, 1])
def test_rotary_rows_come_back_in_order(heads):
    weight = np.arange(heads * HEAD_SIZE * 3.0).reshape(heads * HEAD_SIZE, 3)
    stored = interleaved(weight, heads)
    assert not np.array_equal(stored, weight)
    np.testing.assert_array_equal(gguf_llama.unpermute(stored, heads), weight)
    np.testing.assert_array_equal(gguf_llama.unpermute(stored[:, 0], heads), weight[:, 0])


def test_rotation_by_pairs_equals_rotation_by_halves():
    """llama.cpp turns (2 i, 2 i + 1), Hugging Face (i, i + size / 2), to the same scores."""
    random, half = np.random.default_rng(0), HEAD_SIZE // 2
    query, key = random.normal(size=(2, HEAD_SIZE, 16))  # of one head, as the GGUF file has them
    x, y = random.normal(size=(2, 16))
    angles = 5000.0 ** (-np.arange(half) / half)

    def turned(vector, position, first, second):
        result, turn = np.empty_like(vector), position * angles
        result[first] = vector[first] * np.cos(turn) - vector[second] * np.sin(turn)
        result[second] = vector[first] * np.sin(turn) + vector[second] * np.cos(turn)
        return result

    pairs = (slice(0, None, 2), slice(1, None, 2))
    halves = (slice(0, half), slice(half, None))
    expected = turned(query @ x, 7, *pairs) @ turned(key @ y, 3, *pairs)
    query, key = (gguf_llama.unpermute(weight, heads=1) for weight in (query, key))
    actual = turned(query @ x, 7, *halves) @ turned(key @ y, 3, *halves)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


@pytest.mark.peers
@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
def test_transformers_reads_the_same(tmp_path, fields, kind):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    path = save_gguf(tmp_path / "m.gguf", llama_weights(VOCAB), kind=kind, fields=fields.items())
    folder = convert(path, tmp_path / "out", say=lambda line: None)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    expected = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=model)
    tensors = load_file(folder / "model.safetensors")
    assert set(expected["tensors"]) == set(tensors) == set(model.state_dict())
    for name, value in expected["tensors"].items():
        np.testing.assert_array_equal(tensors[name], value.numpy())
    config = json.loads((folder / "config.json").read_text())
    for name in ("num_attention_heads", "num_key_value_heads", "hidden_size", "rope_theta"):
        assert config[name] == expected["config"][name]
    assert model.config.rope_parameters["rope_theta"] == 5000.0
    assert torch.isfinite(model(torch.tensor([[2, 3, 4]])).logits).all()


def test_byte_level_tokenizer(tmp_path, byte_level, fields):
    byte_level = Tokenizer.from_str(byte_level.to_str())
    chat = fields | {"tokenizer.chat_template": "{{ messages }}"}
    path = save_gguf(tmp_path / "m.gguf", llama_weights(VOCAB), fields=chat.items())
    files = read(path)[2]
    tokenizer = Tokenizer.from_str(files["tokenizer.json"])
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        assert ids == byte_level.encode(text).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text
    config = json.loads(files["tokenizer_config.json"])
    assert config["bos_token"] == "<|start|>"
    assert config["eos_token"] == config["pad_token"] == "<|end|>"
    assert config["chat_template"] == "{{ messages }}"
    assert config["model_max_length"] == 64


def test_bos_and_eos_are_added_where_the_file_says_so(tmp_path, byte_level, fields):
    both = fields | {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True}
    path = save_gguf(tmp_path / "m.gguf", llama_weights(VOCAB), fields=both.items())
    tokenizer = Tokenizer.from_str(read(path)[2]["tokenizer.json"])
    assert tokenizer.encode("a list").ids == [0, *byte_level.encode("a list").ids, 1]
    assert tokenizer.encode("a", "list").tokens.count("<|start|>") == 2


def test_llama3_words(tmp_path, fields):
    words = fields | {"tokenizer.ggml.pre": "llama-bpe"}
    path = save_gguf(tmp_path / "m.gguf", llama_weights(VOCAB), fields=words.items())
    tokenizer = Tokenizer.from_str(read(path)[2]["tokenizer.json"])
    cut = [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str("It'S 12345\n\n ok")]
    assert cut == ["It", "'S", "Ġ", "123", "45", "ĊĊ", "Ġok"]


def test_sentencepiece_tokenizer(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(TEXTS[:4] * 20) + "\nthe nested lists are nested again\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(tmp_path / "bpe"), model_type="bpe", vocab_size=400,
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        split_digits=True, minloglevel=2,
    )  # fmt: skip
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "bpe.model"))
    numbers = range(model.get_piece_size())
    kinds = {"unknown": 2, "control": 3, "byte": 6}

    def kind(number):
        return next((v for k, v in kinds.items() if getattr(model, f"is_{k}")(number)), 1)

    fields = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [model.id_to_piece(n) for n in numbers],
        "tokenizer.ggml.scores": [float(model.get_score(n)) for n in numbers],
        "tokenizer.ggml.token_type": [kind(n) for n in numbers],
        "tokenizer.ggml.bos_token_id": model.bos_id(),
        "tokenizer.ggml.eos_token_id": model.eos_id(),
        "tokenizer.ggml.unknown_token_id": model.unk_id(),
    }
    path = save_gguf(tmp_path / "m.gguf", llama_weights(400), fields=fields.items())
    tokenizer = Tokenizer.from_str(read(path)[2]["tokenizer.json"])
    for text in (*TEXTS[:4], *TEXTS[7:]):
        ids = tokenizer.encode(text).ids
        assert ids == [model.bos_id(), *model.encode(text)]
        assert tokenizer.decode(ids) == model.decode(model.encode(text))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"general.architecture": "qwen2"}, "architecture 'qwen2'; only 'llama'"),
        ({"llama.attention.head_count": 0}, "head_count: expected a number above 0, got 0"),
        ({"llama.context_length": None}, "context_length: expected a number above 0, got None"),
        ({"llama.feed_forward_length": 32}, r"gate_proj.weight has shape \(64, 32\), expected"),
        ({"llama.rope.dimension_count": 4}, "rotates a part of each head"),
        ({"llama.rope.scaling.type": "yarn"}, r"rotary positions are scaled \(yarn\)"),
        ({"llama.rope.scaling.factor": -1.0}, r"scaling.factor: expected a number, got -1.0"),
        ({"llama.attention.value_length": 4}, "keys and values of different sizes"),
        ({"llama.attention.causal": 1}, "attention.causal: expected a bool, got 1"),
        ({"llama.pooling_type": 4}, "pooling_type: 4 is not one of"),
        ({"llama.logit_scale": 2.0}, "logit_scale = 2.0: gemb does not know this key"),
        ({"tokenizer.ggml.pre": None}, "tokenizer.ggml.pre is missing, .*--tokenizer"),
        ({"split.count": 3}, "one part of several"),
        ({"tokenizer.ggml.model": "bert"}, "tokenizer 'bert' is not known .*--tokenizer"),
        ({"tokenizer.ggml.model": None}, "tokenizer None is not known"),
        ({"tokenizer.ggml.pre": "smolm"}, "'smolm' is not known.*Did you mean smollm"),
        ({"tokenizer.ggml.merges": None}, "holds no tokenizer merges"),
        ({"tokenizer.ggml.tokens": ["a", "b"]}, "2 tokens .* for an embedding table of 288 rows"),
        ({"tokenizer.ggml.merges": ["zz yy"]}, "its tokenizer is broken"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_named(tmp_path, fields, change, message):
    path = save_gguf(tmp_path / "m.gguf", llama_weights(VOCAB), fields=(fields | change).items())
    with pytest.raises(UserError, match=message) as error:
        read(path)
    assert "\n" not in str(error.value)


OLD_KEYS = {
    "scale_linear": ({"llama.rope.scale_linear": 4.0}, 4.0),
    "factor alone": ({"llama.rope.scaling.factor": 4.0}, 4.0),
    "linear": ({"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.5}, 2.5),
    "linear, no factor": ({"llama.rope.scaling.type": "linear"}, None),
    "none": ({"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4.0}, None),
    "1": ({"llama.rope.scaling.factor": 1.0}, None),
}


@pytest.mark.parametrize("name", OLD_KEYS)
def test_linear_rotary_factors_of_all_spellings(name, tmp_path, fields):
    change, factor = OLD_KEYS[name]
    path = save_gguf(tmp_path / "m.gguf", llama_weights(VOCAB), fields=(fields | change).items())
    expected = {"rope_type": "linear", "factor": factor} if factor else None
    assert read(path)[0].get("rope_scaling") == expected


@pytest.mark.parametrize(("number", "pooling"), [(1, "mean"), (2, "cls"), (3, "lasttoken")])
def test_pooling_and_attention_of_the_file_are_kept(number, pooling, tmp_path, fields):
    change = {"llama.pooling_type": number, "llama.attention.causal": False}
    path = save_gguf(tmp_path / "m.gguf", llama_weights(VOCAB), fields=(fields | change).items())
    spec = load(str(convert(path, tmp_path / "out", say=lambda line: None))).document.spec
    assert (spec.pooling, spec.normalize) == (pooling, True)
    assert not spec.encoder.stack.causal


@pytest.mark.parametrize(
    ("drop", "extra", "message"),
    [
        ("model.norm.weight", None, "1 tensors are missing: model.norm.weight"),
        (None, "blk.0.ffn_gate_inp.weight", "1 tensors left over: blk.0.ffn_gate_inp.weight"),
        (None, "rope_freqs.weight", r"rotary positions are scaled \(rope_freqs\)"),
    ],
)
def test_tensors_must_be_those_of_a_llama(tmp_path, fields, drop, extra, message):
    more = [(extra, np.full(4, 2, np.float32))] if extra else []
    path = save_gguf(
        tmp_path / "m.gguf",
        llama_weights(VOCAB),
        fields=fields.items(),
        tensors=more,
        leave_out=[drop],
    )
    with pytest.raises(UserError, match=message):
        read(path)


def test_own_tokenizer_may_be_left_out(tmp_path):
    path = save_gguf(tmp_path / "m.gguf", llama_weights(VOCAB))
    assert read(path, own_tokenizer=False)[2] == {}
