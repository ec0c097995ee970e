"""A model as a value: two sides, each a tower with its weights and its processor."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.models.functional import TEMPERATURE, part_of
from gemb.models.spec import ModelSpec, TowerSpec
from gemb.structs import SIDES, Processors


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where a tower comes from, and what is kept of it for saving it in its own format again.

    Attributes:
        folder: the folder that it was read from; None for a tower from scratch.
        config: the encoder's config.json.
        kept: published tensors that no embedding needs.
        manifest: gemb.json, or {} where gemb did not write the folder.
        settings: config_sentence_transformers.json: prompts by name, default prompt, similarity.
    """

    folder: Path | None = None
    config: dict = dataclasses.field(default_factory=dict)
    kept: dict = dataclasses.field(default_factory=dict)
    manifest: dict = dataclasses.field(default_factory=dict)
    settings: dict = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Tower:
    """One side of a model.

    Attributes:
        spec: the shape of its network.
        params: flat {path: float32 array}; None where training draws them at random. Paths that are
            missing are drawn at random too.
        processor: what turns raw values into the encoder's Inputs, see `gemb.processors`.
        origin: where it comes from.
    """

    spec: TowerSpec
    params: dict | None
    processor: object
    origin: Origin = Origin()

    def __post_init__(self):
        self.processor.check_encoder(self.spec.encoder)


@dataclasses.dataclass(frozen=True)
class Model:
    """A model: the tower of each side.

    Attributes:
        query, document: the same object twice is one tower with one set of weights.
        temperature: start of a temperature that training learns; 0 for none.
        manifest: gemb.json of the folder of two towers.

    Raises:
        UserError: if the towers do not fit together.
    """

    query: Tower
    document: Tower
    temperature: float = 0.0
    manifest: dict = dataclasses.field(default_factory=dict)

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
        """The model whose two sides are one tower."""
        return cls(tower, tower, temperature, tower.origin.manifest)

    @property
    def shared(self) -> bool:
        """Whether both sides are one tower."""
        return self.query is self.document

    @property
    def spec(self) -> ModelSpec:
        """The shape of both sides."""
        return ModelSpec(self.query.spec, self.document.spec, self.shared, self.temperature)

    @property
    def params(self) -> dict | None:
        """As `gemb.models.functional` names them; None where training draws them at random."""
        if self.document.params is None:
            return None
        params = {
            start + path: value
            for start, tower in self.towers.items()
            for path, value in tower.params.items()
        }
        if self.temperature:
            params[TEMPERATURE] = np.log(np.float32(self.temperature))
        return params

    @property
    def towers(self) -> dict[str, Tower]:
        """The distinct towers by the start of their parameters' paths: "" for one shared tower."""
        if self.shared:
            return {"": self.document}
        return {f"{side}/": getattr(self, side) for side in SIDES}

    @property
    def processors(self) -> Processors:
        """Of both sides."""
        return Processors(self.query.processor, self.document.processor)

    @property
    def folder(self) -> Path | None:
        """The folder that the documents' tower was read from."""
        return self.document.origin.folder

    def trained(self, spec: ModelSpec, params: dict) -> "Model":
        """The model with the spec and the parameters that training left, without a temperature."""
        params = {path: value for path, value in params.items() if path != TEMPERATURE}
        return dataclasses.replace(self.with_spec(spec).with_params(params), temperature=0.0)

    def with_spec(self, spec: ModelSpec) -> "Model":
        """The model with other specs of its towers."""
        return self._with(lambda start: {"spec": spec.towers[start]})

    def with_params(self, params: dict) -> "Model":
        """The model with other parameters, named as in `params`."""
        return self._with(lambda start: {"params": part_of(params, start)})

    def with_prompts(self, prompts: Mapping[str, str]) -> "Model":
        """The model whose texts are read behind other prompts.

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
    """Puts two models together as the two sides of one, or gives one a learned temperature.

    Args:
        query: the model of queries, and of documents where there is no other.
        document: the model of documents; the same dim, of any size and with any processor.
        temperature: start of a temperature that is learned with the weights; 0 for the loss's own.

    Raises:
        UserError: if dims differ, or only one of them has weights.
    """
    if document is None:
        return dataclasses.replace(query, temperature=temperature)
    return Model(query.query, document.document, temperature)


def learned_temperature(params: dict) -> dict[str, float]:
    """{"temperature": value} where one was learned, else {}."""
    return {"temperature": float(np.exp(params[TEMPERATURE]))} if TEMPERATURE in params else {}
