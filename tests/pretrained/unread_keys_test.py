"""Settings of published folders that gemb reads, warns of, or refuses by name."""

import json
import shutil

import numpy as np
import pytest
from edited_folders import write_folder

from gemb.checks import UserError
from gemb.pretrained.adapt import load
from gemb.pretrained.families import FAMILIES

pytestmark = pytest.mark.peers
FIRST = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
POOLING = {
    "idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling",
}  # fmt: skip
DECODER = {
    "vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 24, "max_position_embeddings": 64, "num_key_value_heads": 4, "head_dim": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The folder of a tiny BERT with a pooler, a projection and a norm."""
    pytest.importorskip("sentence_transformers")
    made = tmp_path_factory.mktemp("bert")
    write_folder("bert", made)
    return made / "model"


@pytest.fixture
def folder(published, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(published, tmp_path / "model")


def change(folder, file: str, **values) -> None:
    """Sets keys of a JSON file, which is made if there is none."""
    path = folder / file
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | values))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (
            [FIRST, POOLING | {"path": "2_Dense", "type": "pylate.models.Dense.Dense"}],
            r'modules\.json: type: "pylate\.models\.Dense\.Dense" is not a module that gemb',
        ),
        ([FIRST, POOLING | {"type": "my_code.Pooling"}], '"my_code.Pooling" is not a module'),
        ([FIRST | {"type": "custom_st.Transformer"}, POOLING], '"custom_st.Transformer" is not'),
        (
            [FIRST, POOLING | {"type": "sentence_transformers.models.Normalize"}],
            "expected one Transformer and one Pooling, .* got Transformer",
        ),
        (
            [FIRST, POOLING | {"type": "sentence_transformers.models.WordWeights"}],
            '"sentence_transformers.models.WordWeights" is not a module',
        ),
        ([FIRST, POOLING | {"path": "../1_Pooling"}], "is outside the model folder"),
        ([FIRST, POOLING | {"name": "0"}], r"name: expected different names .* \['0', '0'\]"),
    ],
)
def test_modules_that_are_not_sentence_transformers_own_are_refused(folder, steps, message):
    (folder / "modules.json").write_text(json.dumps(steps))
    with pytest.raises(UserError, match=message):
        load(str(folder))


@pytest.mark.parametrize("place", ["models", "sentence_transformer.modules", "models.Pooling"])
def test_every_dotted_name_of_a_module_is_known(folder, place):
    kind = f"sentence_transformers.{place}.Pooling"
    (folder / "modules.json").write_text(json.dumps([FIRST, POOLING | {"type": kind}]))
    assert load(str(folder)).document.spec.pooling == "mean"


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("config_sentence_transformers.json", {"truncate_dim": 8}, "truncate_dim: expected null"),
        ("config_sentence_transformers.json", {"similarity_fn_name": "MaxSim"}, "one of .*cosine"),
        ("config_sentence_transformers.json", {"default_prompt_name": "x"}, "default_prompt_name"),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "model_type"),
        (
            "sentence_bert_config.json",
            {"query_length": 5, "document_length": 6},
            "query_length and document_length: .* 5 and 6; make them equal",
        ),
        ("sentence_bert_config.json", {"document_length": 6}, "these are null and 6"),
        ("sentence_bert_config.json", {"tokenizer_args": {"padding_side": "left"}}, "padding_side"),
        ("sentence_bert_config.json", {"model_args": {"load_in_8bit": True}}, "load_in_8bit"),
        ("sentence_bert_config.json", {"config_args": {"is_decoder": True}}, "is_decoder"),
        ("sentence_bert_config.json", {"max_seq_length": 16.0}, "max_seq_length: expected a whole"),
        ("sentence_bert_config.json", {"maximum": 16}, "maximum: gemb does not know this key"),
        ("config.json", {"is_decoder": True}, "is_decoder: expected false"),
        ("config.json", {"quantization_config": {"bits": 4}}, "quantization_config: expected null"),
        ("config.json", {"layer_norm_eps": "1e-12"}, 'layer_norm_eps: expected .* got "1e-12"'),
        ("config.json", {"layer_norm_eps": []}, r"layer_norm_eps: expected .* got \[\]"),
        ("config.json", {"model_type": "roberta", "pad_token_id": None}, "pad_token_id: .* null"),
        ("2_Dense/config.json", {"out_features": 12.0}, r"out_features: .* got 12\.0"),
        ("2_Dense/config.json", {"bias": False}, "tensors left over: linear.bias"),
        ("2_Dense/config.json", {"activation_function": "my.Identity"}, "activation_function"),
        ("1_Pooling/config.json", {"pooling_mode": "mean_sqrt_len_tokens"}, "is not one of"),
        ("3_Normalize/config.json", {"module_output_name": "other"}, "module_output_name"),
        ("adapter_config.json", {"peft_type": "LORA"}, "gemb does not read adapters"),
        ("tokenizer_config.json", {"model_max_length": 0}, "model_max_length: expected a whole"),
    ],
)
def test_what_gemb_does_not_compute_is_refused_by_file_and_key(folder, file, values, message):
    change(folder, file, **values)
    with pytest.raises(UserError, match=message) as caught:
        load(str(folder))
    assert "\n" not in str(caught.value)
    assert file in str(caught.value) or file.startswith("2_Dense")


