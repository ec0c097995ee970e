"""What servers that are not run here read of a model's folder, as a table of rules.

A rule holds where the key that a server reads says what gemb computes. It compares no vectors: a
server whose rules all hold may still compute in its own way.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

from gemb.checks import UserError
from gemb.export import gguf_file
from gemb.models.model import Tower
from gemb.pretrained.folder import family_of
from gemb.pretrained.modules import SETTINGS
from gemb.structs import SIDES

TEI, VLLM, LLAMA = "text-embeddings-inference", "vLLM", "llama.cpp"


@dataclasses.dataclass(frozen=True)
class Rule:
    """One key that a server reads.

    Attributes:
        server: its name.
        reads: the file and the key.
        holds: (folder, tower) -> whether the server gets what gemb computes; None where the model
            does not need the key.
        otherwise: what the server does where the rule does not hold.
        source: where it is documented or was seen.
    """

    server: str
    reads: str
    holds: Callable[[Path, Tower], bool | None]
    otherwise: str
    source: str


def _read(folder: Path, name: str, default=None):
    file = folder / name
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else default or {}


def _flag(key: str, bidirectional):
    """Whether config.json marks a decoder that attends both ways; other models need no mark."""

    def holds(folder: Path, tower: Tower) -> bool | None:
        if family_of(tower).causal is None:
            return None
        marked = _read(folder, "config.json").get(key) == bidirectional
        return tower.spec.encoder.stack.causal or marked

    return holds


def _is_causal_flag(folder: Path, tower: Tower) -> bool | None:
    if _read(folder, "config.json").get("model_type") == "gemma3_text":
        return None  # vLLM reads this family's own key
    return _flag("is_causal", False)(folder, tower)


def _pooling(*known: str):
    def holds(folder: Path, tower: Tower) -> bool:
        return tower.spec.pooling in known and bool(_read(folder, "1_Pooling/config.json"))

    return holds


def _nested(folder: Path, tower: Tower) -> bool | None:
    widths = tower.spec.widths
    listed = _read(folder, "config.json").get("matryoshka_dimensions") or []
    return None if len(widths) == 1 else set(widths) <= set(listed)


def _prompts(folder: Path, tower: Tower) -> bool | None:
    wanted = {side: tower.processor.prompt(side) for side in SIDES}
    named = _read(folder, SETTINGS).get("prompts") or {}
    return None if not any(wanted.values()) else wanted.items() <= named.items()


def _whole_prompts(folder: Path, tower: Tower) -> bool | None:
    """Servers pool all tokens."""
    return None if tower.processor.prompts.pooled else False


def _tokenizer(folder: Path, tower: Tower) -> bool:
    return (folder / "tokenizer.json").exists()


def _lower_case(folder: Path, tower: Tower) -> bool:
    return not _read(folder, "sentence_bert_config.json").get("do_lower_case", False)


def _length(folder: Path, tower: Tower) -> bool:
    said = _read(folder, "sentence_bert_config.json").get("max_seq_length")
    return said == tower.processor.max_length


def _one_dense(folder: Path, tower: Tower) -> bool | None:
    return None if not tower.spec.dense else len(tower.spec.dense) == 1


def _transformer(folder: Path, tower: Tower) -> bool:
    return bool(tower.spec.encoder.stack.layers)


def _gguf(folder: Path, tower: Tower) -> bool:
    try:
        gguf_file.check(tower)
    except UserError:
        return False
    return True


_TEI = "https://github.com/huggingface/text-embeddings-inference"
_VLLM = "https://docs.vllm.ai/en/latest/models/pooling_models.html"
_LLAMA = "https://github.com/ggml-org/llama.cpp/blob/master/src/llama-model.cpp"
_TEXTS = "sentence_bert_config.json: max_seq_length"
_POOL = "1_Pooling/config.json: pooling mode"
RULES = (
    Rule(TEI, "config.json: a transformer", _transformer, "does not load it", _TEI),
    Rule(TEI, "tokenizer.json", _tokenizer, "does not load it", _TEI),
    Rule(
        TEI,
        "config.json: use_bidirectional_attention",
        _flag("use_bidirectional_attention", True),
        "attends causally",
        f"{_TEI}/pull/805, {_TEI}/pull/808",
    ),
    Rule(TEI, _POOL, _pooling("mean", "cls", "lasttoken"), "does not load it", _TEI),
    Rule(TEI, "no include_prompt", _whole_prompts, "pools the prompts too", _TEI),
    Rule(TEI, "no do_lower_case", _lower_case, "keeps upper case", _TEI),
    Rule(TEI, f"{SETTINGS}: prompts", _prompts, "embeds without the prompts", _TEI),
    Rule(TEI, _TEXTS, _length, "cuts texts elsewhere", _TEI),
    Rule(VLLM, "config.json: a transformer", _transformer, "does not load it", _VLLM),
    Rule(VLLM, "config.json: is_causal", _is_causal_flag, "attends causally", _VLLM),
    Rule(VLLM, _POOL, _pooling("mean", "cls", "lasttoken"), "pools in another way", _VLLM),
    Rule(VLLM, "no include_prompt", _whole_prompts, "pools the prompts too", _VLLM),
    Rule(
        VLLM,
        "config.json: matryoshka_dimensions",
        _nested,
        "refuses the parameter dimensions",
        f"{_VLLM}#matryoshka-embeddings",
    ),
    Rule(VLLM, _TEXTS, _length, "cuts texts elsewhere", _VLLM),
    Rule(VLLM, "at most one Dense module", _one_dense, "leaves layers out", _VLLM),
    Rule(LLAMA, "what gemb export --format=gguf takes", _gguf, "cannot compute it", _LLAMA),
)


def check_rules(folder: Path, tower: Tower) -> list[tuple[Rule, bool]]:
    """The rules that concern a folder, and whether each holds.

    Args:
        folder: of one tower.
        tower: as gemb reads it.
    """
    found = [(rule, rule.holds(folder, tower)) for rule in RULES]
    return [(rule, holds) for rule, holds in found if holds is not None]
