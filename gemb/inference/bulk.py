"""Vectors of many texts in a file that numpy maps, made in steps that outlive the process."""

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from tqdm import tqdm

from gemb.checks import UserError
from gemb.data.sources.records import digest
from gemb.files import atomic_file

DTYPES = ("float32", "float16")
_STEP = 1024


class Encoder(Protocol):
    """What is needed of a `gemb.Embedder`."""

    dim: int
    fingerprint: str

    def encode(self, texts: Sequence[str], *, kind: str) -> np.ndarray: ...


def encoded(
    encoder: Encoder,
    texts: Sequence[str],
    folder: Path,
    *,
    kind: str,
    content: str,
    dtype: str = "float32",
    unit: bool = False,
    step: int = _STEP,
    stem: str = "",
    progress: bool = True,
) -> np.ndarray:
    """Vectors of texts, from the file where it is there, else encoded step by step.

    Args:
        encoder: the model.
        texts: read one by one; never all at once in memory.
        folder: holds the files.
        kind: "query" or "document".
        content: a fingerprint of the texts.
        dtype: "float32", or "float16" for half the disk and four digits.
        unit: whether to make each vector unit length.
        step: texts encoded at a time; what is lost when the process is killed.
        stem: the file's name without .npy, where the folder itself tells the model and the content
            apart; default one that does.
        progress: whether to show a bar.

    Returns:
        [texts, dim] of `dtype`, mapped from disk.

    Raises:
        UserError: a text whose vector is not finite, or zero where `unit` is asked for; a full
            disk.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype: expected one of {DTYPES}, got {dtype!r}")
    key = digest(encoder.fingerprint, kind, content, dtype, str(unit), str(encoder.dim))
    path = Path(folder) / f"{stem or f'{kind}-{key}'}.npy"
    shape = (len(texts), encoder.dim)
    if path.exists():
        return _mapped(path, shape)
    growing, state = path.with_suffix(".growing"), path.with_suffix(".json")
    done = _done(growing, state, shape)
    if not done:
        _reserve(growing, dtype, shape)
    rows = np.lib.format.open_memmap(growing, mode="r+")
    with tqdm(total=len(texts), initial=done, desc=f"encode {kind}", disable=not progress) as bar:
        for start in range(done, len(texts), step):
            stop = min(start + step, len(texts))
            made = encoder.encode([texts[row] for row in range(start, stop)], kind=kind)
            rows[start:stop] = _checked(np.asarray(made, np.float32), texts, start, unit)
            rows.flush()
            with atomic_file(state) as temporary:
                temporary.write_text(json.dumps({"rows": stop}), encoding="utf-8")
            bar.update(stop - start)
    del rows
    growing.replace(path)
    state.unlink(missing_ok=True)
    return _mapped(path, shape)


def _mapped(path: Path, shape: tuple[int, int]) -> np.ndarray:
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: cannot be read ({error}); delete it to encode again") from None
    if rows.shape != shape:
        raise UserError(f"{path}: expected shape {shape}, got {rows.shape}; delete it")
    return rows


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
        raise UserError(f"cannot write {path}: {error.strerror}") from None


def _done(growing: Path, state: Path, shape: tuple[int, int]) -> int:
    """Rows that an earlier process finished; 0 where its file is not whole."""
    try:
        _mapped(growing, shape)
        return int(json.loads(state.read_text(encoding="utf-8"))["rows"])
    except (OSError, ValueError, KeyError, UserError):
        return 0


def _checked(made: np.ndarray, texts: Sequence[str], start: int, unit: bool) -> np.ndarray:
    lengths = np.linalg.norm(made.astype(np.float64), axis=1, keepdims=True)
    wrong = ~np.isfinite(lengths[:, 0]) | (unit & (lengths[:, 0] == 0))
    if wrong.any():
        text = texts[start + int(np.argmax(wrong))]
        raise UserError(f"the model gives no usable vector for the text {text[:80]!r}")
    return (made / lengths).astype(np.float32) if unit else made
