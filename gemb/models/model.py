"""The Model value: two sides, each a tower with its weights and its processor."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.models.functional import BIAS, TEMPERATURE, part_of, scale_of
from gemb.models.spec import ModelSpec, TowerSpec
from gemb.structs import SIDES, Processors


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a tower comes from, and what saving it in its own format needs.

    Attributes:
        folder: the folder that it was read from; None for a tower from scratch.
        config: the encoder's config.json.
        kept: published tensors that embeddings do not need.
        manifest: gemb.json, or {} if gemb did not write the folder.
        settings: config_sentence_transformers.json: prompts by name, default prompt, similarity.
        parts: the origins of the "text" and "image" parts of a tower that reads both.
    """

    folder: Path | None = None
    config: dict = dataclasses.field(default_factory=dict)
    kept: dict = dataclasses.field(default_factory=dict)
    manifest: dict = dataclasses.field(default_factory=dict)
    settings: dict = dataclasses.field(default_factory=dict)
    parts: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Tower:
    """One side of a model.

    Attributes:
        spec: the spec of its network.
        params: flat {path: float32 array}; None if training draws them at random. Missing
            paths are drawn at random too.
        processor: turns raw values into the encoder's Inputs, see `gemb.processors`.
        origin: where the tower comes from.
    """

    spec: TowerSpec
    params: dict | None
    processor: object
    origin: Origin = Origin()

    def __post_init__(self):
        self.processor.check_encoder(self.spec.encoder)


@dataclasses.dataclass(frozen=True)
class LogitScale:
    """How a score becomes a logit in training: exp(log) score + bias, as CLIP and SigLIP learn it.

    Attributes:
        log: of the factor (`logit_scale` of published weights).
        bias: `logit_bias` of published weights; None for models without one.
    """

    log: float
    bias: float | None = None


@dataclasses.dataclass(frozen=True)
class Model:
    """A model: the tower of each side.

    Attributes:
        query, document: the towers; one tower with shared weights if both are the same object.
        temperature: initial value of a learned temperature; 0 for none.
        bias: initial value of a learned bias of the logits; None for none.
        least_temperature: the learned temperature is not let below this.
        logit_scale: what was learned before; None where nothing was. No vector depends on it.
        manifest: gemb.json of the folder of two towers.

    Raises:
        UserError: if the towers do not match.
    """

    query: Tower
    document: Tower
    temperature: float = 0.0
    manifest: dict = dataclasses.field(default_factory=dict)
    bias: float | None = None
    least_temperature: float = 0.0
    logit_scale: "LogitScale | None" = None

    def __post_init__(self):
        if (self.query.params is None) != (self.document.params is None):
            raise UserError(
                "document: one tower has weights and the other has none; load both with weights or "
                "both without"
            )
        try:
            _ = self.spec
        except ValueError as error:
            raise UserError(str(error)) from None

    @classmethod
    def of(cls, tower: Tower, temperature: float = 0.0) -> "Model":
        """A model whose two sides are the same tower."""
        return cls(tower, tower, temperature, tower.origin.manifest)

    def with_tower(self, tower: Tower) -> "Model":
        """The model with another tower on both sides."""
        return dataclasses.replace(self, query=tower, document=tower)

    @property
    def shared(self) -> bool:
        """Whether both sides are the same tower."""
        return self.query is self.document

    @property
    def spec(self) -> ModelSpec:
        """The spec of both sides."""
        return ModelSpec(
            self.query.spec,
            self.document.spec,
            self.shared,
            self.temperature,
            self.bias,
            self.least_temperature,
        )

    @property
    def params(self) -> dict | None:
        """{path: array} with the paths of `gemb.models.functional`; None if drawn at random."""
        if self.document.params is None:
            return None
        params = {
            start + path: value
            for start, tower in self.towers.items()
            for path, value in tower.params.items()
        }
        return params | scale_of(self)

    @property
    def towers(self) -> dict[str, Tower]:
        """The distinct towers by the prefix of their parameters' paths: "" for a shared tower."""
        if self.shared:
            return {"": self.document}
        return {f"{side}/": getattr(self, side) for side in SIDES}

    @property
    def processors(self) -> Processors:
        """The processors of both sides."""
        return Processors(self.query.processor, self.document.processor)

    @property
    def folder(self) -> Path | None:
        """The folder that the documents' tower was read from."""
        return self.document.origin.folder

    def trained(self, spec: ModelSpec, params: dict) -> "Model":
        """The model with the trained spec and parameters; what was learned of logits is set."""
        scale = self.logit_scale
        if TEMPERATURE in params:
            learned = learned_temperature(params)
            scale = LogitScale(-float(np.asarray(params[TEMPERATURE])), learned.get("bias"))
        params = {path: v for path, v in params.items() if path not in (TEMPERATURE, BIAS)}
        made = self.with_spec(spec).with_params(params)
        return dataclasses.replace(
            made, temperature=0.0, bias=None, least_temperature=0.0, logit_scale=scale
        )

    def with_spec(self, spec: ModelSpec) -> "Model":
        """The model with other specs of its towers."""
        return self._with(lambda start: {"spec": spec.towers[start]})

    def with_params(self, params: dict) -> "Model":
        """The model with other parameters, with the paths of `params`."""
        return self._with(lambda start: {"params": part_of(params, start)})

    def with_prompts(self, prompts: Mapping[str, str]) -> "Model":
        """The model with other prompts.

        Args:
            prompts: "query" and "document", either or both.
        """
        return self._with(
            lambda start: {"processor": self.towers[start].processor.with_prompts(prompts)}
        )

    def _with(self, changes) -> "Model":
        made = [dataclasses.replace(t, **changes(start)) for start, t in self.towers.items()]
        return dataclasses.replace(self, query=made[0], document=made[-1])


