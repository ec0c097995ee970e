"""gemb teach: run an experiment's teachers once over its texts, and cache the results.

The experiment must have a cached teacher (@teachers.cached or @teachers.scored); training then
only looks them up. Every text of the run's batches is encoded once. The cache records the teacher's
fingerprint, so a changed model gets a new cache. After a
kill, the same command continues.

    gemb teach --gin_file=configs/experiments/distill_scores.gin
    gemb teach --gin_file=runs/scores/config.gin        # for a run that found a text missing
    gemb teach --gin_file=... --gin_param='TEACHER = @teachers.cached()'
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_multi_string(
    "gin_file", [], "Experiment; repeatable, later files win.", allow_override=True
)
flags.DEFINE_multi_string(
    "gin_param", [], "Binding such as 'STEPS = 10'; repeatable, wins.", allow_override=True
)
flags.DEFINE_integer(
    "shard_rows",
    2048,
    "Texts written at a time; a kill loses at most this many.",
    1,
    allow_override=True,
)


def main(argv: list[str]) -> None:
    from gemb import config
    from gemb.checks import UserError
    from gemb.cli.arguments import check_arguments

    check_arguments(argv)
    if not FLAGS.gin_file:
        raise UserError("--gin_file is required, such as configs/experiments/distill_minilm3.gin")
    config.load(FLAGS.gin_file, FLAGS.gin_param)
    from gemb.inference.compilation import use_compilation_cache
    from gemb.training.distillation.lesson import teach
    from gemb.training.experiment import Experiment

    use_compilation_cache()
    run = Experiment(**config.arguments(Experiment))
    if run.teacher is None:
        raise UserError("experiment.Experiment.teacher is not set; define the macro TEACHER")
    taught = teach(run.teacher, run.batches(), run.steps, FLAGS.shard_rows)
    for folder, count in taught.items():
        print(f"{count:,} rows added: {folder}")


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("teach")
