"""Two towers over features: columns learned from links, and the model over them."""

import dataclasses
from collections.abc import Mapping, Sequence

from gemb.checks import UserError, check, check_names
from gemb.models.encoders.features import FeaturesSpec, Part, Side, Wide
from gemb.models.model import Model, Tower
from gemb.models.spec import StackSpec, TowerSpec
from gemb.pretrained.feature_models.frozen import frozen_texts
from gemb.processors.columns import Categories, Column, Number, Text, Time, Vector
from gemb.processors.features import FeaturesProcessor
from gemb.processors.vocabularies import Hashed, learned
from gemb.recommendation.linear import Linear, with_linear
from gemb.recommendation.links import HISTORY, ITEM, USER, Links
from gemb.structs import SIDES

KINDS = ("id", "list", "words", "name", "history", "number", "time", "text", "vector")
_SPLITS = {"list": "space", "words": "words", "name": "name"}


@dataclasses.dataclass(frozen=True)
class Feature:
    """A column of the tables and what the model does with it.

    Attributes:
        name: of the column; "user" and "item" are the ids themselves, "history" a user's items.
        kind: "id" (one category), "list" (separated by spaces), "words" of a text, parts of a
            "name", "history", "number", "time", "text" (by a frozen model) or "vector".
        table: of its rows; features of one table share its vectors, and the vocabulary of the first
            of them. Default the feature's own; a history has one over the items' vocabulary, and
            "item" makes it share the items' vectors.
        limit: values of a record, at most; default 1 for an id, 24 for a list, 50 for a history.
        least: occurrences below which a value has no row of its own.
        buckets: rows of a hashed table in place of a vocabulary; 0 for a vocabulary.
        scaling: of a number, see `gemb.processors.columns.Number`.
        model: of a text.
        size: of a vector.
        source: of its values, where the feature has another name than the column of the table.
        pool, drop, drop_rows: see `gemb.models.encoders.features.Part`.
    """

    name: str
    kind: str
    table: str = ""
    limit: int = 0
    least: int = 2
    buckets: int = 0
    scaling: str = "quantile"
    model: str = ""
    size: int = 0
    source: str = ""
    pool: str = "root"
    drop: float = 0.0
    drop_rows: float = 0.0

    def __post_init__(self):
        check(
            self.kind in KINDS,
            f"{self.name}: kind: expected one of {KINDS}, got {self.kind!r}",
        )

    @property
    def places(self) -> int:
        """The limit in use."""
        usual = {"id": 1, "history": 50}
        return self.limit or usual.get(self.kind, 24)


