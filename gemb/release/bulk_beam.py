"""Embeds texts, and loads vectors into index hosts, by an Apache Beam pipeline.

Each worker loads the model once, reads its texts by number from the same files, and writes the
vectors of a range of rows as one file of FOLDER/parts. A part appears whole and is written again
without harm, so that retries, and a second call after a kill, give the same folder as one process.
Documents go into an index host by their ids, so that a retry changes nothing there either.
"""

import functools
import re
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.options.pipeline_options import PipelineOptions

from gemb.checks import UserError
from gemb.files import atomic_file, users_errors
from gemb.identity import Version, texts_fingerprint
from gemb.inference.embedder import Embedder
from gemb.models.execution import Execution
from gemb.release.source import Source
from gemb.store.embeddings import VECTORS, Embeddings, describe, read_embeddings
from gemb.store.hosts import IndexHost, open_host

# DirectRunner first tries a runner that downloads a program.
RUNNERS = {"FnApiRunner": "apache_beam.runners.portability.fn_api_runner.FnApiRunner"}
PARTS = "parts"
_STEP = 1024
_QUIET = "--default_sdk_harness_log_level=ERROR"
_LOCK = threading.Lock()
_MISTAKE = re.compile(r"\b(?:User|Host|Space)Error: (.+)")


class Work(NamedTuple):
    """What a worker has to know.

    Attributes:
        model: folder or name.
        fingerprint: that the model must have.
        source: of the texts.
        folder: that the parts are written to.
        kind, dim, dtype, matmul_dtype: as in `gemb embed`.
    """

    model: str
    fingerprint: str
    source: Source
    folder: str
    kind: str
    dim: int
    dtype: str
    matmul_dtype: str


class Part(NamedTuple):
    """A range of rows.

    Attributes:
        number: of the part.
        first, last: rows, the last one not included.
        texts: their fingerprint, so that a worker with other files is noticed.
    """

    number: int
    first: int
    last: int
    texts: str


def embed(
    work: Work,
    texts: Sequence[str],
    ids,
    *,
    runner: str,
    options: Sequence[str] = (),
    about: dict,
    step: int = _STEP,
) -> None:
    """Fills a folder that `gemb.store.embeddings.read_embeddings` reads.

    Args:
        work: what to do.
        texts: as the driver reads them.
        ids: one per text.
        runner: "FnApiRunner", or any name that Beam knows, such as "FlinkRunner".
        options: further options of Beam's pipeline.
        about: what embeddings.json has to say.
        step: texts of a part.

    Raises:
        UserError: an unknown runner, a worker that fails or reads other texts, a full disk.
    """
    folder = Path(work.folder)
    with users_errors(folder):
        (folder / PARTS).mkdir(parents=True, exist_ok=True)
    parts = [
        Part(number, first, min(first + step, len(texts)), "")
        for number, first in enumerate(range(0, len(texts), step))
    ]
    missing = [part for part in parts if not _whole(work, part)]
    missing = [
        part._replace(texts=texts_fingerprint([texts[row] for row in range(part.first, part.last)]))
        for part in missing
    ]
    if missing:
        _run(_encode_part, missing, work, runner, options)
    for part in parts:
        if not _whole(work, part):
            raise UserError(
                f"{folder}: the pipeline did not write part {part.number}. Where its workers are "
                "other machines, --output must be in a folder that all of them share"
            )
    _join(work, parts, len(texts))
    describe(folder, ids, **about)
    shutil.rmtree(folder / PARTS)


class Sink(NamedTuple):
    """Where vectors go.

    Attributes:
        folder: with the vectors, as `embed` leaves it.
        host: address of the index host.
        name: of the index on its server.
        version: that was begun there.
    """

    folder: str
    host: str
    name: str
    version: Version