@pytest.mark.parametrize(
    ("values", "length"),
    [
        ({"max_seq_length": 9}, 9),
        ({"processing_kwargs": {"text": {"max_length": 6, "truncation": True}}}, 6),
        ({"max_seq_length": None, "tokenizer_args": {"model_max_length": 7}}, 7),
        ({"max_seq_length": 9, "processor_kwargs": {"model_max_length": 7}}, 7),
        ({"max_seq_length": 9, "query_length": 5, "document_length": 5}, 5),
    ],
)
def test_every_key_of_the_length_is_read(folder, values, length):
    change(folder, "sentence_bert_config.json", **values)
    assert load(str(folder)).document.processor.max_length == length


def test_arguments_replace_keys_of_config_json(folder):
    change(folder, "sentence_bert_config.json", config_args={"hidden_act": "relu"})
    assert load(str(folder)).document.spec.encoder.stack.activation == "relu"


@pytest.mark.parametrize("name", ["cosine", "dot", "euclidean", "manhattan", None])
def test_the_similarity_is_kept_with_the_model(folder, name):
    change(folder, "config_sentence_transformers.json", similarity_fn_name=name)
    assert load(str(folder)).spec.similarity == (name or "cosine")


@pytest.mark.parametrize(
    "file", ["config.json", "config_sentence_transformers.json", "2_Dense/config.json"]
)
def test_unknown_keys_are_named_in_one_line(folder, file, capsys):
    before = load(str(folder)).params
    assert capsys.readouterr().err == ""
    change(folder, file, colour=1, shade=2)
    after = load(str(folder)).params
    warning = capsys.readouterr().err
    assert warning == (
        f"warning: {folder / file}: gemb does not know colour, shade, and leaves them out\n"
    )
    assert all(np.array_equal(before[path], after[path]) for path in before)


@pytest.mark.parametrize(
    ("kind", "keys", "causal"),
    [
        ("llama", {}, True),
        ("llama", {"is_causal": False}, False),
        ("llama", {"is_causal": False, "use_bidirectional_attention": True}, False),
        ("gemma", {"use_bidirectional_attention": None}, True),
        ("gemma", {"use_bidirectional_attention": True}, None),
        ("qwen3", {"is_causal": True, "use_bidirectional_attention": True}, None),
        ("gemma3_text", {"use_bidirectional_attention": True}, False),
        ("gemma3_text", {"is_causal": False}, None),
    ],
)
def test_how_a_decoder_attends_is_read_or_refused(kind, keys, causal):
    config = DECODER | {"model_type": kind} | keys
    if causal is None:
        with pytest.raises(UserError, match="|".join(keys)):
            FAMILIES[kind].text_spec(config)
    else:
        assert FAMILIES[kind].text_spec(config).stack.causal is causal
