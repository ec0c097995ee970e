"""`gemb export`: a program with its tokenizer and its manifest, measured before it is kept."""

import dataclasses
import importlib.metadata
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gemb.checks import UserError, installed, require
from gemb.export import gguf_file, onnx_file, stablehlo
from gemb.export.measure import Difference, neighbour_overlap
from gemb.export.program import POOLED, program
from gemb.export.texts import check_texts, real_texts
from gemb.export.tokens import FileTokens, write_tokenizer
from gemb.files import atomic_folder, write_json
from gemb.identity import model_fingerprint, tower_fingerprint
from gemb.inference.embedder import Embedder
from gemb.models.model import Model, Tower
from gemb.pretrained.adapt import load
from gemb.structs import SIDES

MANIFEST = "export.json"
LIMIT = 1e-5  # of the largest difference of a coordinate on real texts
_ROWS = 16


@dataclasses.dataclass(frozen=True)
class Format:
    """A form that a tower is exported in.

    Attributes:
        write: (tower, folder) -> the file.
        encoder: (file, tower) -> what computes its inputs, to measure the file.
        exact: whether vectors are refused that are further than LIMIT from gemb's.
        libraries: that the extra `export` brings for it.
    """

    write: Callable
    encoder: Callable
    exact: bool = True
    libraries: tuple[str, ...] = ()


FORMATS = {
    "onnx": Format(onnx_file.write, onnx_file.OnnxEncoder, libraries=("onnx", "onnxruntime")),
    "onnx-int8": Format(
        onnx_file.write_int8, onnx_file.OnnxEncoder, False, libraries=("onnx", "onnxruntime")
    ),
    "stablehlo": Format(stablehlo.write, stablehlo.StableHloEncoder),
    "gguf": Format(gguf_file.write, gguf_file.GgufEncoder, libraries=("gguf",)),
}


def export(
    model: str | Model, output: str | Path, *, form: str = "onnx", texts: int = 64
) -> dict[str, dict]:
    """Exports a model; a model of two towers into the folders query/ and document/ of the output.

    Args:
        model: a folder, the name of a fetched model, or a model.
        output: the folder to make, whole or not at all; an earlier export is replaced.
        form: one of FORMATS.
        texts: how many real texts the program is measured on.

    Returns:
        {"" or side: manifest} of each program.

    Raises:
        UserError: for an unknown format, a model that the format does not take, vectors that
            differ too much, or an output that holds something else.
    """
    if form not in FORMATS:
        raise UserError(f"--format: expected one of {', '.join(FORMATS)}, got {form!r}")
    output = Path(output).expanduser()
    _check_output(output)
    for library in FORMATS[form].libraries:
        require(library, f"the format {form}", extra="export")
    loaded = load(model) if isinstance(model, str) else model
    check_texts(loaded, "export: only models of texts can be exported")
    manifests, whole = {}, model_fingerprint(loaded)
    with atomic_folder(output) as folder:
        for start, tower in loaded.towers.items():
            place = folder / start.rstrip("/")
            place.mkdir(exist_ok=True)
            sides = (start.rstrip("/"),) if start else SIDES
            made = _export_tower(tower, place, form, sides, texts)
            manifests[start.rstrip("/")] = made
            write_json(place / MANIFEST, made | {"model": whole})
        if not loaded.shared:
            towers = {"format": form, "model": whole, "towers": list(SIDES)}
            write_json(folder / MANIFEST, towers)
    return manifests


def _check_output(output: Path) -> None:
    earlier = (output / MANIFEST).exists()
    empty = output.is_dir() and not any(output.iterdir())
    if output.exists() and not earlier and not empty:
        raise UserError(f"{output} holds something else than an export: name another folder")


def _export_tower(tower: Tower, place: Path, form: str, sides, texts: int) -> dict:
    started, how, made = time.perf_counter(), FORMATS[form], program(tower)
    file = how.write(tower, place)
    write_tokenizer(tower.processor, place, tower.origin.folder)
    hidden = POOLED in made.inputs
    prompts = {side: tower.processor.prompt(side) for side in sides}
    lengths = {s: tower.processor.tokenizer(p).prompt_length for s, p in prompts.items()}
    manifest = {
        "format": form,
        "file": file.name,
        "fingerprint": tower_fingerprint(tower),
        "inputs": {name: ["batch", "length"] for name in made.inputs},
        "outputs": made.outputs,
        "unit_length": tower.spec.normalize,
        "max_length": made.max_length,
        "prompts": prompts,
        "prompt_tokens": lengths if hidden else None,
        "causal": tower.spec.encoder.stack.causal,
        "pooling": tower.spec.pooling,
        "versions": _versions(how.libraries),
        "seconds": round(time.perf_counter() - started, 2),
    }
    tokens = FileTokens(place, prompts, manifest["prompt_tokens"])
    manifest["measured"] = _measured(tower, how.encoder(file, tower), tokens, sides, texts)
    _check_measured(manifest, how)
    return manifest


def _versions(libraries) -> dict[str, str]:
    names = ("gemb", "jax", "tokenizers", *libraries)
    return {name: importlib.metadata.version(name) for name in names if installed(name)}


def _measured(tower: Tower, encoder, tokens: FileTokens, sides, count: int) -> dict:
    """Every side and width on real texts, from text to vector, against gemb."""
    texts = sorted(real_texts(count, tower.processor.tokenizer().special), key=len)
    embedder, widths = Embedder(Model.of(tower)), program(tower).outputs.values()
    found, overlaps = [], []
    prompts = {tower.processor.prompt(side): side for side in sides}
    for side in prompts.values():
        parts = [
            encoder(*tokens(texts[at : at + _ROWS], side)) for at in range(0, len(texts), _ROWS)
        ]
        for width, *theirs in zip(widths, *parts, strict=True):
            ours, theirs = embedder.encode(texts, dim=width, kind=side), np.concatenate(theirs)
            found.append(Difference.between(ours, theirs))
            overlaps.append(neighbour_overlap(ours, theirs))
    return {
        "texts": len(texts),
        "least_cosine": min(one.cosine for one in found),
        "largest_difference": max(one.largest for one in found),
        "neighbour_overlap": min(overlaps),
    }


def _check_measured(manifest: dict, how: Format) -> None:
    largest = manifest["measured"]["largest_difference"]
    allowed = LIMIT if how.exact else np.inf
    if not largest <= allowed or not np.isfinite(largest):
        raise UserError(
            f"the exported program's vectors differ from gemb's by {largest:.1e}, more than "
            f"{LIMIT:.0e} on real texts: nothing was kept"
        )


def described(manifests: dict[str, dict], output: str | Path) -> str:
    """Lines that say what was exported and how far it is from gemb."""
    lines = []
    for side, manifest in manifests.items():
        measured = manifest["measured"]
        lines.append(
            f"{Path(output) / side / manifest['file']}: {manifest['format']}, outputs "
            f"{', '.join(manifest['outputs'])}; {manifest['seconds']} s\n"
            f"  {measured['texts']} real texts: least cosine {measured['least_cosine']:.7f}, "
            f"largest difference {measured['largest_difference']:.1e}, "
            f"{100 * measured['neighbour_overlap']:.1f} % of the 10 nearest neighbours kept"
        )
    return "\n".join(lines)


def read_manifest(folder: Path) -> dict:
    """The manifest of one exported program."""
    return json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