def two_towers(query: Model, document: Model | None = None, temperature: float = 0.0) -> Model:
    """Combines two models into one with two towers, or gives a model a learned temperature.

    Args:
        query: the model for queries, and for documents if no other is given.
        document: the model for documents; it must have the same dim.
        temperature: initial value of a learned temperature; 0 for the loss's own.

    Raises:
        UserError: if dims differ, or only one of them has weights.
    """
    if document is None:
        return dataclasses.replace(query, temperature=temperature)
    return Model(query.query, document.document, temperature)


def learned_scale(model: Model, *, kind: str = "siglip") -> Model:
    """Lets training learn how scores become logits; a loss reads it in place of its own options.

    It starts from what the model has learned before (published weights hold it), else from the
    numbers of the papers:

    siglip: temperature 0.1 and bias -10, for `losses.sigmoid`
    clip:   temperature 0.07, never below 0.01 (a factor of at most 100), for `losses.info_nce`

    Args:
        model: the model.
        kind: "siglip" or "clip".

    Raises:
        UserError: for another kind.

    Reference: Zhai et al., "Sigmoid Loss for Language Image Pre-Training", 2023, arXiv 2303.15343;
        Radford et al., "CLIP", 2021, arXiv 2103.00020.
    """
    if kind not in _SCALES:
        raise UserError(f"kind: expected one of {sorted(_SCALES)}, got {kind!r}")
    temperature, bias, least = _SCALES[kind]
    if (known := model.logit_scale) is not None:
        temperature = max(float(np.exp(-known.log)), least)
        bias = bias if bias is None or known.bias is None else known.bias
    return dataclasses.replace(model, temperature=temperature, bias=bias, least_temperature=least)


# kind -> (temperature, bias, least temperature)
_SCALES: dict[str, tuple[float, float | None, float]] = {
    "siglip": (0.1, -10.0, 0.0),
    "clip": (0.07, None, 0.01),
}


def learned_temperature(params: dict) -> dict[str, float]:
    """{"temperature": value} if it was learned, and "bias" likewise, else {}."""
    if TEMPERATURE not in params:
        return {}
    made = {"temperature": float(np.exp(params[TEMPERATURE]))}
    return made | ({"bias": float(params[BIAS])} if BIAS in params else {})
