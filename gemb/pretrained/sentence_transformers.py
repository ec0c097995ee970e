"""What a sentence-transformers folder says beyond the encoder: pooling, projection, prompts."""

import dataclasses
import itertools
import sys
from pathlib import Path, PurePosixPath

from gemb.checks import UserError
from gemb.models.spec import POOLINGS, DenseSpec
from gemb.pretrained import module_keys
from gemb.pretrained.keys import read_json, read_keys, read_known, shown, warn_unknown
from gemb.pretrained.module_keys import DENSE_ACTIVATIONS as DENSE_ACTIVATIONS
from gemb.pretrained.modules import SETTINGS
from gemb.pretrained.text_settings import reads_messages, text_settings
from gemb.structs import SIDES

_ORDER = ("Transformer", "StaticEmbedding", "Pooling", "Dense", "Normalize")  # as gemb computes
_ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")


@dataclasses.dataclass(frozen=True)
class Modules:
    """What modules.json and the files that it names say.

    Attributes:
        encoder: the folder of config.json and the encoder's weights.
        static: whether the encoder is a table of token vectors.
        pooling: the pooler's name; None where nothing is said.
        pool_prompt: whether the pooler sees the prompt's tokens.
        dense: the projection, layer by layer.
        dense_folders: the folder with the weights of each layer.
        normalize: whether vectors are scaled to unit length.
        max_length: tokens that a text is cut to; None where nothing is said.
        tokenizer_length: what the tokenizer says about it, often a very large number.
        lower_case: whether texts are made lower case before anything else.
        config: values that replace those of config.json.
        prompts: {"query": ..., "document": ...}.
        similarity: by which vectors are compared, one of gemb.models.spec.SIMILARITIES.
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
    config: dict = dataclasses.field(default_factory=dict)
    prompts: dict = dataclasses.field(default_factory=dict)
    similarity: str = "cosine"


def read_modules(folder: Path, steps: list[dict] | None = None) -> Modules:
    """Reads a folder; a plain Hugging Face one has no modules, and is normalised.

    Args:
        folder: the model folder.
        steps: what counts instead of its modules.json, for a side of a router.

    Raises:
        UserError: for a broken file, a module that gemb does not compute, or a key that may change
            vectors and that gemb does not read.
    """
    if steps is not None:
        modules = _follow(folder, steps)
    elif not (folder / "modules.json").exists():
        pooling, pool_prompt = None, True
        if (folder / "1_Pooling" / "config.json").exists():
            pooling, pool_prompt = _pooling(folder / "1_Pooling")
        modules = Modules(folder, pooling=pooling, pool_prompt=pool_prompt)
    else:
        modules = _follow(folder, read_json(folder / "modules.json", kind=list))
    _refuse_adapters(folder, modules.encoder)
    if not modules.pool_prompt and not modules.static and reads_messages(modules.encoder):
        raise UserError(
            f"{folder}: include_prompt: sentence-transformers does not read false where texts are "
            "messages (modality_config), so set it to true"
        )
    settings = read_settings(folder)
    return dataclasses.replace(
        modules,
        **({} if modules.static else text_settings(modules.encoder)),
        prompts=_of_sides(settings["prompts"]),
        similarity=settings["similarity_fn_name"] or "cosine",
    )


def _refuse_adapters(*folders: Path) -> None:
    """transformers adds LoRA weights that are next to the model's own; gemb does not."""
    for folder in folders:
        for name in _ADAPTERS:
            if (folder / name).exists():
                raise UserError(
                    f"{folder / name}: gemb does not read adapters. Merge it into the weights "
                    "(peft: merge_and_unload, then save_pretrained), or remove it"
                )


def read_settings(folder: Path) -> dict:
    """The values of config_sentence_transformers.json; defaults where there is none.

    Raises:
        UserError: naming the key that is wrong or not supported.
    """
    file = folder / SETTINGS
    content = read_json(file, default={})
    settings = read_keys(content, module_keys.SETTINGS, file)
    warn_unknown(content, module_keys.SETTINGS, file)
    default, prompts = settings["default_prompt_name"], settings["prompts"]
    if default is not None and default not in {*prompts, "query", "document"}:
        raise UserError(
            f"{file}: default_prompt_name: expected one of {sorted(prompts)}, got {shown(default)}"
        )
    if (prompts.get(default) or "") != (prompts.get("document") or "") and default is not None:
        print(
            f"warning: {file}: default_prompt_name {default!r} is left out: gemb puts the prompt "
            '"query" before queries and "document" before documents',
            file=sys.stderr,
        )
    return settings


