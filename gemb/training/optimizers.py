"""Optimizers, built from optax and bound in gin."""

import re
from collections.abc import Callable, Mapping

import optax

from gemb.checks import check
from gemb.models.functional import is_layer_kernel
from gemb.training.checkpoints.averaging import with_ema

# No decay for biases, norms and position tables: it would not regularise the model;
# none for wide parts, which are not trained.
NO_DECAY = r"(^|/)(bias|scale|factor)$|/position/|/type/|/wide/|^temperature/"


def adamw(
    steps: int,
    *,
    schedule: Callable[..., optax.Schedule],
    weight_decay: float = 0.01,
    b1: float = 0.9,
    b2: float = 0.999,
    clip_norm: float = 1.0,
    frozen: str = "",
    rate_scales: Mapping[str, float] | None = None,
) -> optax.GradientTransformation:
    """AdamW with gradient clipping, decay on matrices only, rates and freezing by path.

    Args:
        steps: steps of the whole run, given by the training loop to the schedule.
        schedule: steps -> optax schedule; bind the rest of its arguments.
        weight_decay: decoupled decay per unit of learning rate.
        b1: decay of the first moment.
        b2: decay of the second moment.
        clip_norm: gradients with a larger global norm are scaled down to it.
        frozen: regular expression; parameters with a matching path do not change and have no
            moments. '' freezes none.
        rate_scales: regular expression -> factor of the learning rate for matching paths; the
            first match counts.

    Reference: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019,
        arXiv 1711.05101.
    """
    core = optax.adamw(
        schedule(steps=steps), b1=b1, b2=b2, weight_decay=weight_decay, mask=_decayed
    )
    return _by_path(core, clip_norm, frozen, rate_scales)


def lion(
    steps: int,
    *,
    schedule: Callable[..., optax.Schedule],
    weight_decay: float = 0.1,
    b1: float = 0.9,
    b2: float = 0.99,
    clip_norm: float = 1.0,
    frozen: str = "",
    rate_scales: Mapping[str, float] | None = None,
) -> optax.GradientTransformation:
    """Lion: updates by the sign of a momentum. Half of AdamW's state; rates 3 to 10 times smaller.

    Args:
        steps, schedule, weight_decay, clip_norm, frozen, rate_scales: as in `adamw`.
        b1: weight of the momentum in the update.
        b2: decay of the momentum.

    Reference: Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023, arXiv 2302.06675.
    """
    core = optax.lion(schedule(steps=steps), b1=b1, b2=b2, weight_decay=weight_decay, mask=_decayed)
    return _by_path(core, clip_norm, frozen, rate_scales)


def muon(
    steps: int,
    *,
    schedule: Callable[..., optax.Schedule],
    adam_schedule: Callable[..., optax.Schedule] | None = None,
    weight_decay: float = 0.01,
    beta: float = 0.95,
    clip_norm: float = 1.0,
    frozen: str = "",
    rate_scales: Mapping[str, float] | None = None,
) -> optax.GradientTransformation:
    """Muon for the layers' matrices, AdamW for tables, norms, biases and heads.

    Args:
        steps, schedule, weight_decay, clip_norm, frozen, rate_scales: as in `adamw`.
        adam_schedule: schedule of the parameters that AdamW updates; default `schedule`.
        beta: decay of the momentum.

    Reference: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024,
        https://kellerjordan.github.io/posts/muon.
    """

    def kinds(params):
        if not isinstance(params, dict):  # optax passes a placeholder to find trees like it
            return {}
        return {path: "muon" if is_layer_kernel(path) else "adam" for path in params}

    of_matrices = optax.contrib.muon(
        schedule(steps=steps), beta=beta, weight_decay=weight_decay, consistent_rms=0.2
    )
    of_others = optax.adamw(
        (adam_schedule or schedule)(steps=steps),
        weight_decay=weight_decay,
        mask=_decayed,
        nesterov=True,
    )
    core = optax.partition({"muon": of_matrices, "adam": of_others}, kinds)
    return _by_path(core, clip_norm, frozen, rate_scales)


