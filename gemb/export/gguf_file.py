"""A tower as a GGUF file in float32, for llama.cpp and what is made of it, as Ollama.

llama.cpp computes the network itself: the file holds weights, shape, pooling and tokenizer. It
normalises vectors unless asked not to, and its GELU is the tanh form: vectors of BERT move a
little.
"""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from gemb.checks import UserError, needs
from gemb.export.gguf_vocabulary import check_vocabulary, write_vocabulary
from gemb.export.program import program
from gemb.models.model import Tower
from gemb.pretrained.convert.gguf_llama import unpermute
from gemb.pretrained.folder import config_of, family_of
from gemb.pretrained.weights import params_from_tensors, tensors_from_params

NAME = "model.gguf"
# model_type -> llama.cpp's architecture; its heads' rotary pairs stand side by side in LLAMA
ARCHITECTURES = {
    "bert": "BERT",
    "nomic_bert": "NOMIC_BERT",
    "llama": "LLAMA",
    "mistral": "LLAMA",
    "qwen2": "QWEN2",
    "qwen3": "QWEN3",
}
_POOLING = {"mean": "MEAN", "cls": "CLS", "lasttoken": "LAST"}


def write(tower: Tower, folder: Path) -> Path:
    """Writes model.gguf.

    Returns:
        Its path.

    Raises:
        UserError: for a model that llama.cpp does not compute, naming what it lacks.
    """
    with needs("the format gguf", extra="export"):
        import gguf
    kind, spec = config_of(tower)["model_type"], tower.spec
    check(tower)
    architecture = gguf.MODEL_ARCH[ARCHITECTURES[kind]]
    path = folder / NAME
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    _write_shape(writer, tower, kind)
    writer.add_pooling_type(gguf.PoolingType[_POOLING[spec.pooling]])
    write_vocabulary(writer, tower.processor, spec.encoder.vocab)
    names = gguf.get_tensor_name_map(architecture, spec.encoder.stack.layers)
    for name, value in _tensors(tower).items():
        writer.add_tensor(_name(names, name), _permuted(tower, kind, name, value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def check(tower: Tower) -> None:
    """Checks that llama.cpp computes a model, as far as gemb writes it.

    Raises:
        UserError: naming what it does not.
    """
    kind, spec, stack = config_of(tower)["model_type"], tower.spec, tower.spec.encoder.stack
    turns = {turn.scaling for turn in stack.rotary}
    problems = {
        f"the family {kind!r} (known: {', '.join(ARCHITECTURES)})": kind not in ARCHITECTURES,
        "layers over the pooled vector": bool(spec.dense),
        f"the pooling {spec.pooling!r}": spec.pooling not in _POOLING,
        "a pooler that does not see prompts": not tower.processor.prompts.pooled,
        "attention within a window": any(stack.windows),
        f"scaled rotary positions {sorted(turns)}": bool(turns - {"default"}),
        f"the activation {stack.activation!r}": stack.activation not in ("gelu", "silu"),
    }
    for problem, there in problems.items():
        if there:
            raise UserError(f"GGUF: gemb writes no GGUF file of {problem}")
    check_vocabulary(tower.processor)


def _write_shape(writer, tower: Tower, kind: str) -> None:
    encoder, stack = tower.spec.encoder, tower.spec.encoder.stack
    writer.add_name(tower.origin.folder.name if tower.origin.folder else "gemb model")
    writer.add_file_type(0)  # all float32
    writer.add_context_length(encoder.max_length or tower.processor.max_length)
    writer.add_embedding_length(stack.width)
    writer.add_feed_forward_length(stack.mlp)
    writer.add_block_count(stack.layers)
    writer.add_head_count(stack.heads)
    writer.add_causal_attention(stack.causal)
    writer.add_vocab_size(encoder.vocab)
    if stack.norm == "layer":
        writer.add_layer_norm_eps(stack.norm_epsilon)
        writer.add_token_type_count(encoder.types)
    else:
        writer.add_layer_norm_rms_eps(stack.norm_epsilon)
        writer.add_head_count_kv(stack.kv_heads)
        writer.add_key_length(stack.head_size)
        writer.add_value_length(stack.head_size)
        writer.add_rope_dimension_count(stack.head_size)
    if stack.rotary:
        writer.add_rope_freq_base(stack.rotary[0].theta)


def _tensors(tower: Tower) -> dict[str, np.ndarray]:
    """{name: array} under the names that gguf's table knows: of NomicBERT those of the hub."""
    return tensors_from_params(tower.params, {}, _table(tower), tower.spec)


def _table(tower: Tower):
    family = family_of(tower)
    return dataclasses.replace(family, tensors=family.tensors[-1:])


def _name(names, name: str) -> str:
    found = (names.get_name(full, (".weight", ".bias")) for full in (name, f"model.{name}"))
    result = next(filter(None, found), None)
    if result is None:
        raise UserError(f"GGUF: llama.cpp has no tensor for {name}")
    return result


def _heads(tower: Tower, kind: str, name: str) -> int:
    """How many heads a tensor of queries or keys has; 0 for others, which keep their order."""
    stack = tower.spec.encoder.stack
    if ARCHITECTURES[kind] != "LLAMA":
        return 0
    return {"q_proj": stack.heads, "k_proj": stack.kv_heads}.get(name.split(".")[-2], 0)


def _permuted(tower: Tower, kind: str, name: str, value: np.ndarray) -> np.ndarray:
    """llama.cpp's order of the rotary pairs, see `gguf_llama.unpermute`."""
    heads = _heads(tower, kind, name)
    if not heads:
        return value
    halves = value.reshape(heads, 2, -1, *value.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(value.shape))


class GgufEncoder:
    """The weights of a file, read back and computed by gemb: llama.cpp itself is not run.

    Args:
        path: the file.
        tower: that it was written of.
    """

    def __init__(self, path: Path, tower: Tower):
        import gguf

        kind = config_of(tower)["model_type"]
        stored = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
        architecture = gguf.MODEL_ARCH[ARCHITECTURES[kind]]
        names = gguf.get_tensor_name_map(architecture, tower.spec.encoder.stack.layers)
        tensors = {}
        for name in _tensors(tower):
            value, heads = np.array(stored[_name(names, name)]), _heads(tower, kind, name)
            tensors[name] = unpermute(value, heads) if heads else value
        self._params, _ = params_from_tensors(tensors, _table(tower), tower.spec, path)
        self._call = jax.jit(program(tower).call)

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """[batch, length] arrays in the order of the program's inputs -> one array an output."""
        outputs = self._call(self._params, *(np.asarray(i, np.int32) for i in inputs))
        return [np.asarray(vectors) for vectors in outputs]
