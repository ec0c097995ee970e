"""Encodes many texts step by step into a folder; resumable after a kill.

While a folder grows it holds vectors.npy at its full size, and progress.json with the rows that
are done; its manifest comes last.
"""

import contextlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from gemb.checks import UserError
from gemb.data.sources.records import digest
from gemb.files import atomic_file
from gemb.store.embeddings import MANIFEST, VECTORS, describe, read_embeddings

DTYPES = ("float32", "float16")
_PROGRESS = "progress.json"
_STEP = 1024


class Encoder(Protocol):
    """What is needed of a `gemb.Embedder`."""

    dim: int
    fingerprint: str

    def encode(self, texts: Sequence[str], *, kind: str) -> np.ndarray: ...


def encoded(
    encoder: Encoder,
    texts: Sequence[str],
    cache: Path,
    *,
    kind: str,
    content: str,
    dtype: str = "float32",
    unit: bool = False,
    **options,
) -> np.ndarray:
    """Vectors of texts from a cache, a folder that holds a folder for each model and content.

    Args:
        encoder: the model.
        texts: read one by one; never all at once in memory.
        cache: the folder; need not exist.
        kind, content, dtype, unit: see `encode_into`.
        **options: its "step" and "progress".

    Returns:
        [texts, dim], mapped from disk.

    Raises:
        UserError: as `encode_into`.
    """
    key = digest(encoder.fingerprint, kind, content, dtype, str(unit), str(encoder.dim))
    options |= {"kind": kind, "content": content, "dtype": dtype, "unit": unit}
    return encode_into(Path(cache) / f"{kind}-{key}", encoder, texts, **options)


def encode_into(
    folder: Path,
    encoder: Encoder,
    texts: Sequence[str],
    *,
    kind: str,
    content: str,
    dtype: str = "float32",
    unit: bool = False,
    ids: Iterable[str | int] | None = None,
    about: dict | None = None,
    step: int = _STEP,
    progress: bool = True,
) -> np.ndarray:
    """Vectors of texts, from the folder if they are there, else encoded step by step.

    Args:
        folder: to fill, one that `read_embeddings` then reads.
        encoder: the model.
        texts: read one by one; never all at once in memory.
        kind: "query" or "document".
        content: a fingerprint of the texts.
        dtype: "float32", or "float16" for half the disk and four digits.
        unit: whether to make each vector unit length; one of zeros stays zero.
        ids: one per text; default their numbers.
        about: what else embeddings.json should say.
        step: texts encoded at a time; what is lost when the process is killed.
        progress: whether to show a bar.

    Returns:
        [texts, dim] of `dtype`, mapped from disk.

    Raises:
        UserError: a text whose vector is not finite; a full disk; or a folder that holds other
            vectors.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype: expected one of {DTYPES}, got {dtype!r}")
    folder = Path(folder)
    wanted = {"model": encoder.fingerprint, "texts": content, "kind": kind}
    wanted |= {"dim": encoder.dim, "dtype": dtype, "unit": unit}
    if not (folder / MANIFEST).exists():
        _fill(folder, encoder, texts, wanted, step, progress)
        describe(folder, ids, **wanted | (about or {}))
    (folder / _PROGRESS).unlink(missing_ok=True)
    found = read_embeddings(folder, model=encoder.fingerprint, texts=content)
    if not wanted.items() <= ({"unit": False} | found.about).items():
        raise UserError(f"{folder}: holds vectors of another kind, size or dtype; delete it")
    return found.vectors


def _fill(folder: Path, encoder: Encoder, texts, wanted: dict, step: int, progress: bool) -> None:
    path, shape = folder / VECTORS, (len(texts), wanted["dim"])
    done = _done(folder, shape, wanted)
    if not done:
        _reserve(path, wanted["dtype"], shape)
    rows, label = np.lib.format.open_memmap(path, mode="r+"), f"encode {wanted['kind']}"
    with tqdm(total=len(texts), initial=done, desc=label, disable=not progress) as bar:
        for start in range(done, len(texts), step):
            stop = min(start + step, len(texts))
            some = [texts[row] for row in range(start, stop)]
            made = np.asarray(encoder.encode(some, kind=wanted["kind"]), np.float32)
            rows[start:stop] = _checked(made, some, wanted["unit"])
            rows.flush()
            with atomic_file(folder / _PROGRESS) as temporary:
                temporary.write_text(json.dumps(wanted | {"rows": stop}), encoding="utf-8")
            bar.update(stop - start)


def _reserve(path: Path, dtype: str, shape: tuple[int, int]) -> None:
    """Makes the file and takes its room on the disk: a mapped file that finds none kills us."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape).flush()
        if hasattr(os, "posix_fallocate"):
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
            path.parent.rmdir()  # where nothing else is in it
        raise UserError(f"cannot write {path}: {error.strerror}") from None


def _done(folder: Path, shape: tuple[int, int], wanted: dict) -> int:
    """Rows that an earlier process finished; 0 where its files are not whole, or of other texts."""
    try:
        rows = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
        state = json.loads((folder / _PROGRESS).read_text(encoding="utf-8"))
        whole = rows.shape == shape and str(rows.dtype) == wanted["dtype"]
        return int(state.pop("rows")) if whole and state | wanted == state else 0
    except (OSError, ValueError, KeyError, EOFError, AttributeError):
        return 0


def _checked(made: np.ndarray, texts: Sequence[str], unit: bool) -> np.ndarray:
    lengths = np.linalg.norm(made.astype(np.float64), axis=1, keepdims=True)
    wrong = ~np.isfinite(lengths[:, 0])
    if wrong.any():
        text = texts[int(np.argmax(wrong))]
        shown = f"the text {text[:80]!r}" if isinstance(text, str) else repr(text)
        raise UserError(f"the model gives no usable vector for {shown}")
    return (made / np.where(lengths > 0, lengths, 1)).astype(np.float32) if unit else made