def send(sink: Sink, *, runner: str, options: Sequence[str] = (), step: int = _STEP) -> None:
    """Loads the vectors of a folder into an unfinished version of an index host.

    Args:
        sink: where from and where to.
        runner, options: as for `embed`.
        step: documents of a batch.

    Raises:
        UserError: an unknown runner, or a host that refuses or does not answer.
    """
    rows = len(read_embeddings(sink.folder, model=None).ids)
    parts = [(first, min(first + step, rows)) for first in range(0, rows, step)]
    _run(_send_part, parts, sink, runner, options)


def _send_part(part: tuple[int, int], sink: Sink) -> int:
    """In a worker: loads a range of rows."""
    with _LOCK:
        host, (ids, vectors, _) = _host(sink.host, sink.name), _vectors(sink.folder)
        rows = [row for row in range(*part) if vectors[row].any()]
        if rows:
            host.load(sink.version, [ids[row] for row in rows], np.asarray(vectors[rows]))
    return len(rows)


@functools.cache
def _host(address: str, name: str) -> IndexHost:
    return open_host(address, name=name)


@functools.cache
def _vectors(folder: str) -> Embeddings:
    return read_embeddings(folder, model=None)


def _run(
    function: Callable, parts: Sequence, about: Work | Sink, runner: str, options: Sequence[str]
) -> None:
    """Calls `function(part, about)` for each part, in workers."""
    try:
        settings = PipelineOptions([_QUIET, f"--runner={RUNNERS.get(runner, runner)}", *options])
        pipeline = beam.Pipeline(options=settings)
    except (ValueError, ImportError, SystemExit) as error:
        raise UserError(f"--runner={runner}: {str(error).splitlines()[0]}") from None
    _ = (
        pipeline
        | "parts" >> beam.Create(parts)
        | "spread" >> beam.Reshuffle()
        | "work" >> beam.Map(function, about)
    )
    try:
        pipeline.run().wait_until_finish()
    except Exception as error:  # of a worker: a text with its traceback
        said = _MISTAKE.findall(str(error))
        if not said:
            raise
        raise UserError(said[-1].partition("[while running")[0].strip()) from None


def _encode_part(part: Part, work: Work) -> int:
    """In a worker: encodes a range of rows and writes its file."""
    if _whole(work, part):
        return part.number
    with _LOCK:  # one model per process, used by one thread at a time
        embedder, texts = _model(work.model, work.matmul_dtype), _texts(work.source)
        if embedder.fingerprint != work.fingerprint:
            raise UserError(f"{work.model}: is another model for this worker than for the driver")
        some = [texts[row] for row in range(part.first, min(part.last, len(texts)))]
        if texts_fingerprint(some) != part.texts:
            raise UserError(f"{work.source.place}: this worker reads other texts than the driver")
        vectors = embedder.encode(some, dim=work.dim, kind=work.kind)
    if not np.isfinite(vectors).all():
        raise UserError(f"the model gives no usable vector for a text of rows {part.first:,} on")
    with atomic_file(_path(work, part)) as temporary, open(temporary, "wb") as file:
        np.save(file, vectors.astype(work.dtype))
    return part.number


@functools.cache
def _model(model: str, matmul_dtype: str) -> Embedder:
    return Embedder.load(model, execution=Execution(matmul_dtype=matmul_dtype))


@functools.cache
def _texts(source: Source) -> Sequence[str]:
    return source.read()[1]


def _path(work: Work, part: Part) -> Path:
    return Path(work.folder) / PARTS / f"{part.number:08d}.npy"


def _whole(work: Work, part: Part) -> bool:
    try:
        rows = np.load(_path(work, part), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    return rows.shape == (part.last - part.first, work.dim) and str(rows.dtype) == work.dtype


def _join(work: Work, parts: Sequence[Part], rows: int) -> None:
    """All parts as one vectors.npy."""
    descr = np.lib.format.dtype_to_descr(np.dtype(work.dtype))
    header = {"descr": descr, "fortran_order": False, "shape": (rows, work.dim)}
    with atomic_file(Path(work.folder) / VECTORS) as temporary, open(temporary, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            file.write(np.load(_path(work, part), allow_pickle=False).tobytes())
