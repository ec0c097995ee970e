"""A family of published models: its tensor names, and how its config.json is read."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from gemb.checks import UserError
from gemb.models.encoders.text import TextSpec
from gemb.pretrained.families.config_keys import COMMON
from gemb.pretrained.families.rotary import LAYER_TYPES
from gemb.pretrained.keys import REQUIRED, Rule, one_of, read_keys


class Tensor(NamedTuple):
    """The published tensor of a parameter.

    Attributes:
        name: of the published tensor.
        transposed: whether it is stored [out, in].
        part, parts: which of how many equal parts, along the tensor's first axis, of one that
            holds several parameters.
    """

    name: str
    transposed: bool = False
    part: int = 0
    parts: int = 1


@dataclasses.dataclass(frozen=True)
class Family:
    """A family of published models.

    Attributes:
        shape: the values of `keys`, with their defaults -> TextSpec.
        tensors: functions TextSpec -> {parameter path: Tensor}; the first is written, any is read.
        prefixes: names may begin with one of these.
        aliases: tensor -> the tensor that it repeats.
        kept: beginnings of names that no embedding needs but the published class holds: they are
            written back.
        dropped: beginnings of names of what the embedding model does not have: heads, decoders.
        layer_count: the key of config.json with the number of layers.
        causal: the keys that turn the attention causal or back: causal -> {key: value}; None for
            families that are never causal.
        keys: the keys of config.json, in addition to `config_keys.COMMON`.
        spellings: other names of these keys; they count for more, as in transformers.
        meanings: another name -> its values in the words of the key; others stay under that name.
    """

    shape: Callable[[dict], TextSpec]
    tensors: tuple[Callable[[TextSpec], dict[str, Tensor]], ...]
    prefixes: tuple[str, ...] = ()
    aliases: dict[str, str] = dataclasses.field(default_factory=dict)
    kept: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    layer_count: str = "num_hidden_layers"
    causal: Callable[[bool], dict] | None = None
    keys: dict[str, Rule] = dataclasses.field(default_factory=dict)
    spellings: dict[str, str] = dataclasses.field(default_factory=dict)
    meanings: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)

    @property
    def table(self) -> dict[str, Rule]:
        """Every key that this family's config.json may hold."""
        return COMMON | self.keys

    def respelled(self, config: dict) -> dict:
        """config.json with each key under its own name."""
        own, others = {}, {}
        for key, value in config.items():
            words = self.meanings.get(key)
            if key not in self.spellings or (words and str(value) not in words):
                own[key] = value
            else:
                others[self.spellings[key]] = words[value] if words else value
        return own | others

    def text_spec(self, config: dict, file="config.json") -> TextSpec:
        """The shape that config.json gives.

        Raises:
            UserError: naming the file, and the key that is missing, wrong or not supported.
        """
        return self.shape(read_keys(self.respelled(config), self.table, file))


ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


def activation_name(default=REQUIRED) -> Rule:
    """The name of an activation that gemb computes, as transformers calls it."""
    return one_of(*ACTIVATIONS, default=default)


def layer_kinds() -> Rule:
    """A list with the kind of each layer's attention; missing or null where the family decides."""
    return Rule(
        f"a list of {' and '.join(LAYER_TYPES)}",
        lambda value: isinstance(value, list) and bool(value) and set(value) <= set(LAYER_TYPES),
    ).or_null()


def layer_types(config: dict, layers: int) -> list[str]:
    """The kind of each layer's attention, as config.json lists them; [] where it does not.

    Raises:
        UserError: for another number of them.
    """
    kinds = config.get("layer_types") or []
    if kinds and len(kinds) != layers:
        raise UserError(f"config.json: {len(kinds)} layer_types for {layers} layers")
    return kinds


def activation(config: dict, key: str = "hidden_act", default: str = "gelu") -> str:
    """The activation that config.json names, in gemb's words."""
    return ACTIVATIONS[config.get(key, default)]


def stack_tensors(
    layers: int, theirs: str, linears: dict, norms: dict, bias=lambda path: True
) -> dict[str, Tensor]:
    """The Tensors of all layers of a stack.

    Args:
        layers: how many.
        theirs: what the names of a layer begin with, {} standing for its number.
        linears, norms, bias: as of `layer_tensors`.
    """
    tensors = {}
    for layer in range(layers):
        ours = f"text/stack/layers/{layer}"
        tensors |= layer_tensors(ours, theirs.format(layer), linears, norms, bias)
    return tensors


def layer_tensors(ours: str, theirs: str, linears: dict, norms: dict, bias=lambda path: True):
    """The Tensors of one layer.

    Args:
        ours, theirs: what the paths and the names of the layer begin with.
        linears: path -> name of a linear.
        norms: path -> name of a norm with a scale and, if `bias` says so, a bias.
        bias: path of a linear or norm -> whether it has one.
    """
    tensors = {}
    for path, name in linears.items():
        tensors[f"{ours}/{path}/kernel"] = Tensor(f"{theirs}.{name}.weight", transposed=True)
        if bias(path):
            tensors[f"{ours}/{path}/bias"] = Tensor(f"{theirs}.{name}.bias")
    for path, name in norms.items():
        tensors[f"{ours}/{path}/scale"] = Tensor(f"{theirs}.{name}.weight")
        if bias(path):
            tensors[f"{ours}/{path}/bias"] = Tensor(f"{theirs}.{name}.bias")
    return tensors
