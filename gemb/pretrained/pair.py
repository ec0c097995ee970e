"""Two towers, or one model with a learned temperature: what is trained together."""

import dataclasses
import json
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.models.functional import TEMPERATURE, side_of
from gemb.models.spec import PairSpec
from gemb.pretrained.adapt import load
from gemb.pretrained.fetch import model_folder
from gemb.pretrained.folder import MANIFEST, Pretrained
from gemb.pretrained.sentence_transformers import read_json
from gemb.structs import Prompts

SIDES = ("query", "document")
ROUTER = "router_config.json"


@dataclasses.dataclass(frozen=True)
class Pair:
    """The models of both sides, and where their temperature starts.

    Attributes:
        query, document: the same object twice is one model with one set of weights.
        temperature: start of a learned temperature; 0 for none.
        manifest: gemb.json, or {} where gemb did not write the folder.
    """

    query: Pretrained
    document: Pretrained
    temperature: float = 0.0
    manifest: dict = dataclasses.field(default_factory=dict)

    @property
    def spec(self) -> PairSpec:
        """Of both."""
        try:
            return PairSpec(self.query.spec, self.document.spec, self.temperature, self.shared)
        except ValueError as error:
            raise UserError(str(error)) from None

    @property
    def params(self) -> dict | None:
        """As `gemb.models.functional` names them; None where training draws them at random."""
        sides = [self.document.params] if self.shared else [self.query.params, self.document.params]
        if any(params is None for params in sides):
            return None
        if self.shared:
            params = dict(sides[0])
        else:
            params = {
                f"{side}/{path}": value
                for side, part in zip(SIDES, sides, strict=True)
                for path, value in part.items()
            }
        if self.temperature:
            params[TEMPERATURE] = np.log(np.float32(self.temperature))
        return params

    @property
    def shared(self) -> bool:
        """Whether both sides are one model."""
        return self.query is self.document

    @property
    def widths(self) -> tuple[int, ...]:
        """Nested widths of the documents."""
        return self.document.widths

    @property
    def prompts(self) -> Prompts:
        """What each tower reads before its texts."""
        query, document = self.query.spec, self.document.spec
        return Prompts(query.query_prompt, document.document_prompt, document.pool_prompt)

    @property
    def tokenizer_json(self) -> str:
        """Of both."""
        return self.document.tokenizer_json

    @property
    def folder(self) -> Path | None:
        """Where the documents' model was read from."""
        return self.document.folder

    def trained(self, spec: PairSpec, params: dict) -> "Pair | Pretrained":
        """The pair, or its one model, with the spec and the parameters that training left."""
        params = {path: value for path, value in params.items() if path != TEMPERATURE}
        if self.shared:
            return self.document.trained(spec.document, params)
        query, document = (
            getattr(self, side).trained(getattr(spec, side), side_of(params, side))
            for side in SIDES
        )
        return Pair(query, document)


def pair(query: Pretrained, document: Pretrained | None = None, temperature: float = 0.0) -> Pair:
    """Puts two towers together, or gives one model a learned temperature.

    Args:
        query: the model of queries, and of documents where there is no other.
        document: the model of documents; the same dim and tokenizer, any size.
        temperature: start of a temperature that is learned with the weights; 0 for the loss's own.

    Raises:
        UserError: if dims or tokenizers differ.
    """
    document = query if document is None else document
    if query.tokenizer_json != document.tokenizer_json:
        raise UserError(
            "document: its tokenizer is not the query's; two towers are trained on one tokenizer"
        )
    if query.spec.pool_prompt != document.spec.pool_prompt:
        raise UserError(
            "document: its pooler sees its prompts and the query's does not, or the reverse; two "
            "towers are trained alike"
        )
    if (query.params is None) != (document.params is None):
        raise UserError("document: one tower has weights and the other none; load both alike")
    made = Pair(query, document, temperature)
    _ = made.spec  # whether the dims fit is told now
    return made


def learned_temperature(params: dict) -> dict[str, float]:
    """{"temperature": value} where one was learned, else {}."""
    return {"temperature": float(np.exp(params[TEMPERATURE]))} if TEMPERATURE in params else {}


def load_any(model: str, **options) -> Pretrained | Pair:
    """Loads a folder of one model or of two towers.

    Args:
        model: a folder, or a name such as "all-MiniLM-L6-v2".
        **options: of `gemb.pretrained.adapt.load`, for each tower alike.

    Raises:
        UserError: as `load`, or for a router whose routes are not query/ and document/.
    """
    folder = model_folder(model)
    if not (folder / ROUTER).exists():
        return load(model, **options)
    routes = read_json(folder / ROUTER).get("structure", {})
    places = [folder / side for side in SIDES]
    if set(routes) != set(SIDES) or not all((p / "modules.json").exists() for p in places):
        raise UserError(
            f"{folder}/{ROUTER}: gemb reads the routers that it wrote, with the folders query/ and "
            f"document/; this one has the routes {sorted(routes)}"
        )
    manifest = read_json(folder / MANIFEST, default={})
    return Pair(*(load(str(place), **options) for place in places), manifest=manifest)


def router_config(folder: Path) -> dict:
    """sentence-transformers' router_config.json over the saved folders query/ and document/."""
    types, structure = {}, {}
    for side in SIDES:
        steps = json.loads((folder / side / "modules.json").read_text(encoding="utf-8"))
        names = [f"{side}/{step['path']}".rstrip("/") for step in steps]
        types |= {name: step["type"] for name, step in zip(names, steps, strict=True)}
        structure[side] = names
    parameters = {"default_route": "document", "allow_empty_key": True}
    return {"types": types, "structure": structure, "parameters": parameters}
