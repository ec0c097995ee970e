"""Specs: the architecture of a model as plain values that compare, hash and print."""

import dataclasses
from typing import Protocol

from gemb.checks import check, check_widths
from gemb.structs import SIDES

ACTIVATIONS = ("gelu", "gelu_tanh", "quick_gelu", "relu", "silu", "tanh", "identity")
NORMS = ("layer", "rms", "rms_plus_one")
NORM_PLACES = ("post", "pre", "both")
INITS = ("normal", "modernbert", "t5")
POOLINGS = (
    "mean", "cls", "lasttoken", "max", "weightedmean", "attention", "latent_attention", "map",
)  # fmt: skip
SCALINGS = ("default", "linear", "dynamic", "llama3", "yarn", "longrope")
SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")


@dataclasses.dataclass(frozen=True)
class Rotary:
    """One layer's rotary position embedding.

    Attributes:
        theta: base of the wavelengths.
        scaling: "default"; "linear" divides every frequency by `factor`, "llama3" and "yarn" only
            low ones, "longrope" each by its own factor; "dynamic" takes a larger base for texts
            longer than original_length.
        factor: what frequencies are divided by.
        low_factor, high_factor, original_length: waves that turn less than low_factor times in
            original_length are divided, those that turn more than high_factor times are not, and
            the rest in part: llama3 by the turns, yarn by the place of the frequency.
        attention_factor: what cosines and sines are multiplied by.
        truncate: yarn: whether the places between which it divides in part are whole numbers.
        short_factors, long_factors: longrope: what each frequency is divided by, in texts of up to
            original_length tokens and in longer ones.

    Reference: Su et al., "RoFormer", 2021, arXiv 2104.09864; Peng et al., "YaRN", 2023, arXiv
    2309.00071; Ding et al., "LongRoPE", 2024, arXiv 2402.13753.
    """

    theta: float = 10_000.0
    scaling: str = "default"
    factor: float = 1.0
    low_factor: float = 1.0
    high_factor: float = 4.0
    original_length: int = 8192
    attention_factor: float = 1.0
    truncate: bool = True
    short_factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()

    def __post_init__(self):
        _check_choices(self, scaling=SCALINGS)

    def __repr__(self) -> str:
        """Without what is as usual and was not there once: fingerprints are made of it."""
        newer = ("attention_factor", "truncate", "short_factors", "long_factors")
        return shown(self, hidden=newer)


