"""A modality that gemb does not know, end to end: vectors of numbers through a linear encoder.

Everything of the modality is written here: its Inputs, processor, encoder, form and records. The
data pipeline, the step, the loop, checkpoints, the embedder and search take it as it is.
"""

import dataclasses
import functools
import hashlib
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from gemb import losses
from gemb.checks import UserError, check
from gemb.data import pipeline
from gemb.data.forms import Texts
from gemb.data.mixing import Task
from gemb.identity import model_fingerprint
from gemb.inference.embedder import Embedder
from gemb.models.layers import Linear
from gemb.models.model import Model, Tower
from gemb.models.spec import TowerSpec
from gemb.parallel.mesh import make_mesh
from gemb.pretrained import saving
from gemb.processors.processor import Example
from gemb.runs.records import read_metrics
from gemb.search import ExactSearcher
from gemb.training.experiment import Experiment
from gemb.training.loop import train
from gemb.training.planning.chips_report import dry_run_on_chips
from gemb.training.planning.dry_run import dry_run

SIZE, WIDTH, PAIRS = 6, 8, 64


class Numbers(NamedTuple):
    """The Inputs: values [rows, size]."""

    values: np.ndarray

    @property
    def real(self):
        return self.values[:, :1] == self.values[:, :1]


@dataclasses.dataclass(frozen=True)
class NumbersSpec:
    size: int
    width: int
    stack: None = None
    modality: ClassVar[str] = "numbers"

    def build(self, key):
        return NumbersEncoder(self, key)


class NumbersEncoder(nnx.Module):
    def __init__(self, spec, key):
        self.linear = Linear(spec.size, spec.width, ("positions", "width"), key=key)

    def __call__(self, inputs, execution, key=None, *, every_layer=False):
        check(not every_layer, "every_layer: a linear encoder has none")
        return self.linear(inputs.values)[:, None]

    def pooled(self, inputs):
        return jnp.ones((inputs.values.shape[0], 1), bool)


@dataclasses.dataclass(frozen=True)
class NumbersProcessor:
    size: int
    scale: float = 1.0
    modality: ClassVar[str] = "numbers"
    limit: ClassVar[int] = 1
    prompts: ClassVar[tuple[str, ...]] = ("",)

    def check_encoder(self, encoder):
        check(encoder.modality == self.modality, f"processor: the encoder reads {encoder.modality}")
        check(encoder.size == self.size, f"size: {self.size} is not the encoder's {encoder.size}")

    def identity(self):
        return "numbers", {"scale": self.scale}

    def prompt(self, side):
        return ""

    def prepare(self, values, drawn):
        for place, value in enumerate(values):
            if np.shape(value) != (self.size,):
                raise UserError(f"values[{place}]: expected {self.size} numbers")
        return [Example(value, self.scale * np.asarray(value, np.float32), 1) for value in values]

    def bucket(self, size):
        return 1

    def collate(self, examples, size, rows=None):
        made = np.zeros((rows or len(examples), self.size), np.float32)
        for row, example in enumerate(examples):
            if example is not None:
                made[row] = example.content
        return Numbers(made)

    def for_task(self, side, *, length, prompts):
        if prompts:
            raise UserError(f"{side}_prompts: numbers have no prompts")
        return self

    def describe(self, inputs, row):
        return str(inputs.values[row])


@dataclasses.dataclass(frozen=True)
class NumberPairs:
    """The form of the pairs."""

    columns: ClassVar[tuple[str, ...]] = ("query", "document")
    negatives: ClassVar[int] = 0
    in_batch: ClassVar[bool] = True

    def admit(self, record):
        return len(record["query"]) == SIZE

    def make(self, records, draw):
        sides = ([record[name] for record in records] for name in self.columns)
        return Texts(*sides, [[] for _ in records])


class NumberRecords:
    """Each document is its query turned by one fixed rotation."""

    def __init__(self):
        random = np.random.default_rng(0)
        turn = np.linalg.qr(random.normal(size=(SIZE, SIZE)))[0]
        self.query = random.normal(size=(PAIRS, SIZE)).astype(np.float32)
        self.document = (self.query @ turn).astype(np.float32)
        self.fingerprint = hashlib.sha256(self.query.tobytes()).hexdigest()

    def __len__(self):
        return PAIRS

    def __getitem__(self, row):
        return {"query": self.query[row], "document": self.document[row]}

    def where(self, row):
        return f"pair {row}"

    def sizes(self, rows):
        return np.ones(len(rows))


def tower(size=SIZE):
    return Tower(TowerSpec(NumbersSpec(size, WIDTH)), None, NumbersProcessor(size))


def experiment(**settings):
    data = functools.partial(
        pipeline.mixture, tasks={"n": Task(NumberRecords(), NumberPairs())}, batch_size=16
    )
    return Experiment(
        **{
            "model": Model(tower(), tower()),
            "data": data,
            "loss": functools.partial(losses.info_nce, temperature=0.1),
            "optimizer": lambda steps: optax.adam(0.05),
            "steps": 40,
            "widths": (8, 4),
            "mesh": functools.partial(make_mesh, 2, 2, 2),
            "document_microbatches": 2,
        }
        | settings
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    return train(experiment(), workdir)[0], workdir


@pytest.mark.long
def test_it_learns_the_rotation(trained):
    model, workdir = trained
    rows, records = read_metrics(workdir), NumberRecords()
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert set(model.params) == {
        f"{side}/numbers/linear/{part}"
        for side in ("query", "document")
        for part in ("kernel", "bias")
    }
    embedder = Embedder(model)
    documents = embedder.encode(records.document, kind="document")
    queries = embedder.encode(records.query, kind="query")
    np.testing.assert_allclose(np.linalg.norm(documents, axis=1), 1, atol=1e-5)
    found = ExactSearcher(documents).search(queries, 1).indices[:, 0]
    assert (found == np.arange(PAIRS)).mean() > 0.9
    assert embedder.encode(records.query[:2], kind="query", dim=4).shape == (2, 4)


@pytest.mark.long
def test_a_resumed_run_is_the_straight_one(trained, tmp_path):
    train(experiment(steps=20), tmp_path)
    again = train(experiment(), tmp_path)[0]
    for path, value in trained[0].params.items():
        np.testing.assert_array_equal(again.params[path], value, err_msg=path)


def test_what_is_known_of_it_without_training_it():
    text = dry_run(experiment())
    assert "16 x 1 queries, 16 x 1 documents" in text
    assert "query/numbers/linear/kernel" in text
    with pytest.raises(UserError, match="the numbers encoder is not a transformer"):
        dry_run_on_chips(experiment(), "v5e:8")


def test_its_settings_are_part_of_its_identity():
    same, again, other = (
        model_fingerprint(Model.of(dataclasses.replace(tower(), params={}, processor=processor)))
        for processor in (
            NumbersProcessor(SIZE), NumbersProcessor(SIZE), NumbersProcessor(SIZE, scale=2.0)
        )
    )  # fmt: skip
    assert same == again != other


def test_what_does_not_fit_is_one_line(trained, tmp_path):
    with pytest.raises(UserError, match="size: 5 is not the encoder's 6"):
        dataclasses.replace(tower(), processor=NumbersProcessor(5))
    with pytest.raises(UserError, match=r"values\[1\]: expected 6 numbers"):
        Embedder(trained[0]).encode([np.zeros(6), np.zeros(5)])
    with pytest.raises(UserError, match=r"folders hold text models.*'numbers'"):
        saving.save(trained[0], tmp_path / "model")
