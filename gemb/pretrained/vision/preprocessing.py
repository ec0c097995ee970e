"""preprocessor_config.json: how a published model wants its pictures."""

import itertools
import math
from pathlib import Path

from gemb.checks import UserError
from gemb.pretrained.keys import (
    ABSENT,
    ANY,
    Rule,
    flag,
    number,
    one_of,
    only,
    read_json,
    read_known,
    shown,
    whole,
)
from gemb.processors.decoding import WHITE
from gemb.processors.image import CLIP, HALF, IMAGENET, METHODS, PREPROCESSOR, ImageProcessor
from gemb.processors.patches import CellProcessor, PatchProcessor


def _is_side(value) -> bool:
    return type(value) is int and 0 < value <= 65_536


def _is_size(value) -> bool:
    sides = value.values() if isinstance(value, dict) else [value]
    keys = set(value) if isinstance(value, dict) else {"height", "width"}
    return keys in ({"height", "width"}, {"shortest_edge"}) and all(map(_is_side, sides))


def _colours(least: float, most: float) -> Rule:
    def fits(value) -> bool:
        whole = isinstance(value, list) and len(value) == 3
        numbers = whole and all(type(one) in (int, float) for one in value)
        return numbers and all(math.isfinite(one) and least < one <= most for one in value)

    return Rule("three numbers: red, green, blue", fits)


_SIZE = Rule("a side, {height, width} or {shortest_edge}", _is_size)
# transformers' class -> what it does where the file says nothing: (size, cut, method, mean and std)
_DEFAULTS = {
    "CLIPImageProcessor": ({"shortest_edge": 224}, True, "bicubic", CLIP),
    "BitImageProcessor": ({"shortest_edge": 224}, True, "bicubic", CLIP),
    "SiglipImageProcessor": ({"height": 224, "width": 224}, False, "bicubic", HALF),
    "DINOv3ViTImageProcessor": ({"height": 224, "width": 224}, False, "bilinear", IMAGENET),
    "ViTImageProcessor": ({"height": 224, "width": 224}, False, "bilinear", HALF),
}
_OLD = {"FeatureExtractor": "ImageProcessor", "ProcessorFast": "Processor"}
KEYS = {
    "image_processor_type": ANY,
    "feature_extractor_type": ANY,
    "processor_class": ANY,
    "do_convert_rgb": only(True, None),
    "do_resize": only(True),
    "size": _SIZE,
    "resample": Rule("a filter of Pillow, 0 to 5", lambda v: type(v) is int and 0 <= v < 6),
    "do_center_crop": flag(None).or_null(),
    "crop_size": Rule(_SIZE.expected, lambda v: _is_size(v) and v != {"shortest_edge"}).or_null(),
    "do_rescale": only(True),
    "rescale_factor": number(1 / 255, above=0, whole=True),
    "do_normalize": flag(True),
    "image_mean": _colours(-math.inf, math.inf),
    "image_std": _colours(0, math.inf),
    "background": Rule(
        "three whole numbers, 0 to 255",
        lambda v: isinstance(v, list) and len(v) == 3 and all(n in range(256) for n in v),
        list(WHITE),
    ),
    "do_pad": only(False, None),
    "pad_size": only(None),
    "default_to_square": only(True, False, None),
    "crop_pct": only(None),
    "use_square_size": only(False, None),
    "data_format": one_of("channels_first", default=None).or_null(),
    "input_data_format": only(None),
    "device": only(None),
    "disable_grouping": ANY,
    "return_tensors": only(None),
    "size_divisor": only(None),
    "image_seq_length": ANY,
    "patch_size": whole(ABSENT),
    "max_num_patches": whole(ABSENT),
    "max_soft_tokens": whole(ABSENT),
    "pooling_kernel_size": whole(ABSENT),
}
_SOFT_TOKENS = (70, 140, 280, 560, 1120)  # transformers admits no others
# the keys that only these classes read
_OWN = {
    "Siglip2ImageProcessor": ("patch_size", "max_num_patches"),
    "Gemma4ImageProcessor": ("patch_size", "max_soft_tokens", "pooling_kernel_size"),
}


def read_processor(folder: Path) -> ImageProcessor | PatchProcessor:
    """The processor of a folder with preprocessor_config.json.

    Raises:
        UserError: naming the key that is wrong, unknown or not supported.
    """
    file = folder / PREPROCESSOR
    return processor_of(read_json(file), file)