@dataclasses.dataclass(frozen=True)
class StackSpec:
    """The spec of a transformer stack.

    Attributes:
        layers: number of layers; 0 leaves the embedded tokens as they are (a static model).
        width: hidden size.
        heads: attention heads.
        mlp: inner size of the feed-forward part.
        kv_heads: heads of keys and values, each shared by heads / kv_heads queries; default heads.
        head_size: size of one head; default width / heads.
        activation: one of ACTIVATIONS.
        gated: down(activation(gate(x)) * up(x)) instead of down(activation(up(x))).
        norm: one of NORMS.
        norm_bias: whether a "layer" norm has a bias.
        norm_place: "post": x = norm(x + f(x)); "pre": x + f(norm(x)); "both": x + norm(f(norm(x))).
        norm_epsilon: added under the root in every norm.
        first_norm: whether the first layer's attention has its norm (not so in ModernBERT).
        final_norm: whether a norm follows the last layer.
        head_norm: whether queries and keys are normalised per head.
        qkv_bias, output_bias, mlp_bias: which linears have biases.
        key_bias: whether keys have one too, where qkv_bias says so (not so in DINOv3).
        score_scale: factor of the queries; default head_size ** -0.5.
        score_cap: attention scores become cap tanh(score / cap); 0 for none.
        causal: whether a token attends only to itself and earlier tokens.
        windows: one per layer: tokens further apart than window - 1 do not attend to each other, 0
            for no limit; empty: no limits.
        rotary: one per layer; empty: no rotary positions.
        relative_buckets, relative_distance: T5's relative position bias; 0 buckets for none.
        init: how random weights are drawn, one of INITS.
        lora_rank, lora_scale: low-rank additions to every linear; see gemb.models.layers.Linear.
        layer_scale: whether the output of each sublayer is multiplied by a learned vector
            (Touvron et al., "Going deeper with Image Transformers", 2021, arXiv 2103.17239).
        layer_heads: one (kv_heads, head_size) per layer, where layers differ; empty: all have the
            ones above.
        value_norm: whether values are normalised per head, by "rms" without a scale.
        layer_input: size of what each layer sees of the stack's input in a third sublayer
            (per-layer embeddings of Gemma 4, without a table of their own); 0 for none.
        layer_factor: whether the output of each layer is multiplied by a number of its own, which
            is not trained.
    """

    layers: int
    width: int
    heads: int
    mlp: int
    kv_heads: int = 0
    head_size: int = 0
    activation: str = "gelu"
    gated: bool = False
    norm: str = "layer"
    norm_bias: bool = True
    norm_place: str = "post"
    norm_epsilon: float = 1e-12
    first_norm: bool = True
    final_norm: bool = False
    head_norm: bool = False
    qkv_bias: bool = True
    output_bias: bool = True
    mlp_bias: bool = True
    score_scale: float = 0.0
    score_cap: float = 0.0
    causal: bool = False
    windows: tuple[int, ...] = ()
    rotary: tuple[Rotary, ...] = ()
    relative_buckets: int = 0
    relative_distance: int = 128
    init: str = "normal"
    lora_rank: int = 0
    lora_scale: float = 1.0
    layer_scale: bool = False
    key_bias: bool = True
    layer_heads: tuple[tuple[int, int], ...] = ()
    value_norm: bool = False
    layer_input: int = 0
    layer_factor: bool = False

    def __repr__(self) -> str:
        """Without what is as usual and was not there once: fingerprints are made of it."""
        newer = ("layer_heads", "value_norm", "layer_input", "layer_factor")
        return shown(self, hidden=("layer_scale", "key_bias", *newer))

    def __post_init__(self):
        if not self.head_size:
            whole = self.width % self.heads == 0
            check(whole, f"heads: {self.heads} does not divide width {self.width}")
            object.__setattr__(self, "head_size", self.width // self.heads)
        object.__setattr__(self, "kv_heads", self.kv_heads or self.heads)
        object.__setattr__(self, "score_scale", self.score_scale or self.head_size**-0.5)
        for kv_heads in {self.kv_heads, *(kv_heads for kv_heads, _ in self.layer_heads)}:
            whole = self.heads % kv_heads == 0
            check(whole, f"kv_heads: {kv_heads} does not divide heads {self.heads}")
        _check_choices(self, activation=ACTIVATIONS, norm=NORMS, norm_place=NORM_PLACES, init=INITS)
        for name in ("windows", "rotary", "layer_heads"):
            given = len(getattr(self, name))
            check(given in (0, self.layers), f"{name}: {given} entries for {self.layers} layers")
        for turn in self.rotary:
            for factors in (turn.short_factors, turn.long_factors) if turn else ():
                fits = len(factors) in (0, self.head_size // 2)
                check(fits, f"rotary: {len(factors)} factors for heads of {self.head_size}")

    def window(self, layer: int) -> int:
        """The window of a layer; 0 for none."""
        return self.windows[layer] if self.windows else 0

    def turn(self, layer: int) -> Rotary | None:
        """The rotary positions of a layer."""
        return self.rotary[layer] if self.rotary else None

    def heads_of(self, layer: int) -> tuple[int, int]:
        """(heads of keys and values, size of one head) of a layer."""
        return self.layer_heads[layer] if self.layer_heads else (self.kv_heads, self.head_size)

    def has_attention_norm(self, layer: int) -> bool:
        """Whether a layer's attention has its own norm."""
        return self.first_norm or layer > 0

    def take(self, layers: tuple[int, ...]) -> "StackSpec":
        """The spec of a stack with only these layers, in this order."""
        check(bool(layers), "layers: expected at least one layer")
        for layer in layers:
            check(0 <= layer < self.layers, f"layers: {layer} is not one of 0 to {self.layers - 1}")
        check(self.first_norm or 0 not in layers[1:], "layers: layer 0 can only be the first")
        return dataclasses.replace(
            self,
            layers=len(layers),
            windows=tuple(self.windows[i] for i in layers) if self.windows else (),
            rotary=tuple(self.rotary[i] for i in layers) if self.rotary else (),
            layer_heads=tuple(self.layer_heads[i] for i in layers) if self.layer_heads else (),
            first_norm=self.first_norm or layers[0] != 0,
        )


@dataclasses.dataclass(frozen=True)
class DenseSpec:
    """A linear layer over the pooled vector: activation(x W + b).

    Attributes:
        inputs, outputs: sizes.
        activation: one of ACTIVATIONS.
        bias: whether b exists.
    """

    inputs: int
    outputs: int
    activation: str = "identity"
    bias: bool = True

    def __post_init__(self):
        _check_choices(self, activation=ACTIVATIONS)


class EncoderSpec(Protocol):
    """The spec of an encoder of one modality: a frozen dataclass, one per file of `encoders/`.

    Attributes:
        modality: "text", "image", ...; the encoder's parameters have paths that start with it.
        width: size of the encoder's output vectors, one per position.
        stack: its transformer, used to estimate the cost of a step; None if it has none.

    `build(key)` makes the module: Inputs -> [batch, positions, width], see
    `gemb.models.encoders.encoder.Encoder`.
    """

    modality: str
    width: int
    stack: StackSpec | None

    def build(self, key): ...


@dataclasses.dataclass(frozen=True)
class TowerSpec:
    """Everything about one side of a model except its weights and its processor.

    Attributes:
        encoder: the spec of the encoder, an EncoderSpec.
        pooling: one of POOLINGS.
        dense: the linear layers from the pooled vector to the embedding, in order; empty for none.
        heads: (name, projection) of further outputs from the same pooled vector, for training
            stages that use them.
        normalize: whether vectors are scaled to unit length.
        widths: nested (Matryoshka) widths that the tower was trained for, widest first.
        similarity: by which its vectors are compared, one of SIMILARITIES. No vector depends on it.
    """

    encoder: EncoderSpec
    pooling: str = "mean"
    dense: tuple[DenseSpec, ...] = ()
    heads: tuple[tuple[str, tuple[DenseSpec, ...]], ...] = ()
    normalize: bool = True
    widths: tuple[int, ...] = ()
    similarity: str = "cosine"

    def __post_init__(self):
        _check_choices(self, pooling=POOLINGS, similarity=SIMILARITIES)
        for name, layers in (("dense", self.dense), *self.heads):
            size = self.encoder.width
            for layer in layers:
                check(layer.inputs == size, f"{name}: expected {size} inputs, got {layer.inputs}")
                size = layer.outputs
        widths = check_widths("widths", self.widths or (self.dim,), self.dim)
        object.__setattr__(self, "widths", widths)

    @property
    def dim(self) -> int:
        """Coordinates of the full embedding."""
        return self.dense[-1].outputs if self.dense else self.encoder.width


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """The spec of a model: two sides, which may be the same tower.

    Attributes:
        query, document: the towers; both have the same dim.
        shared: whether both sides are the same tower with shared weights.
        temperature: initial value of a learned temperature, which is given to the loss;
            0 for none.
        bias: initial value of a learned bias of the logits, likewise; None for none.
        least_temperature: the learned temperature is not let below this.
    """

    query: TowerSpec
    document: TowerSpec
    shared: bool = False
    temperature: float = 0.0
    bias: float | None = None
    least_temperature: float = 0.0

    def __post_init__(self):
        check(
            self.query.dim == self.document.dim,
            f"document: its dim {self.document.dim} differs from the query's, {self.query.dim}; "
            "add a projection to one of them",
        )
        check(
            self.query.similarity == self.document.similarity,
            f"document: it is compared by {self.document.similarity}, and the query by "
            f"{self.query.similarity}",
        )
        check(self.temperature >= 0, f"temperature: expected 0 or more, got {self.temperature}")
        least = self.least_temperature
        check(least >= 0, f"least_temperature: expected 0 or more, got {least}")
        whole = self.temperature > 0 or (self.bias is None and not least)
        check(whole, "bias, least_temperature: they need a learned temperature")
        check(
            not self.temperature or self.temperature >= least,
            f"temperature: {self.temperature} is below the least, {least}",
        )
        check(
            not self.shared or self.query == self.document,
            "shared: the specs of the two sides differ",
        )

    @classmethod
    def of(cls, tower: TowerSpec, temperature: float = 0.0) -> "ModelSpec":
        """The spec of a model whose two sides are the same tower."""
        return cls(tower, tower, shared=True, temperature=temperature)

    @property
    def towers(self) -> dict[str, TowerSpec]:
        """The distinct towers by the prefix of their parameters' paths: "" for a shared tower."""
        if self.shared:
            return {"": self.document}
        return {f"{side}/": getattr(self, side) for side in SIDES}

    @property
    def encoder(self) -> EncoderSpec:
        """The documents' encoder."""
        return self.document.encoder

    @property
    def dim(self) -> int:
        """Coordinates of the full embedding."""
        return self.document.dim

    @property
    def widths(self) -> tuple[int, ...]:
        """Nested widths of the document tower."""
        return self.document.widths

    @property
    def similarity(self) -> str:
        """By which vectors are compared, one of SIMILARITIES."""
        return self.document.similarity

    @property
    def normalize(self) -> bool:
        """Whether the vectors of both sides have unit length."""
        return self.query.normalize and self.document.normalize

    def with_widths(self, widths: tuple[int, ...]) -> "ModelSpec":
        """The spec with these nested widths on both sides."""
        sides = {side: dataclasses.replace(getattr(self, side), widths=widths) for side in SIDES}
        return dataclasses.replace(self, **sides)


def shown(spec, hidden: tuple[str, ...]) -> str:
    """A dataclass's usual repr, without the fields of `hidden` that have their defaults."""
    fields = [
        f"{field.name}={getattr(spec, field.name)!r}"
        for field in dataclasses.fields(spec)
        if field.name not in hidden or getattr(spec, field.name) != field.default
    ]
    return f"{type(spec).__name__}({', '.join(fields)})"


def _check_choices(spec, **choices) -> None:
    for name, known in choices.items():
        value = getattr(spec, name)
        check(value in known, f"{name}: expected one of {sorted(known)}, got {value!r}")
