"""Models of any family's shape without weights."""

import pytest

from gemb.checks import UserError
from gemb.pretrained.adapt import take_layers
from gemb.pretrained.folder import config_of, family_of
from gemb.pretrained.from_config import from_config
from gemb.processors.text import TextProcessor
from gemb.tokenizers.tokenizer import byte_tokenizer_json

CONFIG = {
    "model_type": "qwen3", "vocab_size": 512, "hidden_size": 32, "intermediate_size": 64,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "max_position_embeddings": 128,
}  # fmt: skip


def test_the_config_makes_the_shape(tmp_path):
    (tmp_path / "tokenizer.json").write_text(byte_tokenizer_json())
    for tokenizer in ({}, {"tokenizer": str(tmp_path)}):
        model = from_config(
            config=CONFIG, pooling="lasttoken", max_length=64, projection=(48, 24), widths=(24, 8),
            **tokenizer,
        )  # fmt: skip
        stack = model.spec.encoder.stack
        assert (stack.width, stack.layers, stack.kv_heads, stack.head_norm) == (32, 2, 2, True)
        assert (model.spec.dim, model.spec.widths, model.params) == (24, (24, 8), None)
        assert not any(layer.bias for layer in model.spec.document.dense)
        tower = model.document
        assert family_of(tower).text_spec(config_of(tower)) == model.spec.encoder
        assert tower.processor == TextProcessor(byte_tokenizer_json(), 64)


MODERNBERT = {
    "model_type": "modernbert", "vocab_size": 512, "hidden_size": 32, "intermediate_size": 64,
    "num_hidden_layers": 7, "num_attention_heads": 4, "max_position_embeddings": 128,
}  # fmt: skip


def test_what_a_config_leaves_out_is_as_in_transformers():
    window = {"use_sliding_window": True, "sliding_window": 16}
    made = from_config(config=CONFIG | window, max_length=64)  # max_window_layers is 28
    assert set(made.spec.encoder.stack.windows) == {0}
    made = from_config(config=CONFIG | {"model_type": "mistral"}, max_length=64)
    assert set(made.spec.encoder.stack.windows) == {4096 + 1 - made.spec.encoder.stack.causal}
    without = CONFIG | {"model_type": "mistral", "sliding_window": None}
    made = from_config(config=without, max_length=64)
    assert set(made.spec.encoder.stack.windows) == {0}


def test_layers_that_no_config_can_tell_are_refused_before_training():
    whole = from_config(config=MODERNBERT, max_length=64).document
    with pytest.raises(ValueError, match=r"a modernbert config.json cannot describe \[1, 3, 5\]"):
        take_layers(whole, (1, 3, 5))


@pytest.mark.parametrize("layers", [(0, 2, 4), (0, 3, 6), (0, 1, 3, 5)])
def test_layers_of_a_pattern_that_the_config_only_implies_can_be_told_again(layers):
    whole = from_config(config=MODERNBERT, max_length=64).document
    student = take_layers(whole, layers)
    windows = whole.spec.encoder.stack.windows
    assert student.spec.encoder.stack.windows == tuple(windows[layer] for layer in layers)
    assert family_of(student).text_spec(config_of(student)) == student.spec.encoder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": CONFIG | {"model_type": "qwen33"}}, "unknown model_type 'qwen33'.*qwen3"),
        (
            {"config": CONFIG | {"vocab_size": 8}},
            "vocab_size is 8, the tokenizer gives ids up to 258",
        ),
        ({"config": {"model_type": "qwen3"}}, "'vocab_size' is missing"),
        (
            {"config": CONFIG | {"layer_types": ["full_attention", "chunked"]}},
            "layer_types: expected a list of full_attention and sliding_attention or null",
        ),
    ],
)
def test_mistakes_are_told(options, message):
    with pytest.raises(UserError, match=message):
        from_config(**options)
