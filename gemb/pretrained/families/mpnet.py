"""MPNet: BERT with T5's relative position bias in addition to absolute positions."""

from gemb.models.encoders.text import TextSpec
from gemb.models.spec import StackSpec
from gemb.pretrained.families.bert import EMBEDDINGS
from gemb.pretrained.families.bert import KEYS as BERT_KEYS
from gemb.pretrained.families.family import Family, Tensor, activation, stack_tensors
from gemb.pretrained.keys import only

_LINEARS = {
    "attention/query": "attention.attn.q",
    "attention/key": "attention.attn.k",
    "attention/value": "attention.attn.v",
    "attention/output": "attention.attn.o",
    "up": "intermediate.dense",
    "down": "output.dense",
}
_NORMS = {"attention_norm": "attention.LayerNorm", "mlp_norm": "output.LayerNorm"}
_BUCKETS = 32  # transformers computes with this number whatever config.json says
KEYS = BERT_KEYS | {"relative_attention_num_buckets": only(_BUCKETS)}


def text_spec(config: dict) -> TextSpec:
    """The shape that the values of config.json give."""
    return TextSpec(
        vocab=config["vocab_size"],
        positions=config["max_position_embeddings"],
        position_offset=2,
        types=0,
        stack=StackSpec(
            layers=config["num_hidden_layers"],
            width=config["hidden_size"],
            heads=config["num_attention_heads"],
            mlp=config["intermediate_size"],
            activation=activation(config),
            norm_epsilon=config["layer_norm_eps"],
            relative_buckets=_BUCKETS,
        ),
    )


def tensors(spec: TextSpec) -> dict[str, Tensor]:
    """Parameter path -> published tensor."""
    names = {path: tensor for path, tensor in EMBEDDINGS.items() if "type" not in path}
    names["text/stack/relative/table"] = Tensor("encoder.relative_attention_bias.weight")
    return names | stack_tensors(spec.stack.layers, "encoder.layer.{}", _LINEARS, _NORMS)


FAMILIES = {
    "mpnet": Family(
        text_spec,
        (tensors,),
        prefixes=("mpnet.",),
        kept=("pooler.", "embeddings.position_ids"),
        dropped=("lm_head.", "classifier."),
        keys=KEYS,
    )
}
