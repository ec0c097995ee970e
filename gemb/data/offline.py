"""Offline caches of seqio tasks, written by a Beam pipeline. The only importer of apache_beam.

The layout is seqio's own, so `use_cached` reads it; `gemb.data.sources.cached` gives the same
records to training. A cache appears whole or not at all.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import seqio
from apache_beam.options.pipeline_options import PipelineOptions
from seqio import beam_utils
from tqdm import tqdm

from gemb.checks import UserError
from gemb.data import seqio_tasks
from gemb.data.batches import Part
from gemb.data.sources.cached import COMPLETED, NOTES, notes_of
from gemb.files import atomic_folder
from gemb.structs import Processors

_QUIET = "--default_sdk_harness_log_level=ERROR"  # workers of their own print every record else


class Cached(NamedTuple):
    """What became of one task.

    Attributes:
        folder: of its cache.
        records: in it.
        left_out: records of the source that were broken, and that gave no pair.
        size: of the folder in bytes.
        fresh: False where the same cache was there already.
    """

    folder: Path
    records: int
    left_out: dict[str, int]
    size: int
    fresh: bool


def write(
    parts: Sequence[Part],
    processors: Processors,
    output: str | Path,
    *,
    name: str,
    shards: int = 16,
    options: Sequence[str] = (),
    setup: Callable[[], None] = lambda: None,
) -> list[Cached]:
    """Caches tasks, one pipeline after the other.

    Args:
        parts: the tasks with their records.
        processors: the model's, of texts.
        output: the folder of caches; the task's becomes `output/name_task`.
        name: of the mixture, as in `gemb.data.seqio_tasks.register`.
        shards: files that each task is written to.
        options: Beam's pipeline options, such as "--runner=DirectRunner".
        setup: called in each worker before it reads, such as `register` with its arguments.

    Raises:
        UserError: if a cache of other data is there, or records are missing when a pipeline has
            ended.
    """
    output, results = Path(output).expanduser().absolute(), []
    folders = [output / f"{name}_{part.name}" for part in parts]
    there = [_present(*pair) for pair in zip(folders, parts, strict=True)]
    for folder, part, notes in zip(folders, parts, there, strict=True):
        if notes is None:
            notes = _write_task(folder, part, processors, shards, options, setup)
            results.append(_result(folder, notes, fresh=True))
        else:
            results.append(_result(folder, notes, fresh=False))
    return results


def register(name: str, make: Callable[[], tuple[Sequence[Part], Processors]]) -> None:
    """Registers the tasks in a worker that is a process of its own, where seqio knows none yet.

    Args:
        name: of the mixture.
        make: () -> (the tasks with their records, the processors).
    """
    if any(known.startswith(f"{name}_") for known in seqio.TaskRegistry.names()):
        return
    parts, processors = make()
    for part in parts:
        seqio_tasks.add_task(f"{name}_{part.name}", part.task, part.selection, processors)


def _present(folder: Path, part: Part) -> dict | None:
    """The notes of the task's own cache; None where nothing is yet."""
    if not folder.exists():
        return None
    notes = notes_of(folder)
    if notes is None:
        raise UserError(
            f"{folder}: is there already and holds no cache of gemb's; choose another "
            "--output_cache_dir"
        )
    if notes["fingerprint"] != part.selection.fingerprint:
        raise UserError(
            f"{folder}: holds a cache of other data ({notes['records']:,} records; here are "
            f"{len(part.selection):,}), or of another form or columns; remove it, or choose "
            "another --output_cache_dir or --name"
        )
    return notes


def _write_task(
    folder: Path, part: Part, processors: Processors, shards: int, options: Sequence[str], setup
) -> dict:
    count = len(part.selection)
    with atomic_folder(folder) as made, tqdm(total=count, desc=f"cache {part.name}") as bar:
        seqio_tasks.add_task(folder.name, part.task, part.selection, processors, bar.update)
        _run(folder.name, made, shards, options, setup)
        _check_whole(made, folder, count)
        notes = {
            "task": part.name,
            "records": count,
            "left_out": {kind: part.selection.counts[kind] for kind in ("bad", "unfit")},
            "form": repr(part.task.form),
            "fingerprint": part.selection.fingerprint,
        }
        (made / NOTES).write_text(json.dumps(notes, indent=1, ensure_ascii=False) + "\n")
        (made / COMPLETED).touch()
    return notes


def _run(name: str, folder: Path, shards: int, options: Sequence[str], setup) -> None:
    """One task's pipeline: records to TFRecords, with what seqio wants to know of them."""
    task, place, split = seqio.TaskRegistry.get(name), str(folder), seqio_tasks.SPLIT
    info, stats = (
        f(place, split) for f in (seqio.get_cached_info_path, seqio.get_cached_stats_path)
    )
    emit = beam_utils.PreprocessTask(task, split, setup_fn=setup)
    files = beam_utils.WriteExampleTfRecord(seqio.get_cached_tfrecord_prefix(place, split), shards)
    count = beam_utils.GetStats(task.output_features)
    try:
        settings = PipelineOptions([_QUIET, *options])
        pipeline = beam.Pipeline(options=settings)
    except (ValueError, ImportError) as error:  # an unknown runner
        raise UserError(f"--pipeline_options: {str(error).splitlines()[0]}") from None
    with pipeline:
        # The reshuffle spreads what one worker reads over all files and workers.
        examples = pipeline | "read" >> emit | "plain" >> beam.Map(_plain)
        examples = examples | "reshuffle" >> beam.Reshuffle()
        _ = examples | "write" >> files
        features = examples | "features" >> beam_utils.GetInfo(shards)
        _ = features | "write features" >> beam_utils.WriteJson(info)
        _ = examples | "count" >> count | "write counts" >> beam_utils.WriteJson(stats)


def _plain(example: dict) -> dict:
    """Tensors as numpy, which costs less to pass on."""
    return {name: value.numpy() for name, value in example.items()}


def _check_whole(made: Path, folder: Path, count: int) -> None:
    stats = Path(seqio.get_cached_stats_path(str(made), seqio_tasks.SPLIT))
    written = json.loads(stats.read_text())["examples"] if stats.exists() else 0
    if written != count:
        raise UserError(
            f"{folder}: the pipeline wrote {written:,} of {count:,} records there. Where its "
            "workers are other machines, --output_cache_dir must be a folder that all of them share"
        )


def _result(folder: Path, notes: dict, fresh: bool) -> Cached:
    size = sum(path.stat().st_size for path in folder.iterdir())
    return Cached(folder, notes["records"], notes["left_out"], size, fresh)
