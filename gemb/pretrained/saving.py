"""Writes a model folder that sentence-transformers loads unchanged, and that gemb loads back."""

import dataclasses
import json
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.files import atomic_folder, save_tensors
from gemb.identity import fingerprint, tower_fingerprint
from gemb.models.encoders.convolution import ConvolutionSpec
from gemb.models.encoders.video import VideoSpec
from gemb.models.encoders.vision import VisionSpec
from gemb.models.encoders.vision_language import VisionLanguageSpec
from gemb.models.model import Model, Tower
from gemb.models.spec import TowerSpec
from gemb.pretrained import convolution
from gemb.pretrained.adapt import merge_lora
from gemb.pretrained.feature_models.folder import save_features
from gemb.pretrained.folder import MANIFEST, config_of, family_of
from gemb.pretrained.modules import DTYPES, POOLING_FLAGS, SETTINGS, WEIGHTS, module_list
from gemb.pretrained.publishing.card import with_card
from gemb.pretrained.router import ROUTER, router_config
from gemb.pretrained.sentence_transformers import DENSE_ACTIVATIONS, read_json
from gemb.pretrained.vision import folder as vision
from gemb.pretrained.vision import gemma, language
from gemb.pretrained.weights import tensors_from_params
from gemb.structs import SIDES

# What only gemb has a place for: learned poolers and further heads.
_OWN = ("pooler/", "heads/")
# Of towers that no other library has a module for: the folders query/ and document/ say the rest.
_TWO_TOWERS = {"config.json": {"model_type": "gemb_two_towers"}, ROUTER: {"types": {}}}


def save(
    model: Model,
    folder: Path,
    *,
    training: dict | None = None,
    dtype: str = "float32",
) -> str:
    """Saves weights, processor, configs and the model card.

    Two towers become the folders query/ and document/ under a router, which sentence-transformers
    follows by `encode_query` and `encode_document`. LoRA is merged into the weights. A learned
    pooler, which sentence-transformers does not have, is saved for gemb alone; the other library
    refuses such a folder by its pooling mode.

    Args:
        model: what to save.
        folder: where; replaced whole when everything is written.
        training: a summary of how it was made, kept in gemb.json.
        dtype: of the encoder's weights, one of DTYPES.

    Returns:
        The fingerprint of the model as saved.

    Raises:
        UserError: when the disk is full or the place cannot be written, for an unknown dtype, or
            for a model that the family's config.json cannot describe.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype: expected one of {list(DTYPES)}, got {dtype!r}")
    if {tower.spec.encoder.modality for tower in model.towers.values()} == {"features"}:
        return save_features(model, folder, training)
    for tower in model.towers.values():
        encoder = tower.spec.encoder
        if encoder.modality != "text" and not isinstance(
            encoder, ConvolutionSpec | VideoSpec | VisionLanguageSpec | VisionSpec
        ):
            raise UserError(
                f"{folder}: sentence-transformers folders hold text models, and the model's "
                f"encoder reads {tower.spec.encoder.modality!r}"
            )
        alone = model.shared or not vision.is_published_pair(model)
        if alone and getattr(tower.processor, "fill", None) is not None:
            raise UserError(
                f"{folder}: an encoder of texts that reads its padding (SigLIP) is saved only with "
                "the image encoder of its own kind, in their published shape"
            )
    with atomic_folder(folder) as temporary, with_card(temporary, folder, model.folder):
        if model.shared:
            identity = _save_tower(model.document, temporary, training or {}, dtype)
        elif vision.is_published_pair(model):
            identity = vision.save_pair(model, temporary, training or {}, dtype)
        else:
            identity = _save_two_towers(model, temporary, training or {}, dtype)
        if model.logit_scale is not None:
            manifest = read_json(temporary / MANIFEST)
            scale = {"logit_scale": dataclasses.asdict(model.logit_scale)}
            text = json.dumps(manifest | scale, indent=2)
            (temporary / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return identity


def _save_two_towers(model: Model, temporary: Path, training: dict, dtype: str) -> str:
    identities = {}
    for side in SIDES:
        (temporary / side).mkdir()
        identities[side] = _save_tower(getattr(model, side), temporary / side, {}, dtype)
    identity = fingerprint({}, "", **identities)
    texts = all(tower.spec.encoder.modality == "text" for tower in model.towers.values())
    for name, content in {
        **(_router(temporary) if texts else _TWO_TOWERS),
        SETTINGS: _router_settings(model),
        MANIFEST: {"fingerprint": identity, "training": training},
    }.items():
        (temporary / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return identity


def _save_tower(tower: Tower, temporary: Path, training: dict, dtype: str) -> str:
    if isinstance(tower.spec.encoder, ConvolutionSpec):
        return _save_convolution(tower, temporary, training, dtype)
    if isinstance(tower.spec.encoder, VisionLanguageSpec):
        if gemma.is_published(tower):
            return _save_gemma(tower, temporary, training, dtype)
        return language.save_tower(
            tower, temporary, lambda part, place: _save_tower(part, place, {}, dtype), training
        )
    if isinstance(tower.spec.encoder, VideoSpec | VisionSpec):
        return vision.save_tower(tower, temporary, training, dtype)
    tower = _rounded(merge_lora(tower), dtype)
    _check_config(tower)
    spec, identity, family = tower.spec, tower_fingerprint(tower), family_of(tower)
    tensors = tensors_from_params(tower.params, tower.origin.kept, family, spec, np.dtype(dtype))
    _write_files(temporary, _files(tower, identity, training, dtype))
    static = not spec.encoder.stack.layers  # sentence-transformers' StaticEmbedding has no limit
    tower.processor.save(temporary, tower.origin.folder, cut=static)
    save_tensors(temporary / WEIGHTS, tensors, {"format": "pt"})
    _save_own(tower, temporary)
    return identity


def _write_files(temporary: Path, files: dict[str, object]) -> None:
    for name, content in files.items():
        path = temporary / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _save_own(tower: Tower, temporary: Path) -> None:
    """Writes the weights beyond the encoder's."""
    for number, place in enumerate(_dense_places(tower.spec)):
        save_tensors(temporary / place / WEIGHTS, _dense_tensors(tower, number))
    own = {path: np.asarray(v) for path, v in tower.params.items() if path.startswith(_OWN)}
    if own:
        (temporary / "gemb").mkdir()
        save_tensors(temporary / "gemb" / WEIGHTS, own)


