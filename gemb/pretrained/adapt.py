"""Turns a published model into the one to train: layers, attention, pooler, projection, LoRA."""

import dataclasses
import re
from collections.abc import Sequence

import jax
import numpy as np

from gemb.checks import UserError
from gemb.models.functional import functional, initial_params
from gemb.models.spec import DenseSpec, ModelSpec
from gemb.pretrained.folder import Pretrained, read

ATTENTION = ("causal", "bidirectional")


def load(
    model: str,
    *,
    max_length: int | None = None,
    widths: Sequence[int] = (),
    layers: Sequence[int] | None = None,
    attention: str | None = None,
    pooling: str | None = None,
    projection: Sequence[int] = (),
    projection_activation: str = "gelu",
    lora_rank: int = 0,
    lora_alpha: float = 16.0,
    normalize: bool | None = None,
    query_prompt: str | None = None,
    document_prompt: str | None = None,
    weights: bool = True,
    seed: int = 0,
) -> Pretrained:
    """Loads a model folder, by path or by the name it was fetched under, and adapts it.

    What is not asked for stays as the folder has it.

    Args:
        model: a folder, or a name such as "all-MiniLM-L6-v2" (see `gemb fetch`).
        max_length: cut texts to this many tokens.
        widths: nested widths to record in the model.
        layers: keep these layers, in this order: [0, 2, 5] makes a student of three.
        attention: "bidirectional" turns a decoder into an encoder, "causal" back.
        pooling: a name in gemb.models.spec.POOLINGS.
        projection: output sizes of linear layers over the pooled vector, in place of the folder's
            own; the last is the size of the embedding.
        projection_activation: between them; the last has none.
        lora_rank: rank of low-rank additions to every linear of the stack; 0 for none.
        lora_alpha: what they are multiplied by, times the rank.
        normalize: whether vectors are scaled to unit length.
        query_prompt, document_prompt: what the model reads before queries and documents when it
            embeds them, and in training where its tasks have no prompts of their own.
        weights: False starts from random weights of the same shape.
        seed: of weights that the folder does not have.

    Returns:
        The spec, parameters and tokenizer.

    Raises:
        UserError: for a missing or broken file, an unknown architecture, weights that do not fit
            the config or the tokenizer, or a wish that the model cannot fulfil.
    """
    loaded = read(model, weights=weights)
    try:
        if attention is not None:
            loaded = _with_attention(loaded, attention)
        if pooling not in (None, "mean") and loaded.config["model_type"] == "static":
            raise ValueError(f"pooling: a static model is a mean, not {pooling!r}")
        if layers is not None:
            loaded = take_layers(loaded, tuple(layers))
        spec = loaded.spec
        changes = {
            "max_length": max_length,
            "widths": tuple(widths) or None,
            "pooling": pooling,
            "normalize": normalize,
            "query_prompt": query_prompt,
            "document_prompt": document_prompt,
        }
        if projection:
            changes["dense"] = _projection(spec, projection, projection_activation)
            changes["widths"] = tuple(widths)  # those of the folder were of its own projection
        changes = {name: value for name, value in changes.items() if value is not None}
        if lora_rank:
            stack = dataclasses.replace(
                spec.text.stack, lora_rank=lora_rank, lora_scale=lora_alpha / lora_rank
            )
            changes["text"] = dataclasses.replace(spec.text, stack=stack)
        spec = dataclasses.replace(spec, **changes)
    except ValueError as error:
        raise UserError(str(error)) from None
    if loaded.params is not None:
        replaced = ["dense/"] if projection else []
        if pooling not in (None, loaded.spec.pooling):
            replaced.append("pooler/")
        loaded = dataclasses.replace(loaded, params=_complete(loaded.params, spec, replaced, seed))
    return dataclasses.replace(loaded, spec=spec)


def take_layers(model: Pretrained, layers: tuple[int, ...]) -> Pretrained:
    """A model of some of another's layers, in the order given.

    Raises:
        ValueError: for a layer that is not there.
    """
    stack = model.spec.text.stack.take(layers)
    text = dataclasses.replace(model.spec.text, stack=stack)
    config = model.config | {model.family.layer_count: len(layers)}
    windows = model.spec.text.stack.windows
    kinds = config.get("layer_types")
    if not kinds and len(set(windows)) > 1:  # else their pattern is a rule of the whole stack
        kinds = ["sliding_attention" if window else "full_attention" for window in windows]
    if kinds:
        config["layer_types"] = [kinds[layer] for layer in layers]
    params = model.params
    if params is not None:
        pattern = re.compile(r"text/stack/layers/(\d+)/(.*)")
        by_layer, params = {}, {}
        for path, value in model.params.items():
            if match := pattern.fullmatch(path):
                by_layer.setdefault(int(match[1]), {})[match[2]] = value
            else:
                params[path] = value
        for new, old in enumerate(layers):
            params |= {f"text/stack/layers/{new}/{k}": v for k, v in by_layer[old].items()}
    if model.family.text_spec(config) != text:
        raise ValueError(
            f"layers: a {config['model_type']} config.json cannot tell {list(layers)}, so the "
            "model could not be saved: its first layer is of another kind, take it too"
        )
    spec = dataclasses.replace(model.spec, text=text)
    return dataclasses.replace(model, spec=spec, params=params, config=config)


def _with_attention(model: Pretrained, attention: str) -> Pretrained:
    if attention not in ATTENTION:
        raise ValueError(f"attention: expected one of {list(ATTENTION)}, got {attention!r}")
    causal = attention == "causal"
    if causal == model.spec.text.stack.causal:
        return model
    if model.family.causal is None:
        kind = model.config["model_type"]
        raise ValueError(f"attention: {kind} models are bidirectional only")
    config = model.config | model.family.causal(causal)
    spec = dataclasses.replace(model.spec, text=model.family.text_spec(config))
    return dataclasses.replace(model, spec=spec, config=config)


def _projection(spec: ModelSpec, sizes: Sequence[int], activation: str) -> tuple[DenseSpec, ...]:
    inputs = (spec.text.stack.width, *sizes)
    last = len(sizes) - 1
    return tuple(
        DenseSpec(inputs[i], size, "identity" if i == last else activation)
        for i, size in enumerate(sizes)
    )


def _complete(params: dict, spec: ModelSpec, replaced: Sequence[str], seed: int) -> dict:
    """The parameters with random ones where the spec has more than the folder."""
    params = {path: value for path, value in params.items() if not path.startswith(tuple(replaced))}
    missing = [path for path in functional(spec).shapes if path not in params]
    if not missing:
        return params
    draw = jax.jit(lambda key: {path: initial_params(spec, key)[path] for path in missing})
    return params | {path: np.asarray(value) for path, value in draw(jax.random.key(seed)).items()}


def merge_lora(model: Pretrained) -> Pretrained:
    """The same model with W + scale A B in place of W, A and B."""
    stack = model.spec.text.stack
    if not stack.lora_rank:
        return model
    params = dict(model.params)
    for path in [path for path in params if path.endswith("/lora_a")]:
        base = path.removesuffix("/lora_a")
        a, b = (np.asarray(params.pop(f"{base}/lora_{side}")) for side in "ab")
        params[f"{base}/kernel"] = np.asarray(params[f"{base}/kernel"]) + stack.lora_scale * (a @ b)
    plain = dataclasses.replace(stack, lora_rank=0, lora_scale=1.0)
    text = dataclasses.replace(model.spec.text, stack=plain)
    spec = dataclasses.replace(model.spec, text=text)
    return dataclasses.replace(model, spec=spec, params=params)
