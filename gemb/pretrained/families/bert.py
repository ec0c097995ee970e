"""BERT and its kin (MiniLM, BGE, E5), RoBERTa and XLM-R, which name their tensors alike."""

import dataclasses

from gemb.models.encoders.text import TextSpec
from gemb.models.spec import StackSpec
from gemb.pretrained.families.config_keys import SIZES
from gemb.pretrained.families.family import (
    Family,
    Tensor,
    activation,
    activation_name,
    stack_tensors,
)
from gemb.pretrained.keys import epsilon, only, whole

EMBEDDINGS = {
    "text/token/table": Tensor("embeddings.word_embeddings.weight"),
    "text/position/table": Tensor("embeddings.position_embeddings.weight"),
    "text/type/table": Tensor("embeddings.token_type_embeddings.weight"),
    "text/norm/scale": Tensor("embeddings.LayerNorm.weight"),
    "text/norm/bias": Tensor("embeddings.LayerNorm.bias"),
}
_LINEARS = {
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/output": "attention.output.dense",
    "up": "intermediate.dense",
    "down": "output.dense",
}
_NORMS = {"attention_norm": "attention.output.LayerNorm", "mlp_norm": "output.LayerNorm"}
KEYS = {
    **SIZES,
    "hidden_act": activation_name("gelu"),
    "layer_norm_eps": epsilon(1e-12),
    "position_embedding_type": only("absolute", None),
}
_TYPES = {"type_vocab_size": whole(2)}
_PADDING = {"pad_token_id": whole(1, least=0)}  # positions are counted from the one after it


def text_spec(config: dict) -> TextSpec:
    """The shape that the values of config.json give."""
    roberta = config["model_type"] != "bert"
    return TextSpec(
        vocab=config["vocab_size"],
        positions=config["max_position_embeddings"],
        position_offset=config["pad_token_id"] + 1 if roberta else 0,
        types=config["type_vocab_size"],
        stack=StackSpec(
            layers=config["num_hidden_layers"],
            width=config["hidden_size"],
            heads=config["num_attention_heads"],
            mlp=config["intermediate_size"],
            activation=activation(config),
            norm_epsilon=config["layer_norm_eps"],
        ),
    )


def tensors(spec: TextSpec) -> dict[str, Tensor]:
    """Parameter path -> published tensor."""
    names = dict(EMBEDDINGS)
    return names | stack_tensors(spec.stack.layers, "encoder.layer.{}", _LINEARS, _NORMS)


def config_of(spec: TextSpec) -> dict:
    """The config.json of a BERT of this shape, for models with no published weights."""
    stack = spec.stack
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": spec.vocab,
        "max_position_embeddings": spec.positions,
        "type_vocab_size": spec.types,
        "num_hidden_layers": stack.layers,
        "hidden_size": stack.width,
        "num_attention_heads": stack.heads,
        "intermediate_size": stack.mlp,
        "hidden_act": "gelu_new" if stack.activation == "gelu_tanh" else stack.activation,
        "layer_norm_eps": stack.norm_epsilon,
        "position_embedding_type": "absolute",
        "attention_probs_dropout_prob": 0.1,
        "hidden_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "pad_token_id": 0,
    }


_FAMILY = Family(
    text_spec,
    (tensors,),
    prefixes=("bert.", "roberta."),
    kept=("pooler.", "embeddings.position_ids"),
    dropped=("cls.", "lm_head.", "classifier."),
    keys=KEYS | _TYPES,
)
_ROBERTA = dataclasses.replace(_FAMILY, keys=KEYS | _TYPES | _PADDING)
FAMILIES = {"bert": _FAMILY} | dict.fromkeys(("roberta", "xlm-roberta", "camembert"), _ROBERTA)