def from_links(
    links: Links,
    *,
    query: Sequence[Mapping],
    document: Sequence[Mapping],
    width: int = 256,
    top: str = "sum",
    layers: Sequence[int] = (),
    normalize: bool = True,
    temperature: float = 0.0,
    history_layers: int = 1,
    history_heads: int = 4,
    linear: Mapping | None = None,
    pad_rows: int = 1,
) -> Model:
    """A model whose columns are learned from the training events and their tables.

    It has no weights, or with `linear` its first ones.

    Args:
        links: the events and the tables.
        query: the fields of a `Feature` for each column of users.
        document: likewise of items.
        width: coordinates of all vectors; those of `linear` come on top.
        top: how the parts of a side are joined, see `gemb.models.encoders.features.Side`.
        layers: of the top.
        normalize: whether vectors have unit length; if not, they are compared by inner products.
        temperature: initial value of a learned temperature; 0 for the loss's own.
        history_layers: of the transformer of a history with the pool "causal".
        history_heads: its heads.
        linear: fields of a `gemb.recommendation.linear.Linear`: EASE's weights as further
            coordinates, for towers compared by inner products; None for none.
        pad_rows: tables are filled up to a multiple of it, so that devices can share their rows.

    Raises:
        UserError: for an unknown field, kind or column, or a number that is the same everywhere.
    """
    features = {"query": _features(query), "document": _features(document)}
    columns, parts, words = {}, {}, {}
    texts = {}
    for side in SIDES:
        made = [_column(side, feature, links, words, texts) for feature in features[side]]
        columns[side] = tuple(made)
    tables = {}
    for side in SIDES:
        parts[side] = tuple(
            _part(side, feature, column, words, tables)
            for feature, column in zip(features[side], columns[side], strict=True)
        )
    causal = any(part.pool == "causal" for side in SIDES for part in parts[side])
    stack = None
    if causal:
        stack = StackSpec(
            history_layers, width, history_heads, 2 * width, norm_place="pre", causal=True,
            final_norm=True, relative_buckets=32,
        )  # fmt: skip
    sides = {side: Side(parts[side], top, tuple(layers)) for side in SIDES}
    check(pad_rows >= 1, f"pad_rows: expected at least 1, got {pad_rows}")
    filled = tuple((name, -(-rows // pad_rows) * pad_rows) for name, rows in tables.items())
    added = Linear.of(linear) if linear is not None else None
    if added and normalize:
        raise UserError("linear: needs inner products; bind normalize = False")
    wide = Wide(min(added.width, len(links.data.items.ids)), HISTORY, ITEM) if added else None
    total = width + (wide.width if wide else 0)
    encoder = FeaturesSpec(filled, **sides, width=total, history=stack, wide=wide)
    similarity = "cosine" if normalize else "dot"
    spec = TowerSpec(encoder, normalize=normalize, similarity=similarity)
    processor = FeaturesProcessor(columns["query"], columns["document"], tuple(words.items()))
    model = Model.of(Tower(spec, None, processor), temperature)
    return with_linear(model, links, added) if added else model


def _features(given: Sequence[Mapping]) -> list[Feature]:
    names = [field.name for field in dataclasses.fields(Feature)]
    made = []
    for fields in given:
        check_names("features", fields, names)
        if not {"name", "kind"} <= set(fields):
            raise UserError(f"features: expected a name and a kind, got {dict(fields)}")
        made.append(Feature(**fields))
    return made


def _column(side: str, feature: Feature, links: Links, words: dict, texts: dict) -> Column:
    """The column, learned; its vocabulary is added to `words`."""
    name = feature.name
    if feature.kind == "text":
        if feature.model not in texts:
            texts[feature.model] = frozen_texts(feature.model)
        return Text(name, feature.model).with_encoder(texts[feature.model])
    if feature.kind == "vector":
        return Vector(name, feature.size)
    source = feature.source or name
    values = [record[source] for record in links.records(side, [source])]
    if feature.kind in ("number", "time"):
        column = Number(name, feature.scaling) if feature.kind == "number" else Time(name)
        try:
            return column.learn(values)
        except ValueError as error:
            raise UserError(f"{name}: {str(error).removeprefix(f'{name}: ')}") from None
    table = _vocabulary_of(side, feature)
    history = feature.kind == "history"
    split = _SPLITS.get(feature.kind, "")
    column = Categories(name, table, feature.places, split, history, feature.source)
    if table not in words:
        if feature.buckets:
            words[table] = Hashed(feature.buckets)
        elif name in (USER, ITEM, HISTORY):
            ids = links.data.users.ids if name == USER else links.data.items.ids
            events = links.split.train.user if name == USER else links.split.train.item
            words[table] = learned((ids[row] for row in events), least=feature.least)
        else:
            flat = (one for value in values for one in column.values(value))
            words[table] = learned(flat, least=feature.least)
    return column


def _vocabulary_of(side: str, feature: Feature) -> str:
    if feature.kind == "history" or feature.name == ITEM:
        return ITEM
    return feature.table or f"{side}_{feature.name}"


def _part(side: str, feature: Feature, column: Column, words: dict, tables: dict) -> Part:
    settings = {"pool": feature.pool, "drop": feature.drop, "drop_rows": feature.drop_rows}
    if column.kind != "ids":
        return Part(feature.name, size=column.size, **settings)
    table = feature.table or (ITEM if feature.name == ITEM else f"{side}_{feature.name}")
    tables[table] = words[column.table].rows
    return Part(feature.name, table, **settings)
