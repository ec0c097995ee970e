"""A head trained alone, on its encoder's ready vectors."""

import dataclasses
import functools
import json

import jax
import numpy as np
import optax
import pytest
from tiny_models import tiny

from gemb import losses
from gemb.checks import UserError
from gemb.data import pipeline
from gemb.models.model import Model
from gemb.models.spec import DenseSpec
from gemb.parallel.mesh import make_mesh
from gemb.structs import Prompts
from gemb.training import optimizers
from gemb.training.distillation import teachers
from gemb.training.experiment import Experiment
from gemb.training.loop import train
from gemb.training.objectives import head_only
from gemb.training.planning.dry_run import dry_run

HEAD = "dense/layers/0/kernel"
LOSS = functools.partial(
    losses.matryoshka,
    widths=(16, 8, 4),
    loss=functools.partial(
        losses.weighted_sum, terms={"ranking": losses.score_kl, "contrast": losses.info_nce}
    ),
)


def model(seed, width=16, **options):
    return tiny(seed, width=width, mlp=2 * width, **options)


def headed(encoder, *dense):
    """The encoder with layers behind it, drawn at random."""
    tower = encoder.document
    drawn = model(7, tower.spec.dim, dense=dense, prompts=tower.processor.prompts)
    return drawn.with_params(drawn.params | encoder.params)


ASK = Prompts(query="q: ")
ENCODER = model(1, prompts=ASK)
STUDENT = headed(ENCODER, DenseSpec(16, 16, bias=False))


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    rows = [{"query": f"ask {i}", "document": f"tell {i * i}"} for i in range(24)]
    (folder / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = functools.partial(
        pipeline.pairs, batch_size=8, rates={"all": 1.0}, folder=str(folder), query_length=12,
        document_length=16,
    )  # fmt: skip
    one = functools.partial(make_mesh, 1, 1, 1, devices=jax.devices()[:1])
    adamw = functools.partial(
        optimizers.adamw, schedule=lambda steps: optax.constant_schedule(0.01)
    )
    return {
        "model": STUDENT, "data": data, "loss": LOSS, "steps": 5, "mesh": one,
        "optimizer": adamw, "teacher": teachers.live([ENCODER]), "widths": (16, 8, 4),
    }  # fmt: skip


def trained(workdir, **settings):
    return train(Experiment(**settings), workdir)


def rows_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.long
def test_a_head_learns_what_it_learns_behind_its_frozen_encoder(options, tmp_path):
    alone, _ = trained(tmp_path / "alone", **options, objective=head_only())
    freezing = functools.partial(options["optimizer"], frozen="^text/")
    behind, _ = trained(tmp_path / "behind", **options | {"optimizer": freezing})
    np.testing.assert_allclose(alone.params[HEAD], behind.params[HEAD], atol=1e-5)
    assert np.abs(alone.params[HEAD] - STUDENT.params[HEAD]).max() > 0.02
    for path, value in ENCODER.params.items():
        np.testing.assert_array_equal(alone.params[path], value, path)
    ours, theirs = rows_of(tmp_path / "alone"), rows_of(tmp_path / "behind")
    for name in ("loss", "ranking", "contrast"):
        np.testing.assert_allclose(
            [row[name] for row in ours], [row[name] for row in theirs], rtol=1e-4
        )
    assert "model_tflops_per_second" in theirs[0]
    assert "model_tflops_per_second" not in ours[0]  # no encoder ran


@pytest.mark.long
def test_a_dry_run_counts_no_encoder_of_the_student(options):
    encoder = model(1, 192)
    student = headed(encoder, DenseSpec(192, 192, bias=False))
    options = options | {"model": student, "teacher": teachers.live([encoder])}

    def figures(**more):
        lines = dry_run(Experiment(**options | more)).splitlines()
        return {line.split()[0]: float(line.split()[1].replace(",", "")) for line in lines[3:6]}

    alone, whole = figures(objective=head_only()), figures()
    assert alone["FLOPs"] < whole["FLOPs"] / 2  # the live teacher's forward pass is left
    assert alone["state"] < whole["state"] / 2  # moments of the head alone


def test_microbatches_of_what_does_not_run_are_told(options, tmp_path):
    with pytest.raises(ValueError, match=r"document_microbatches: .* head_only no encoder"):
        trained(tmp_path, **options, objective=head_only(), document_microbatches=2)


LINEAR, BIASED = DenseSpec(16, 16, bias=False), DenseSpec(16, 16)
TANH = DenseSpec(16, 16, "tanh", bias=False)
TWO = Model(STUDENT.document, dataclasses.replace(STUDENT.document))


@pytest.mark.parametrize("student", [ENCODER, TWO, headed(ENCODER, BIASED), headed(ENCODER, TANH)])
def test_a_model_that_ends_otherwise_is_told(options, tmp_path, student):
    with pytest.raises(UserError, match="head_only needs a model that ends in one linear layer"):
        trained(tmp_path, **options | {"model": student}, objective=head_only())


OTHER = "does not match the model without its last"


@pytest.mark.long
def test_the_teacher_must_be_what_stands_before_the_head(options, tmp_path):
    def refused(match, teacher, student=STUDENT):
        changed = options | {"teacher": teacher, "model": student}
        with pytest.raises(UserError, match=match):
            trained(tmp_path, **changed, objective=head_only())

    refused("head_only needs a teacher with the vectors of one model", None)
    refused("of one model", teachers.live([ENCODER, model(2)]))
    refused(OTHER, teachers.live([model(2, prompts=ASK)]))
    refused(OTHER, teachers.live([model(1)]))  # another prompt
    refused(
        OTHER,
        teachers.live([ENCODER]),
        headed(ENCODER, TANH, LINEAR),
    )
