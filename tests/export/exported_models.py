"""Small random models of many shapes, for the tests of what is exported."""

import dataclasses

import numpy as np

from gemb.models.functional import functional
from gemb.models.model import Model, Origin, Tower
from gemb.models.scratch import static_text
from gemb.models.spec import DenseSpec, TowerSpec
from gemb.pretrained.from_config import from_config
from gemb.processors.text import TextProcessor
from gemb.tokenizers import byte_tokenizer_json

SHAPE = {
    "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 64,
}  # fmt: skip
GROUPED = SHAPE | {"num_key_value_heads": 2}
T5 = {
    "model_type": "t5", "vocab_size": 300, "d_model": 32, "num_layers": 2, "num_heads": 4,
    "d_ff": 48, "d_kv": 8, "feed_forward_proj": "gated-gelu",
}  # fmt: skip
CONFIGS = {
    "bert": SHAPE | {"model_type": "bert"},
    "roberta": SHAPE | {"model_type": "roberta", "pad_token_id": 1},
    "llama-bidirectional": GROUPED | {"model_type": "llama", "is_causal": False},
    "qwen3": GROUPED | {"model_type": "qwen3", "head_dim": 8},
    "gemma2": GROUPED
    | {"model_type": "gemma2", "sliding_window": 8, "attn_logit_softcapping": 50.0, "head_dim": 8},
    "gemma3": GROUPED
    | {
        "model_type": "gemma3_text",
        "sliding_window": 8,
        "use_bidirectional_attention": True,
        "head_dim": 8,
    },
    "t5": T5,
    "modernbert": SHAPE | {"model_type": "modernbert", "local_attention": 8},
    "nomic": SHAPE | {"model_type": "nomic_bert"},
}


def drawn(model: Model, seed: int = 1) -> Model:
    """The model with random weights; norms stay near one."""
    random = np.random.default_rng(seed)
    params = {}
    for path, leaf in functional(model.spec).shapes.items():
        spread = random.normal(0, 0.15, leaf.shape)
        params[path] = (spread + path.endswith("scale")).astype(np.float32)
    return model.with_params(params)


def of(kind: str = "bert", *, max_length=32, **tower) -> Model:
    """A model of one of CONFIGS, or "static"; `tower` are fields of its TowerSpec."""
    if kind == "static":
        processor = TextProcessor(byte_tokenizer_json(), max_length).without_special_tokens()
        spec = TowerSpec(static_text(300, 32), **tower)
        return drawn(Model.of(Tower(spec, None, processor, Origin())))
    model = from_config(CONFIGS[kind], max_length=max_length)
    spec = dataclasses.replace(model.document.spec, **tower)
    return drawn(Model.of(dataclasses.replace(model.document, spec=spec)))


def projected(**fields) -> Model:
    """A BERT with two layers over the pooled vector, and nested widths."""
    dense = (DenseSpec(32, 24, "tanh"), DenseSpec(24, 16, bias=False))
    return of("bert", dense=dense, widths=(16, 8, 4), **fields)
