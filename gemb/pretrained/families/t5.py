"""The encoders of T5 and mT5: pre-norm, relative positions, no biases; gated since 1.1."""

import dataclasses

from gemb.models.encoders.text import TextSpec
from gemb.models.spec import StackSpec
from gemb.pretrained.families.family import (
    ACTIVATIONS,
    Family,
    Tensor,
    activation,
    activation_name,
    stack_tensors,
)
from gemb.pretrained.keys import ABSENT, ANY, epsilon, flag, one_of, whole

_ATTENTION = {
    "attention/query": "SelfAttention.q",
    "attention/key": "SelfAttention.k",
    "attention/value": "SelfAttention.v",
    "attention/output": "SelfAttention.o",
}
_PLAIN = {"up": "DenseReluDense.wi", "down": "DenseReluDense.wo"}
_GATED = {
    "gate": "DenseReluDense.wi_0",
    "up": "DenseReluDense.wi_1",
    "down": "DenseReluDense.wo",
}


def _keys(projection: str) -> dict:
    """What config.json may hold, with the default of feed_forward_proj."""
    forms = (*ACTIVATIONS, *(f"gated-{name}" for name in ACTIVATIONS))
    return {
        "vocab_size": whole(),
        "num_layers": whole(),
        "d_model": whole(),
        "num_heads": whole(),
        "d_kv": whole(),
        "d_ff": whole(),
        "feed_forward_proj": one_of(*forms, default=projection),
        # What transformers makes of feed_forward_proj; where they are saved too, they count.
        "dense_act_fn": activation_name(ABSENT),
        "is_gated_act": flag(ABSENT),
        "layer_norm_epsilon": epsilon(1e-6),
        "relative_attention_num_buckets": whole(32, least=4),
        "relative_attention_max_distance": whole(128, least=2),
        # No table has so many rows, but sentence-transformers cuts texts to it.
        "max_position_embeddings": whole(0),
        # Of the decoder, and how long texts were in training.
        "num_decoder_layers": ANY,
        "scale_decoder_outputs": ANY,
        "dropout_rate": ANY,
        "n_positions": ANY,
    }


def text_spec(config: dict) -> TextSpec:
    """The shape that the values of config.json give."""
    projection = config["feed_forward_proj"]
    gated = config.get("is_gated_act", projection.startswith("gated-"))
    name = projection.removeprefix("gated-")
    if projection == "gated-gelu":
        name = "gelu_new"  # as transformers reads it
    stack = StackSpec(
        layers=config["num_layers"],
        width=config["d_model"],
        heads=config["num_heads"],
        head_size=config["d_kv"],
        mlp=config["d_ff"],
        activation=activation(config, "dense_act_fn", name),
        gated=gated,
        norm="rms",
        norm_place="pre",
        norm_epsilon=config["layer_norm_epsilon"],
        final_norm=True,
        qkv_bias=False,
        output_bias=False,
        mlp_bias=False,
        score_scale=1.0,
        relative_buckets=config["relative_attention_num_buckets"],
        relative_distance=config["relative_attention_max_distance"],
        init="t5",
    )
    limit = config["max_position_embeddings"]
    return TextSpec(
        config["vocab_size"], 0, stack, types=0, length_limit=limit, embedding_norm=False
    )


def tensors(spec: TextSpec) -> dict[str, Tensor]:
    """Parameter path -> published tensor."""
    bias = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    names = {
        "text/token/table": Tensor("shared.weight"),
        "text/stack/relative/table": Tensor(bias),
        "text/stack/final_norm/scale": Tensor("encoder.final_layer_norm.weight"),
    }

    def no_bias(path: str) -> bool:
        return False

    forward = _GATED if spec.stack.gated else _PLAIN
    for part, linears, norm in ((0, _ATTENTION, "attention_norm"), (1, forward, "mlp_norm")):
        theirs = f"encoder.block.{{}}.layer.{part}"
        names |= stack_tensors(spec.stack.layers, theirs, linears, {norm: "layer_norm"}, no_bias)
    return names


_FAMILY = Family(
    text_spec,
    (tensors,),
    aliases={"encoder.embed_tokens.weight": "shared.weight"},
    dropped=("decoder.", "lm_head."),
    layer_count="num_layers",
    keys=_keys("relu"),
    spellings={
        "hidden_size": "d_model",
        "num_attention_heads": "num_heads",
        "num_hidden_layers": "num_layers",
        "head_dim": "d_kv",
    },
)
FAMILIES = {"t5": _FAMILY, "mt5": dataclasses.replace(_FAMILY, keys=_keys("gated-gelu"))}
