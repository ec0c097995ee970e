"""What a family of published models tells of itself, and how its config.json is read."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from gemb.checks import UserError
from gemb.models.encoders.text import TextSpec
from gemb.models.spec import Rotary
from gemb.pretrained.families.config_keys import COMMON
from gemb.pretrained.keys import ABSENT, REQUIRED, Rule, number, one_of, only, read_keys

LAYER_TYPES = ("full_attention", "sliding_attention")


class Tensor(NamedTuple):
    """Where a parameter stands in the published file.

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
        keys: what config.json may hold beside what `config_keys.COMMON` says of every family.
        spellings: other names of these keys; they count for more, as in transformers.
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

    @property
    def table(self) -> dict[str, Rule]:
        """Every key that this family's config.json may hold."""
        return COMMON | self.keys

    def respelled(self, config: dict) -> dict:
        """config.json with each key under its own name."""
        others = [key for key in config if key in self.spellings]
        own = {self.spellings[key]: config[key] for key in others}
        return {key: value for key, value in config.items() if key not in others} | own

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
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


def activation_name(default=REQUIRED) -> Rule:
    """The name of an activation that gemb computes, as transformers calls it."""
    return one_of(*ACTIVATIONS, default=default)


_OBJECT = Rule("an object", lambda value: isinstance(value, dict)).or_null(ABSENT)
# The keys of rotary positions, in the old spelling and in the new one; see `rotary`.
ROTARY = {
    "rope_theta": number(ABSENT, above=0.0, whole=True).or_null(ABSENT),
    "rope_scaling": _OBJECT,
    "rope_parameters": _OBJECT,
    "partial_rotary_factor": only(None, 1.0, 1),
}


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


def rotary(config: dict, kind: str = "", theta: float = 10_000.0, old_key: str = "rope_theta"):
    """The rotary positions of config.json, in its old and its new spelling.

    Args:
        config: config.json.
        kind: "full_attention" or "sliding_attention" where they differ.
        theta: default base.
        old_key: the old spelling's key of the base.

    Raises:
        UserError: for a scaling that gemb does not compute.
    """
    new = config.get("rope_parameters") or {}
    new = new.get(kind, {} if kind else new) if kind in new or not kind else new
    scaling = dict(config.get("rope_scaling") or {}) if kind != "sliding_attention" else {}
    values = scaling | new
    name = values.get("rope_type") or values.get("type") or "default"
    try:
        return Rotary(
            theta=float(values.get("rope_theta") or config.get(old_key) or theta),
            scaling=name,
            factor=float(values.get("factor", 1.0)),
            low_factor=float(values.get("low_freq_factor", 1.0)),
            high_factor=float(values.get("high_freq_factor", 4.0)),
            original_length=int(values.get("original_max_position_embeddings", 8192)),
        )
    except ValueError as error:
        raise UserError(f"config.json: rotary positions: {error}") from None


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
