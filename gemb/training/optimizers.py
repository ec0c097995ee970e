"""Optimizers, as optax builds them, chosen and bound in gin."""

import re
from collections.abc import Callable, Mapping

import optax

from gemb.checks import check
from gemb.models.functional import is_layer_kernel
from gemb.training.checkpoints.averaging import with_ema

# No decay for biases, norms and position tables: pulling those to zero regularises nothing.
NO_DECAY = r"(^|/)(bias|scale)$|/position/|/type/|^temperature/"


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
        clip_norm: gradients of a larger global norm are scaled down to it.
        frozen: regular expression; parameters whose path it matches stay as they are, and have no
            moments. '' freezes none.
        rate_scales: regular expression -> what the learning rate of the paths that it matches is
            multiplied by; the first that matches counts.

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
    """Lion: the sign of a momentum, with half of AdamW's state; rates a third to a tenth of its.

    Args:
        steps, schedule, weight_decay, clip_norm, frozen, rate_scales: as of `adamw`.
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
    """Muon on the matrices of the layers, AdamW on tables, norms, biases and heads.

    Args:
        steps, schedule, weight_decay, clip_norm, frozen, rate_scales: as of `adamw`.
        adam_schedule: of the parameters that AdamW updates; default `schedule`.
        beta: decay of the momentum.

    Reference: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024,
        https://kellerjordan.github.io/posts/muon.
    """

    def kinds(params):
        if not isinstance(params, dict):  # optax's stand-in, when it looks for what is like them
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
    """Adafactor: second moments as a row and a column, so that a matrix has next to no state.

    Decay is per unit of learning rate, as of `adamw` (optax's own is not scaled by it).

    Args:
        steps, schedule, weight_decay, clip_norm, frozen, rate_scales: as of `adamw`.
        decay_power: second moments decay by 1 - t ** -decay_power at step t.
        momentum: decay of a first moment, which takes a copy of the parameters; None for none.
        relative: whether an update is multiplied by the size of what it updates (root mean square,
            0.001 at least), as in the paper; the rate is then a relative one, such as 0.01.
        factored_from: arrays whose second largest dimension is smaller keep all their moments.
        update_limit: updates of a larger root mean square are scaled down to it, each array's
            by itself.

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
    trained: str = "",
) -> optax.GradientTransformation:
    """What a run updates with: its optimizer, what averages the weights, what skips bad steps.

    Args: those of `gemb.training.experiment.Experiment`, and
        trained: start of the paths of what is trained; the rest stays as it is. '' trains all.
    """
    made = optimizer(steps=steps)
    if trained:
        made = _without(made, lambda path: not path.startswith(trained))
    if ema_decay:
        made = with_ema(made, ema_decay)
    return optax.apply_if_finite(made, skip_bad_steps) if skip_bad_steps else made


def bad_steps_in_a_row(state: optax.OptState) -> int:
    """How many of the last steps `transformation` passed over; 0 where it skips none."""
    return int(optax.tree.get(state, "notfinite_count", default=0))


def _decayed(params: dict) -> dict:
    return {path: not re.search(NO_DECAY, path) for path in params}


def _by_path(core, clip_norm: float, frozen: str, rate_scales) -> optax.GradientTransformation:
    """Clips, updates, scales by path; leaves what is frozen."""
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
    """The transformation of all but some paths, which have no state; what to say where none is."""

    def label(params) -> dict:
        if not isinstance(params, dict):  # optax asks with a stand-in where a state has parameters
            return {}
        labels = {path: "frozen" if frozen(path) else "train" for path in params}
        check(not none or "frozen" in labels.values(), none)
        return labels

    return optax.partition({"train": transform, "frozen": optax.set_to_zero()}, label)


def _scaled(scales: dict[str, float]) -> optax.GradientTransformation:
    for pattern, scale in scales.items():
        check(scale >= 0, f"rate_scales: {pattern!r} has {scale}; expected 0 or more")

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
