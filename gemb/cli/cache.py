"""gemb cache: read and check an experiment's records once, offline, with seqio's Beam cache.

    gemb cache --gin_file=runs/data.gin --output_cache_dir=data/cache
    gemb cache --gin_file=... --output_cache_dir=... --tasks=retrieval \\
        --pipeline_options=--direct_num_workers=4,--direct_running_mode=multi_processing

Each task of the experiment's mixture becomes a folder OUTPUT_CACHE_DIR/NAME_TASK of TFRecords: its
good records, with the form's columns. Training reads them with

    retrieval/mixing.Task.records = @retrieval/cached.records()
    retrieval/cached.records.folder = 'data/cache/data_retrieval'

(`from gemb.data.sources import cached`; without `columns`) and gets the same batches as without a
cache; seqio reads them as `use_cached` of the tasks that `gemb.data.seqio_tasks.register`
registers under NAME. Random parts, such as masks and prompts, are still drawn in training.

An existing cache is not changed; a cache of other data is refused. A killed run keeps the caches of
finished tasks and leaves no cache of the current one. Any Beam runner works if its workers see the
same files under the same names. Needs pip install 'gemb[beam]'.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_multi_string(
    "gin_file", [], "Experiment; repeatable, later files win.", allow_override=True
)
flags.DEFINE_multi_string(
    "gin_param", [], "Binding such as 'STEPS = 10'; repeatable, wins.", allow_override=True
)
flags.DEFINE_string("output_cache_dir", "", "Folder for the caches.", allow_override=True)
flags.DEFINE_string(
    "name", "", "Prefix of the tasks' names; default from the first gin file.", allow_override=True
)
flags.DEFINE_list("tasks", [], "Tasks to cache; default all.", allow_override=True)
flags.DEFINE_integer("shards", 16, "Number of files per task.", allow_override=True)
flags.DEFINE_list(
    "pipeline_options",
    ["--runner=DirectRunner"],
    "Options for Beam, with commas.",
    allow_override=True,
)


def main(argv: list[str]) -> None:
    import functools
    import logging

    from gemb.checks import needs

    name = _checked_name(argv)
    logging.getLogger().setLevel(logging.ERROR)  # Beam warns of libraries that it does without
    with needs("writing a cache", extra="beam"):
        from gemb.data import offline
    parts, processors = _parts(FLAGS.gin_file, FLAGS.gin_param)
    again = functools.partial(_parts, list(FLAGS.gin_file), list(FLAGS.gin_param))
    results = offline.write(
        _chosen(parts, FLAGS.tasks),
        processors,
        FLAGS.output_cache_dir,
        name=name,
        shards=FLAGS.shards,
        options=FLAGS.pipeline_options,
        setup=functools.partial(offline.register, name, again),
    )
    for result in results:
        left_out = ", ".join(f"{count:,} {kind}" for kind, count in result.left_out.items())
        state = "" if result.fresh else ", existed already"
        print(f"{result.folder}: {result.records:,} records ({left_out} left out){state}")
    fresh, total = sum(r.fresh for r in results), sum(r.records for r in results)
    size = sum(r.size for r in results) / 2**20
    print(f"cached {fresh} of {len(results)} tasks: {total:,} records, {size:,.1f} MiB in all")


def _checked_name(argv: list[str]) -> str:
    """Checks the flags, and returns the prefix of the tasks' names."""
    import re
    from pathlib import Path

    from gemb.checks import UserError
    from gemb.cli.arguments import check_arguments

    check_arguments(argv)
    if not FLAGS.gin_file:
        raise UserError("--gin_file is required, such as configs/experiments/quickstart.gin")
    if not FLAGS.output_cache_dir:
        raise UserError("--output_cache_dir is required: the folder for the caches")
    if "://" in FLAGS.output_cache_dir:
        raise UserError("--output_cache_dir: expected a folder; mount the bucket to write there")
    if FLAGS.shards < 1:
        raise UserError(f"--shards: expected at least 1, got {FLAGS.shards}")
    name = FLAGS.name or re.sub(r"\W", "_", Path(FLAGS.gin_file[0]).stem)
    if not re.fullmatch(r"\w+", name):
        raise UserError(f"--name: expected letters, digits and underscores, got {name!r}")
    return name


def _parts(files: list[str], params: list[str]) -> tuple:
    """The tasks of the config's mixture with their records, and the model's processors."""
    from gemb import config
    from gemb.training.experiment import Experiment

    config.load(files, params)
    bound = config.arguments(Experiment)
    processors = bound["model"].processors
    return bound["data"](processors, 0, (0, 1)).parts, processors


def _chosen(parts: list, names: list[str]) -> list:
    from gemb.checks import UserError, suggest

    known = [part.name for part in parts]
    for name in names:
        if name not in known:
            raise UserError(f"--tasks: no task is named {name!r}.{suggest(name, known)}")
    return [part for part in parts if not names or part.name in names]


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("cache")
