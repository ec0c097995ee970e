"""What a sentence-transformers folder says beyond the encoder: pooling, projection, prompts."""

import dataclasses
import json
from pathlib import Path

from gemb.checks import UserError
from gemb.models.spec import DenseSpec
from gemb.pretrained.modules import SETTINGS

# The last part of a Dense module's activation_function -> gemb's name, and back.
_SETTINGS_OF = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
_ORDER = ("Transformer", "StaticEmbedding", "Pooling", "Dense", "Normalize")  # as gemb computes
DENSE_ACTIVATIONS = {
    "Identity": "identity",
    "Tanh": "tanh",
    "ReLU": "relu",
    "GELU": "gelu",
    "SiLU": "silu",
}


@dataclasses.dataclass(frozen=True)
class Modules:
    """What modules.json and the files that it names say.

    Attributes:
        encoder: the folder of config.json and the encoder's weights.
        static: whether the encoder is a table of token vectors.
        pooling: the pooler's name; None where nothing is said.
        pool_prompt: whether the pooler sees the prompt's tokens.
        dense: the projection, layer by layer.
        dense_folders: where the weights of each lie.
        normalize: whether vectors are scaled to unit length.
        max_length: tokens that a text is cut to; None where nothing is said.
        tokenizer_length: what the tokenizer says of that, often a number beyond all; likewise.
        lower_case: whether texts are made lower case before anything else.
        prompts: {"query": ..., "document": ...} and others.
    """

    encoder: Path
    static: bool = False
    pooling: str | None = None
    pool_prompt: bool = True
    dense: tuple[DenseSpec, ...] = ()
    dense_folders: tuple[Path, ...] = ()
    normalize: bool = True
    max_length: int | None = None
    tokenizer_length: float | None = None
    lower_case: bool = False
    prompts: dict = dataclasses.field(default_factory=dict)


def read_modules(folder: Path) -> Modules:
    """Reads a folder; a plain Hugging Face one has no modules, and is normalised.

    Raises:
        UserError: for a broken file, or a module that gemb does not compute.
    """
    if not (folder / "modules.json").exists():
        place = folder / "1_Pooling"
        pooling, pool_prompt = _pooling(read_json(place / "config.json", default={}), place)
        modules = Modules(folder, pooling=pooling, pool_prompt=pool_prompt)
    else:
        modules = _follow(folder, read_json(folder / "modules.json", kind=list))
    texts = _text_settings(modules.encoder)
    tokenizer = read_json(modules.encoder / "tokenizer_config.json", default={})
    settings = read_json(folder / SETTINGS, default={})
    return dataclasses.replace(
        modules,
        max_length=texts.get("max_seq_length"),
        tokenizer_length=None if modules.static else tokenizer.get("model_max_length"),
        lower_case=texts.get("do_lower_case") is True,
        prompts=_prompts(folder, settings),
    )


def _text_settings(encoder: Path) -> dict:
    """The first of the files that it may stand in, by the kind of model that once wrote it."""
    for kind in _SETTINGS_OF:
        file = encoder / f"sentence_{kind}_config.json"
        if file.exists():
            return read_json(file)
    return {}


def _prompts(folder: Path, settings: dict) -> dict[str, str]:
    prompts = settings.get("prompts") or {}
    texts = isinstance(prompts, dict) and all(
        isinstance(prompt, str | None) for prompt in prompts.values()
    )
    if not texts:
        raise UserError(f"{folder}/{SETTINGS}: prompts: expected texts by name, got {prompts!r}")
    return prompts


def _follow(folder: Path, steps: list[dict]) -> Modules:
    found = {"encoder": folder, "normalize": False}
    dense, places, last = [], [], ""
    for step in steps:
        try:
            kind, place = step["type"].rsplit(".", 1)[-1], folder / step["path"]
        except (KeyError, TypeError, AttributeError):
            raise UserError(
                f"{folder}/modules.json: expected each module with a type and a path, got {step!r}"
            ) from None
        if kind in _ORDER and last in _ORDER and _ORDER.index(kind) < _ORDER.index(last):
            raise UserError(
                f"{folder}/modules.json: {kind} after {last} is not supported; expected the order "
                "Transformer, Pooling, Dense, Normalize"
            )
        last = kind
        if kind in ("Transformer", "StaticEmbedding"):
            found |= {"encoder": place, "static": kind == "StaticEmbedding"}
        elif kind == "Pooling":
            config = read_json(place / "config.json")
            found["pooling"], found["pool_prompt"] = _pooling(config, place)
        elif kind == "Dense":
            dense.append(_dense(place))
            places.append(place)
        elif kind == "Normalize":
            _check_input(read_json(place / "config.json", default={}), place)
            found["normalize"] = True
        else:
            raise UserError(
                f"{folder}/modules.json: module {kind!r} is not supported; known: Transformer, "
                "StaticEmbedding, Pooling, Dense, Normalize"
            )
    if not steps:
        raise UserError(f"{folder}/modules.json: names no module")
    return Modules(**found, dense=tuple(dense), dense_folders=tuple(places))


def _check_input(config: dict, folder: Path) -> None:
    """A module reads the pooled vector, and gives what it makes of that alone."""
    reads = config.get("module_input_name", "sentence_embedding")
    if reads != "sentence_embedding" or config.get("use_residual"):
        raise UserError(
            f"{folder}/config.json: use_residual and a module_input_name of {reads!r} are not "
            "supported"
        )


def _pooling(config: dict, folder: Path) -> tuple[str | None, bool]:
    modes = [
        name.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for name, on in config.items()
        if name.startswith("pooling_mode_") and on is True
    ]
    if "pooling_mode" in config:  # the spelling of sentence-transformers 5.3 and newer
        modes = [config["pooling_mode"]]
    if len(modes) > 1 or (modes and not isinstance(modes[0], str)):
        raise UserError(f"{folder}: several pooling modes at once ({modes})")
    return (modes[0] if modes else None), config.get("include_prompt", True)


def _dense(folder: Path) -> DenseSpec:
    config = read_json(folder / "config.json")
    _check_input(config, folder)
    name = str(config.get("activation_function", "Tanh")).rsplit(".")[-1]
    if name not in DENSE_ACTIVATIONS:
        raise UserError(
            f"{folder}/config.json: activation_function {name!r} is not one of "
            f"{sorted(DENSE_ACTIVATIONS)}"
        )
    try:
        sizes = config["in_features"], config["out_features"]
    except KeyError as error:
        raise UserError(f"{folder}/config.json: key {error} is missing") from None
    return DenseSpec(*sizes, DENSE_ACTIVATIONS[name], config.get("bias", True))


def read_json(file: Path, default=None, kind: type = dict):
    """Reads a JSON file; `default` where there is none.

    Raises:
        UserError: if it cannot be read, is not JSON, or not of the kind.
    """
    if default is not None and not file.exists():
        return default
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({error}); is this a model folder?") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{file}: not JSON ({error})") from None
    if not isinstance(content, kind):
        expected = {dict: "an object", list: "a list"}[kind]
        raise UserError(f"{file}: expected {expected}, got {type(content).__name__}")
    return content
