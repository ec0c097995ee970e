"""Model soups: averages the weights of several models that started from the same weights."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from gemb.checks import UserError
from gemb.models.model import Model, Tower


def soup(models: Sequence[Model], weights: Sequence[float] = ()) -> Model:
    """The weighted mean of the models' parameters.

    Args:
        models: two or more models with the same shapes and tokenizer.
        weights: one weight per model, 0 or more, scaled to a sum of 1; default equal weights.

    Raises:
        UserError: if there are fewer than two models, they do not fit, or weights are wrong.

    Reference: Wortsman et al., "Model soups", 2022, arXiv 2203.05482.
    """
    _check_alike(models)
    shares = np.asarray(weights or [1.0] * len(models), np.float64)
    right = shares.shape == (len(models),) and (shares >= 0).all()
    if not right or not 0 < shares.sum() < np.inf:
        raise UserError(
            f"weights: expected {len(models)} numbers of 0 or more, not all 0, with a finite "
            f"sum; got {list(weights)}"
        )
    shares /= shares.sum()
    params = {
        path: sum(
            share * np.asarray(model.params[path], np.float64)
            for share, model in zip(shares, models, strict=True)
        ).astype(np.float32)
        for path in models[0].params
    }
    return models[0].trained(models[0].spec, params)


def slerp(models: Sequence[Model], fraction: float = 0.5) -> Model:
    """Spherical interpolation between two models: along the arc of each parameter, not the chord.

    p = sin((1 - f) a) / sin(a) p_0 + sin(f a) / sin(a) p_1, where a is the angle between p_0 and
    p_1; linear interpolation where they are parallel.

    Args:
        models: two models with the same shapes and tokenizer.
        fraction: f; 0 gives the first model and 1 the second.

    Raises:
        UserError: if there are not two models, they do not fit, or fraction is out of [0, 1].

    Reference: Shoemake, "Animating rotation with quaternion curves", 1985.
    """
    if len(models) != 2:
        raise UserError(f"slerp: expected two models, got {len(models)}")
    if not 0 <= fraction <= 1:
        raise UserError(f"fraction: expected a number in [0, 1], got {fraction}")
    _check_alike(models)
    first, second = (model.params for model in models)
    params = {path: _arc(first[path], second[path], fraction) for path in first}
    return models[0].trained(models[0].spec, params)


def _arc(first, second, fraction: float) -> np.ndarray:
    first, second = (np.asarray(x, np.float64) for x in (first, second))
    lengths = np.linalg.norm(first) * np.linalg.norm(second)
    cosine = np.clip(np.vdot(first, second) / lengths, -1, 1) if lengths else 1.0
    angle = np.arccos(cosine)
    if np.sin(angle) < 1e-6:
        shares = (1 - fraction, fraction)
    else:
        shares = np.sin([(1 - fraction) * angle, fraction * angle]) / np.sin(angle)
    return (shares[0] * first + shares[1] * second).astype(np.float32)


def _check_alike(models: Sequence[Model]) -> None:
    if len(models) < 2:
        raise UserError(f"expected two or more models, got {len(models)}")
    for number, model in enumerate(models[1:], 2):
        for path in sorted(models[0].params.keys() | model.params.keys()):
            shapes = [np.shape(m.params[path]) if path in m.params else "none" for m in
                      (models[0], model)]  # fmt: skip
            if shapes[0] != shapes[1]:
                raise UserError(
                    f"model {number} does not fit the first: {path} is {shapes[1]}, not {shapes[0]}"
                )
        for start, tower in models[0].towers.items():
            _check_computed_alike(number, tower, model.towers.get(start))


def _check_computed_alike(number: int, first: Tower, other: Tower | None) -> None:
    """Refuses a tower whose spec would compute other vectors from the first model's weights."""
    if other is None:
        raise UserError(f"model {number} does not have the same towers as the first model")
    if other.processor.identity()[0] != first.processor.identity()[0]:
        raise UserError(f"model {number} has a different tokenizer from the first model")
    for name, value in _settings(first).items():
        own = _settings(other).get(name)
        if own != value:
            raise UserError(
                f"model {number} is computed differently from the first: {name} is {own!r:.60}, "
                f"not {value!r:.60}"
            )


def _settings(tower: Tower) -> dict:
    spec = {field.name: getattr(tower.spec, field.name) for field in dataclasses.fields(tower.spec)}
    return {name: spec[name] for name in spec if name != "widths"} | tower.processor.identity()[1]