def _save_gemma(tower: Tower, temporary: Path, training: dict, dtype: str) -> str:
    """Writes EmbeddingGemma 2 in its published layout."""
    if dtype == "float16":
        raise UserError("dtype: EmbeddingGemma 2 exceeds float16; choose float32 or bfloat16")
    tower = _rounded(tower, dtype)
    text, identity = language.parts_of(tower)[0], tower_fingerprint(tower)
    files = _files(text, identity, training, dtype)
    files["config.json"] = gemma.config_of(tower, files["config.json"], dtype)
    files["sentence_bert_config.json"] |= gemma.save_settings(tower, temporary)
    _write_files(temporary, files)
    text.processor.save(temporary, tower.origin.folder)
    save_tensors(temporary / WEIGHTS, gemma.tensors_of(tower, dtype), {"format": "pt"})
    _save_own(text, temporary)
    return identity


def _router(temporary: Path) -> dict[str, object]:
    return {
        "modules.json": module_list([("", "Router")]),
        ROUTER: router_config(temporary),
    }


def _save_convolution(tower: Tower, temporary: Path, training: dict, dtype: str) -> str:
    if dtype != "float32":
        raise UserError(f"dtype: convolutional encoders are saved in float32, not in {dtype}")
    identity = tower_fingerprint(tower)
    manifest = {"fingerprint": identity, "dim": tower.spec.dim, "training": training}
    convolution.save_tower(tower, temporary, manifest)
    return identity


def _rounded(tower: Tower, dtype: str) -> Tower:
    """The tower with its encoder's weights as they come back from the file."""
    if dtype == "float32":
        return tower
    params = {
        path: np.asarray(value).astype(dtype).astype(np.float32)
        for path, value in tower.params.items()
        if path.startswith(f"{tower.spec.encoder.modality}/")
    }
    return dataclasses.replace(tower, params=tower.params | params)


def _check_config(tower: Tower) -> None:
    """Whether reading config.json back gives the encoder that is being saved."""
    config = config_of(tower)
    if family_of(tower).text_spec(config) != tower.spec.encoder:
        raise UserError(
            f"the encoder is not one that a {config['model_type']} config.json can describe "
            "(a first layer without its norm, or a shape changed by hand)"
        )