def processor_of(content: dict, file: Path | str) -> ImageProcessor | PatchProcessor:
    """The processor that the content of a preprocessor_config.json describes.

    Args:
        content: the file's.
        file: what errors call it.

    Raises:
        UserError: naming the key that is wrong, unknown or not supported.
    """
    values = read_known(content, KEYS, file)
    kind = values.get("image_processor_type") or values.get("feature_extractor_type") or ""
    for old, new in _OLD.items():
        kind = str(kind).replace(old, new)
    for name in itertools.chain(*_OWN.values()):
        if name in values and name not in _OWN.get(kind, ()):
            raise UserError(f"{file}: {name}: not supported for {kind}")
    if kind == "Siglip2ImageProcessor":
        return _patches(values, file)
    if kind == "Gemma4ImageProcessor":
        return _cells(values, file)
    if not values["do_normalize"]:
        raise UserError(f"{file}: do_normalize: false is not supported for {kind}")
    if kind not in _DEFAULTS:
        raise UserError(
            f"{file}: image_processor_type: expected one of {sorted(_DEFAULTS)}, got {shown(kind)}"
        )
    size, cut, method, (mean, std) = _DEFAULTS[kind]
    size = values.get("size", size)
    if isinstance(size, int):  # as older files have it
        size = {"shortest_edge": size} if cut else {"height": size, "width": size}
    asked = values["do_center_crop"]
    cut = cut if asked is None else asked
    if cut != ("shortest_edge" in size):
        raise UserError(
            f"{file}: size: gemb resizes to height and width, or the shortest_edge and cuts; got "
            f"{shown(size)} with do_center_crop {shown(cut)}"
        )
    target = values["crop_size"] or 224
    target = size if not cut else target
    if isinstance(target, int):
        target = {"height": target, "width": target}
    if "height" not in target:
        raise UserError(f"{file}: crop_size: expected height and width, got {shown(target)}")
    try:
        return ImageProcessor(
            height=target["height"],
            width=target["width"],
            resize="crop" if cut else "squash",
            shortest=size["shortest_edge"] if cut else 0,
            method=METHODS[values.get("resample", METHODS.index(method))],
            scale=float(values["rescale_factor"]),
            mean=tuple(map(float, values.get("image_mean", mean))),
            std=tuple(map(float, values.get("image_std", std))),
            background=tuple(values["background"]),
        )
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None


def _refuse_sizes(values: dict, kind: str, file) -> None:
    for name in ("size", "crop_size", "do_center_crop"):
        if values.get(name):
            raise UserError(f"{file}: {name}: not supported for {kind}")


def _cells(values: dict, file) -> CellProcessor:
    """Gemma 4's processor, whose encoder itself makes 2 (x - 0.5) of a value x in 0 ... 1."""
    _refuse_sizes(values, "Gemma4ImageProcessor", file)
    zero, one = [0.0] * 3, [1.0] * 3
    same = values.get("image_mean", zero) == zero and values.get("image_std", one) == one
    if values["do_normalize"] and not same:
        raise UserError(
            f"{file}: image_mean, image_std: expected {zero} and {one}, or do_normalize false"
        )
    tokens, merge = values.get("max_soft_tokens", 280), values.get("pooling_kernel_size", 3)
    if tokens not in _SOFT_TOKENS:
        raise UserError(f"{file}: max_soft_tokens: expected one of {_SOFT_TOKENS}, got {tokens}")
    try:
        return CellProcessor(
            patch=values.get("patch_size", 16),
            most=tokens * merge**2,
            method=METHODS[values.get("resample", METHODS.index("bicubic"))],
            scale=float(values["rescale_factor"]),
            background=tuple(values["background"]),
            merge=merge,
        )
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None


def _patches(values: dict, file) -> PatchProcessor:
    """SigLIP 2's processor of pictures whose sides' ratio is kept."""
    _refuse_sizes(values, "Siglip2ImageProcessor", file)
    if not values["do_normalize"]:
        raise UserError(f"{file}: do_normalize: false is not supported for Siglip2ImageProcessor")
    try:
        return PatchProcessor(
            patch=values.get("patch_size", 16),
            most=values.get("max_num_patches", 256),
            method=METHODS[values.get("resample", METHODS.index("bilinear"))],
            scale=float(values["rescale_factor"]),
            mean=tuple(map(float, values.get("image_mean", HALF[0]))),
            std=tuple(map(float, values.get("image_std", HALF[1]))),
            background=tuple(values["background"]),
        )
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
