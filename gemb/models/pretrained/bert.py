"""BERT and its kin (MiniLM, BGE, E5): config.json to TextSpec, tensor names to parameter paths."""

from gemb.checks import UserError
from gemb.models.stack import ACTIVATIONS, StackSpec
from gemb.models.text import TextSpec

MODEL_TYPES = ("bert",)
# Tensors of the published files that an embedding does not use; kept, and written back unchanged.
UNUSED = ("pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids")
PREFIX = "bert."

_HEAD = {
    "text/token/table": "embeddings.word_embeddings.weight",
    "text/position/table": "embeddings.position_embeddings.weight",
    "text/type/table": "embeddings.token_type_embeddings.weight",
    "text/norm/scale": "embeddings.LayerNorm.weight",
    "text/norm/bias": "embeddings.LayerNorm.bias",
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


def text_spec(config: dict) -> TextSpec:
    """Reads the shape from config.json.

    Raises:
        UserError: for a missing key, or a variant of BERT that gemb does not compute.
    """
    try:
        activation = {"gelu_new": "gelu_tanh"}.get(config["hidden_act"], config["hidden_act"])
        spec = TextSpec(
            vocab=config["vocab_size"],
            positions=config["max_position_embeddings"],
            types=config.get("type_vocab_size", 2),
            stack=StackSpec(
                layers=config["num_hidden_layers"],
                width=config["hidden_size"],
                heads=config["num_attention_heads"],
                mlp=config["intermediate_size"],
                activation=activation if activation in ACTIVATIONS else "gelu",
                norm_epsilon=config.get("layer_norm_eps", 1e-12),
            ),
        )
    except KeyError as error:
        raise UserError(f"config.json: key {error} is missing") from None
    if activation not in ACTIVATIONS:
        raise UserError(f"config.json: hidden_act {activation!r} is not one of {[*ACTIVATIONS]}")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise UserError(
            "config.json: position_embedding_type must be 'absolute', "
            f"got {config['position_embedding_type']!r}"
        )
    return spec


def config(spec: TextSpec) -> dict:
    """The config.json that transformers' BertModel reads; the inverse of `text_spec`."""
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


def tensor_names(spec: TextSpec) -> dict[str, tuple[str, bool]]:
    """Parameter path -> (tensor name, whether the tensor is stored transposed)."""
    names = {path: (name, False) for path, name in _HEAD.items()}
    for i in range(spec.stack.layers):
        ours, theirs = f"text/stack/layers/{i}", f"encoder.layer.{i}"
        for path, name in _LINEARS.items():
            names[f"{ours}/{path}/kernel"] = (f"{theirs}.{name}.weight", True)
            names[f"{ours}/{path}/bias"] = (f"{theirs}.{name}.bias", False)
        for path, name in _NORMS.items():
            names[f"{ours}/{path}/scale"] = (f"{theirs}.{name}.weight", False)
            names[f"{ours}/{path}/bias"] = (f"{theirs}.{name}.bias", False)
    return names