def _files(tower: Tower, identity: str, training: dict, dtype: str) -> dict[str, object]:
    """Name -> content of every JSON file."""
    spec, processor = tower.spec, tower.processor
    prompts = {side: processor.prompt(side) for side in SIDES}
    files = {
        "modules.json": _modules(spec),
        SETTINGS: _settings(tower.origin.settings, prompts, spec.similarity),
        MANIFEST: {
            "fingerprint": identity,
            "dim": spec.dim,
            "widths": spec.widths,
            "max_length": processor.max_length,
            "heads": {name: [list(vars(s).values()) for s in head] for name, head in spec.heads},
            "prompts": prompts,
            "training": training,
        },
    }
    if spec.encoder.stack.layers:
        files["config.json"] = _config(tower, dtype)
        files["1_Pooling/config.json"] = _pooling(spec, processor.prompts.pooled)
        files["sentence_bert_config.json"] = {
            "max_seq_length": processor.max_length,
            "do_lower_case": False,
        }
    names = {ours: theirs for theirs, ours in DENSE_ACTIVATIONS.items()}
    for place, dense in zip(_dense_places(spec), spec.dense, strict=True):
        kind = "linear" if dense.activation == "identity" else "activation"
        files[f"{place}/config.json"] = {
            "in_features": dense.inputs,
            "out_features": dense.outputs,
            "bias": dense.bias,
            "activation_function": f"torch.nn.modules.{kind}.{names[dense.activation]}",
        }
    return files


def _config(tower: Tower, dtype: str) -> dict:
    """config.json, with what servers read of a model beyond its shape."""
    spec, causal = tower.spec, family_of(tower).causal
    config = {name: value for name, value in config_of(tower).items() if name != "dtype"}
    config["torch_dtype"] = dtype  # transformers rounds weights and arithmetic to it
    if causal and not spec.encoder.stack.causal:
        marked = config | causal(False)
        # A folder that was marked in one spelling may mean another window by the other.
        config = marked if family_of(tower).text_spec(marked) == spec.encoder else config
    nested = list(spec.widths) if len(spec.widths) > 1 else _kept_widths(tower)
    config.pop("matryoshka_dimensions", None)
    return config | ({"matryoshka_dimensions": sorted(nested)} if nested else {})


def _kept_widths(tower: Tower) -> list[int]:
    """The nested widths that the base model's config.json lists, if its vectors have its width."""
    given = config_of(tower).get("matryoshka_dimensions")
    return given if isinstance(given, list) and not tower.spec.dense else []


def _settings(given: dict, prompts: dict[str, str], similarity: str) -> dict:
    """config_sentence_transformers.json: the sides' prompts among those that the folder had."""
    return {
        "prompts": (given.get("prompts") or {}) | prompts,
        "default_prompt_name": given.get("default_prompt_name"),
        "similarity_fn_name": similarity,
    }


def _router_settings(model: Model) -> dict:
    """Those of both towers; where they differ, the documents'."""
    given = [getattr(model, side).origin.settings for side in SIDES]
    named = [settings.get("prompts") or {} for settings in given]
    own = {side: getattr(model.processors, side).prompt(side) for side in SIDES}
    both = given[0] | given[1] | {"prompts": named[0] | named[1]}
    return _settings(both, own, model.spec.similarity)


def _modules(spec: TowerSpec) -> list[dict]:
    steps = [("", "Transformer"), ("1_Pooling", "Pooling")]
    if not spec.encoder.stack.layers:
        steps = [("", "StaticEmbedding")]
    steps += [(place, "Dense") for place in _dense_places(spec)]
    if spec.normalize:
        steps.append((f"{len(steps)}_Normalize", "Normalize"))
    return module_list(steps)


def _dense_places(spec: TowerSpec) -> list[str]:
    first = 2 if spec.encoder.stack.layers else 1
    return [f"{first + number}_Dense" for number in range(len(spec.dense))]


def _dense_tensors(tower: Tower, number: int) -> dict[str, np.ndarray]:
    path = f"dense/layers/{number}"
    tensors = {"linear.weight": np.ascontiguousarray(np.asarray(tower.params[f"{path}/kernel"]).T)}
    if tower.spec.dense[number].bias:
        tensors["linear.bias"] = np.asarray(tower.params[f"{path}/bias"])
    return tensors


def _pooling(spec: TowerSpec, pool_prompt: bool) -> dict:
    width = {"word_embedding_dimension": spec.encoder.width, "include_prompt": pool_prompt}
    if spec.pooling not in POOLING_FLAGS:
        return width | {"pooling_mode": spec.pooling}
    flags = {f"pooling_mode_{flag}": mode == spec.pooling for mode, flag in POOLING_FLAGS.items()}
    return width | flags