def _of_sides(prompts: dict) -> dict:
    """The prompts by side, as sentence-transformers 6 chooses them.

    Its encode_document asks for "document", "passage" and "corpus" in this order, but the first is
    always there, empty if the file does not name it: the other two never count.
    """
    return {side: prompts.get(side) or "" for side in SIDES}


def _follow(folder: Path, steps: list) -> Modules:
    """What the modules of modules.json make of a text, one after the other."""
    file = folder / "modules.json"
    kinds = [(_kind(step, file), folder / step["path"]) for step in steps]
    _check_order([kind for kind, _ in kinds], [step["name"] for step in steps], file)
    found = {"normalize": False}
    dense, places = [], []
    for kind, place in kinds:
        if kind in ("Transformer", "StaticEmbedding"):
            found |= {"encoder": place, "static": kind == "StaticEmbedding"}
        elif kind == "Pooling":
            found["pooling"], found["pool_prompt"] = _pooling(place)
        elif kind == "Dense":
            dense.append(_dense(place))
            places.append(place)
        else:
            config = read_json(place / "config.json", default={})
            read_keys(config, module_keys.NORMALIZE, place / "config.json")
            warn_unknown(config, module_keys.NORMALIZE, place / "config.json")
            found["normalize"] = True
    return Modules(**found, dense=tuple(dense), dense_folders=tuple(places))


def _kind(step: dict, file: Path) -> str:
    """The kind of a module that gemb computes."""
    kind = module_kind(step, file)
    if kind not in _ORDER:
        raise UserError(
            f"{file}: type: {shown(step['type'])} is not a module that gemb computes; it knows "
            f"sentence-transformers' own {', '.join(_ORDER)}"
        )
    return kind


def module_kind(step: dict, file: Path) -> str | None:
    """What a module of modules.json is: Transformer, Pooling, ...; None for one of others.

    Raises:
        UserError: if it is no module, or its path is outside the folder.
    """
    if not isinstance(step, dict):
        raise UserError(f"{file}: expected each module as an object, got {shown(step)}")
    values = read_keys(step, module_keys.MODULE, file)
    warn_unknown(step, module_keys.MODULE, file)
    path = PurePosixPath(values["path"])
    if path.is_absolute() or ".." in path.parts or "\\" in values["path"]:
        raise UserError(f"{file}: path: {shown(values['path'])} is outside the model folder")
    return module_keys.KINDS.get(values["type"])


def _check_order(kinds: list[str], names: list[str], file: Path) -> None:
    """Whether the modules make one vector of a text, each from what the one before it gives."""
    if not kinds:
        raise UserError(f"{file}: names no module")
    if len(set(names)) < len(names) or any(not name or "." in name for name in names):
        raise UserError(f"{file}: name: expected different names without a point, got {names}")
    for last, kind in itertools.pairwise(kinds):
        if _ORDER.index(kind) < _ORDER.index(last):
            raise UserError(
                f"{file}: {kind} after {last} is not supported; expected the order "
                "Transformer, Pooling, Dense, Normalize"
            )
    start = ["StaticEmbedding"] if kinds[0] == "StaticEmbedding" else ["Transformer", "Pooling"]
    first = [kind for kind in kinds if kind in _ORDER[:3]]
    if first != start:
        raise UserError(
            f"{file}: expected one Transformer and one Pooling, or a StaticEmbedding alone, before "
            f"other modules, got {', '.join(first) or kinds[0]}"
        )


def _pooling(place: Path) -> tuple[str, bool]:
    """(the pooler's name, whether it sees the prompt's tokens)."""
    file = place / "config.json"
    config = read_json(file)
    values = read_known(config, module_keys.POOLING, file)
    if not {"word_embedding_dimension", "embedding_dimension"} & set(values):
        raise UserError(f"{file}: key 'embedding_dimension' is missing")
    modes = [mode for key, mode in module_keys.POOLING_MODES.items() if values[key]] or ["mean"]
    if "pooling_mode" in values:  # the spelling of sentence-transformers 5.3 and newer
        mode = values["pooling_mode"]
        modes = mode if isinstance(mode, list) else [mode]
    if len(modes) > 1:
        raise UserError(f"{file}: several pooling modes at once ({', '.join(modes)})")
    if modes[0] not in POOLINGS:
        raise UserError(f"{file}: pooling_mode: {modes[0]!r} is not one of {list(POOLINGS)}")
    return modes[0], values["include_prompt"]


def _dense(place: Path) -> DenseSpec:
    file = place / "config.json"
    config = read_json(file)
    values = read_keys(config, module_keys.DENSE, file)
    warn_unknown(config, module_keys.DENSE, file)
    activation = module_keys.activation(values["activation_function"])
    return DenseSpec(values["in_features"], values["out_features"], activation, values["bias"])