def adafactor(
    steps: int,
    *,
    schedule: Callable[..., optax.Schedule],
    weight_decay: float = 0.0,
    decay_power: float = 0.8,
    momentum: float | None = None,
    relative: bool = False,
    factored_from: int = 128,
    update_limit: float = 1.0,
    clip_norm: float = 1.0,
    frozen: str = "",
    rate_scales: Mapping[str, float] | None = None,
) -> optax.GradientTransformation:
    """Adafactor: second moments as one row and one column, so a matrix needs almost no state.

    Decay is per unit of learning rate, as in `adamw` (unlike in optax).

    Args:
        steps, schedule, weight_decay, clip_norm, frozen, rate_scales: as in `adamw`.
        decay_power: second moments decay by 1 - t ** -decay_power at step t.
        momentum: decay of a first moment, which needs a copy of the parameters; None for none.
        relative: whether an update is multiplied by the root mean square of its parameters (at
            least 0.001), as in the paper; the rate is then relative, for example 0.01.
        factored_from: arrays whose second largest dimension is smaller keep all their moments.
        update_limit: updates with a larger root mean square are scaled down to it, each array
            separately.

    Reference: Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost",
        2018, arXiv 1804.04235.
    """
    core = [
        optax.scale_by_factored_rms(decay_rate=decay_power, min_dim_size_to_factor=factored_from),
        optax.clip_by_block_rms(update_limit),
    ]
    if relative:
        core.append(optax.scale_by_param_block_rms())
    if momentum is not None:
        core.append(optax.ema(momentum, debias=False))
    core.append(optax.add_decayed_weights(weight_decay, mask=_decayed))
    core.append(optax.scale_by_learning_rate(schedule(steps=steps)))
    return _by_path(optax.chain(*core), clip_norm, frozen, rate_scales)


def transformation(
    optimizer: Callable[..., optax.GradientTransformation],
    *,
    steps: int,
    ema_decay: float = 0.0,
    skip_bad_steps: int = 0,
    trained: str | tuple[str, ...] = "",
) -> optax.GradientTransformation:
    """The optimizer of a run with weight averaging and skipping of bad steps.

    Args: as in `gemb.training.experiment.Experiment`, and
        trained: path prefixes of the trained parameters; others do not change. '' trains all.
    """
    made = optimizer(steps=steps)
    if trained:  # and what is learned of logits
        prefixes = ((trained,) if isinstance(trained, str) else trained) + ("temperature/",)
        made = _without(made, lambda path: not path.startswith(prefixes))
    if ema_decay:
        made = with_ema(made, ema_decay)
    return optax.apply_if_finite(made, skip_bad_steps) if skip_bad_steps else made


def bad_steps_in_a_row(state: optax.OptState) -> int:
    """How many of the last steps `transformation` skipped in a row; 0 if it skips none."""
    return int(optax.tree.get(state, "notfinite_count", default=0))


def _decayed(params: dict) -> dict:
    return {path: not re.search(NO_DECAY, path) for path in params}


def _by_path(core, clip_norm: float, frozen: str, rate_scales) -> optax.GradientTransformation:
    """Clips, updates and scales by path; frozen parameters do not change."""
    train = [optax.clip_by_global_norm(clip_norm), core]
    if rate_scales:
        train.append(_scaled(dict(rate_scales)))
    train = optax.chain(*train)
    if not frozen:
        return train

    def matches(path: str) -> bool:
        return bool(re.search(frozen, path))

    return _without(train, matches, f"frozen: {frozen!r} matches no parameter")


def _without(transform, frozen: Callable[[str], bool], none: str = ""):
    """The transformation without frozen paths, which get no state; raises `none` if none match."""

    def label(params) -> dict:
        if not isinstance(params, dict):  # optax passes a placeholder to find parameters in a state
            return {}
        labels = {path: "frozen" if frozen(path) else "train" for path in params}
        check(not none or "frozen" in labels.values(), none)
        return labels

    return optax.partition({"train": transform, "frozen": optax.set_to_zero()}, label)


def _scaled(scales: dict[str, float]) -> optax.GradientTransformation:
    for pattern, scale in scales.items():
        check(scale >= 0, f"rate_scales: {pattern!r}: expected 0 or more, got {scale}")

    def scale_of(path: str) -> float:
        return next((s for pattern, s in scales.items() if re.search(pattern, path)), 1.0)

    def init(params):
        for pattern in scales if isinstance(params, dict) else ():  # else optax's stand-in
            known = any(re.search(pattern, path) for path in params)
            check(known, f"rate_scales: {pattern!r} matches no parameter")
        return optax.EmptyState()

    def update(updates, state, params=None):
        del params
        # frozen parameters are not arrays here, and stay what they are
        scaled = {
            path: update if isinstance(update, optax.MaskedNode) else update * scale_of(path)
            for path, update in updates.items()
        }
        return scaled, state

    return optax.GradientTransformation(init, update)
