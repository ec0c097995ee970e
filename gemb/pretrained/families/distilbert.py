"""DistilBERT: BERT without token types, under other names."""

from gemb.models.encoders.text import TextSpec
from gemb.models.spec import StackSpec
from gemb.pretrained.families.bert import EMBEDDINGS
from gemb.pretrained.families.family import Family, Tensor, activation, need, stack_tensors

_LINEARS = {
    "attention/query": "attention.q_lin",
    "attention/key": "attention.k_lin",
    "attention/value": "attention.v_lin",
    "attention/output": "attention.out_lin",
    "up": "ffn.lin1",
    "down": "ffn.lin2",
}
_NORMS = {"attention_norm": "sa_layer_norm", "mlp_norm": "output_layer_norm"}


def text_spec(config: dict) -> TextSpec:
    """Reads the shape from config.json."""
    return TextSpec(
        vocab=need(config, "vocab_size"),
        positions=need(config, "max_position_embeddings"),
        types=0,
        stack=StackSpec(
            layers=need(config, "n_layers"),
            width=need(config, "dim"),
            heads=need(config, "n_heads"),
            mlp=need(config, "hidden_dim"),
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
    )
}
