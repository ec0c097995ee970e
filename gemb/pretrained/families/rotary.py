"""Rotary positions in config.json, in every spelling that transformers reads."""

import math

from gemb.checks import UserError
from gemb.models.spec import SCALINGS, Rotary
from gemb.pretrained.keys import ABSENT, ANY, Rule, flag, number, only, read_keys, whole

LAYER_TYPES = ("full_attention", "sliding_attention")
_OBJECT = Rule("an object", lambda value: isinstance(value, dict)).or_null(ABSENT)
# The keys of config.json, of the old spelling and of the new one.
ROTARY = {
    "rope_theta": number(ABSENT, above=0.0, whole=True).or_null(ABSENT),
    "rope_scaling": _OBJECT,
    "rope_parameters": _OBJECT,
    "partial_rotary_factor": only(None, 1.0, 1),
    "original_max_position_embeddings": whole(ABSENT),
}
_POSITIVE = number(None, above=0.0, whole=True).or_null()
_FACTORS = Rule(
    "a list of numbers above 0",
    lambda value: (
        isinstance(value, list)
        and all(type(item) in (int, float) and math.isfinite(item) and item > 0 for item in value)
    ),
    [],
)
# What stands in rope_scaling, rope_parameters, or one of its objects.
_VALUES = {
    "rope_type": Rule("a text", lambda value: isinstance(value, str)).or_null(),
    "type": Rule("a text", lambda value: isinstance(value, str)).or_null(),
    "truncate": flag(True),
    "short_factor": _FACTORS,
    "long_factor": _FACTORS,
    "partial_rotary_factor": only(None, 1.0, 1),
    "finetuned": ANY,
    "original_max_position_embeddings": whole(None).or_null(),
} | dict.fromkeys(
    ("rope_theta", "factor", "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow",
     "attention_factor", "mscale", "mscale_all_dim"),
    _POSITIVE,
)  # fmt: skip


def rotary(
    config: dict,
    kind: str = "",
    theta: float = 10_000.0,
    old_key: str = "rope_theta",
    *,
    scaled: bool = True,
) -> Rotary:
    """The rotary positions of config.json.

    Args:
        config: config.json.
        kind: "full_attention" or "sliding_attention" where they differ.
        theta: default base.
        old_key: the old spelling's key of the base.
        scaled: whether the old spelling's rope_scaling counts for this kind.

    Raises:
        UserError: for a scaling that gemb does not compute.
    """
    values = _values(config, kind, scaled)
    found = {key: value for key, value in values.items() if value is not None}
    name = found.get("rope_type") or found.get("type") or "default"
    if name not in SCALINGS:
        raise UserError(
            f"config.json: rotary positions: rope_type {name!r} is not one of {SCALINGS}"
        )
    positions = config.get("max_position_embeddings", 0)
    original = found.get("original_max_position_embeddings") or positions
    if not kind:
        original = config.get("original_max_position_embeddings", original)
    original = positions if name == "dynamic" else original
    base = float(found.get("rope_theta") or config.get(old_key) or theta)
    return Rotary(theta=base, scaling=name, **_SCALED[name](found, positions, original))


def _values(config: dict, kind: str, scaled: bool) -> dict:
    """The keys of one kind of layer, whichever object of config.json they are in."""
    given, scaling = config.get("rope_parameters") or {}, config.get("rope_scaling") or {}
    nested = [name for name in LAYER_TYPES if name in given]
    if given and bool(nested) != bool(kind):
        expected = "an object for each kind of layer" if kind else "one object for all layers"
        raise UserError(f"config.json: rope_parameters: expected {expected}, got {sorted(given)}")
    values = (given.get(kind) or {}) | (scaling if scaled else {}) if kind else scaling or given
    for key in values:
        if key not in _VALUES:
            raise UserError(f"config.json: rotary positions: {key}: gemb does not know this key")
    return read_keys(values, _VALUES, "config.json: rotary positions")


def _need(found: dict, key: str):
    if not found.get(key):
        raise UserError(f"config.json: rotary positions: key {key!r} is missing")
    return found[key]


def _linear(found: dict, positions: int, original: int) -> dict:
    return {"factor": float(_need(found, "factor"))}


def _dynamic(found: dict, positions: int, original: int) -> dict:
    return _linear(found, positions, original) | {"original_length": original}


def _llama3(found: dict, positions: int, original: int) -> dict:
    low, high = (float(_need(found, f"{end}_freq_factor")) for end in ("low", "high"))
    return _dynamic(found, positions, original) | {"low_factor": low, "high_factor": high}


def _yarn(found: dict, positions: int, original: int) -> dict:
    factor = float(found.get("factor") or positions / original)

    def magnitude(scale: float) -> float:
        return 0.1 * scale * math.log(factor) + 1.0 if factor > 1 else 1.0

    attention = magnitude(1.0)
    if found.get("mscale") and found.get("mscale_all_dim"):
        attention = magnitude(found["mscale"]) / magnitude(found["mscale_all_dim"])
    return {
        "factor": factor,
        "original_length": original,
        "low_factor": float(found.get("beta_slow") or 1.0),
        "high_factor": float(found.get("beta_fast") or 32.0),
        "attention_factor": float(found.get("attention_factor") or attention),
        "truncate": found["truncate"],
    }


def _longrope(found: dict, positions: int, original: int) -> dict:
    factor = found.get("factor") or positions / original
    attention = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    return {
        "original_length": original,
        "attention_factor": float(found.get("attention_factor") or attention),
        "short_factors": tuple(map(float, _need(found, "short_factor"))),
        "long_factors": tuple(map(float, _need(found, "long_factor"))),
    }


_SCALED = {
    "default": lambda found, positions, original: {},
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
}
