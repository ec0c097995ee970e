"""Tiny models with random weights, for tests."""

import dataclasses

import jax

from gemb.models.functional import initial_params
from gemb.models.model import Model
from gemb.models.scratch import from_scratch
from gemb.processors.text import TextProcessor
from gemb.structs import NO_PROMPTS
from gemb.tokenizers import byte_tokenizer_json


def tiny(
    seed: int, *, layers=1, width=16, mlp=32, max_length=16, prompts=NO_PROMPTS, **tower
) -> Model:
    """A model whose weights `seed` draws; `tower` are fields of its TowerSpec."""
    processor = TextProcessor(byte_tokenizer_json(), max_length, prompts)
    made = from_scratch(processor, layers=layers, width=width, heads=2, mlp=mlp, positions=32)
    return redrawn(with_tower(made, **tower), seed)


def redrawn(model: Model, seed: int) -> Model:
    """The model with other random weights."""
    params = jax.jit(lambda key: initial_params(model.spec, key))(jax.random.key(seed))
    return model.with_params(jax.device_get(params))


def with_tower(model: Model, **fields) -> Model:
    """The model of one tower with other fields of its TowerSpec."""
    tower = model.document
    return Model.of(dataclasses.replace(tower, spec=dataclasses.replace(tower.spec, **fields)))
