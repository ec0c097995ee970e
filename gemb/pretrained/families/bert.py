"""BERT and its kin (MiniLM, BGE, E5), RoBERTa and XLM-R, which name their tensors alike."""

from gemb.checks import UserError
from gemb.models.encoders.text import TextSpec
from gemb.models.spec import StackSpec
from gemb.pretrained.families.family import Family, Tensor, activation, need, stack_tensors

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


def text_spec(config: dict) -> TextSpec:
    """Reads the shape from config.json.

    Raises:
        UserError: for a missing key, or a variant of BERT that gemb does not compute.
    """
    kind = config.get("position_embedding_type") or "absolute"
    if kind != "absolute":
        raise UserError(f"config.json: position_embedding_type must be 'absolute', got {kind!r}")
    roberta = config["model_type"] != "bert"
    return TextSpec(
        vocab=need(config, "vocab_size"),
        positions=need(config, "max_position_embeddings"),
        position_offset=config.get("pad_token_id", 1) + 1 if roberta else 0,
        types=need(
            config | {"type_vocab_size": config.get("type_vocab_size", 2)}, "type_vocab_size"
        ),
        stack=StackSpec(
            layers=need(config, "num_hidden_layers"),
            width=need(config, "hidden_size"),
            heads=need(config, "num_attention_heads"),
            mlp=need(config, "intermediate_size"),
            activation=activation(config),
            norm_epsilon=config.get("layer_norm_eps", 1e-12),
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
)
FAMILIES = dict.fromkeys(("bert", "roberta", "xlm-roberta", "camembert"), _FAMILY)
