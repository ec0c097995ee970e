"""DistilBERT: BERT without token types, under other names."""

from gemb.models.encoders.text import TextSpec
from gemb.models.spec import StackSpec
from gemb.pretrained.families.bert import EMBEDDINGS
from gemb.pretrained.families.family import (
    Family,
    Tensor,
    activation,
    activation_name,
    stack_tensors,
)
from gemb.pretrained.keys import ANY, whole

_LINEARS = {
    "attention/query": "attention.q_lin",
    "attention/key": "attention.k_lin",
    "attention/value": "attention.v_lin",
    "attention/output": "attention.out_lin",
    "up": "ffn.lin1",
    "down": "ffn.lin2",
}
_NORMS = {"attention_norm": "sa_layer_norm", "mlp_norm": "output_layer_norm"}
KEYS = {
    "vocab_size": whole(),
    "max_position_embeddings": whole(),
    "n_layers": whole(),
    "dim": whole(),
    "n_heads": whole(),
    "hidden_dim": whole(),
    "activation": activation_name("gelu"),
    # How the weights of positions were first drawn, and what heads do.
    "sinusoidal_pos_embds": ANY,
    "qa_dropout": ANY,
    "seq_classif_dropout": ANY,
}


def text_spec(config: dict) -> TextSpec:
    """The shape that the values of config.json give."""
    return TextSpec(
        vocab=config["vocab_size"],
        positions=config["max_position_embeddings"],
        types=0,
        stack=StackSpec(
            layers=config["n_layers"],
            width=config["dim"],
            heads=config["n_heads"],
            mlp=config["hidden_dim"],
            activation=activation(config, "activation"),
        ),
    )


def tensors(spec: TextSpec) -> dict[str, Tensor]:
    """Parameter path -> published tensor."""
    names = {path: tensor for path, tensor in EMBEDDINGS.items() if "type" not in path}
    return names | stack_tensors(spec.stack.layers, "transformer.layer.{}", _LINEARS, _NORMS)


FAMILIES = {
    "distilbert": Family(
        text_spec,
        (tensors,),
        prefixes=("distilbert.",),
        dropped=("vocab_", "pre_classifier.", "classifier."),
        layer_count="n_layers",
        keys=KEYS,
        spellings={
            "hidden_size": "dim",
            "num_attention_heads": "n_heads",
            "num_hidden_layers": "n_layers",
        },
    )
}
