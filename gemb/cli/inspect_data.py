"""gemb inspect-data: show the batches of an experiment as training sees them.

Shows a few pairs of each task as text (masks, prompts, hard negatives) and, over more batches, the
lengths, the share of padding, and how often each task occurred compared with its rate. Nothing is
trained.

    gemb inspect-data --gin_file=configs/experiments/quickstart.gin
    gemb inspect-data --gin_file=... --pairs=5 --batches=100
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_multi_string(
    "gin_file", [], "Experiment; repeatable, later files win.", allow_override=True
)
flags.DEFINE_multi_string(
    "gin_param", [], "Binding such as 'STEPS = 10'; repeatable, wins.", allow_override=True
)
flags.DEFINE_integer("pairs", 3, "Pairs to show of each task.", allow_override=True)
flags.DEFINE_integer("batches", 50, "Batches to count.", allow_override=True)
flags.DEFINE_integer(
    "seed", None, "Seed of the data's order; default the run's.", allow_override=True
)


def main(argv: list[str]) -> None:
    from gemb import config
    from gemb.checks import UserError
    from gemb.cli.arguments import check_arguments

    check_arguments(argv)
    if not FLAGS.gin_file:
        raise UserError("--gin_file is required, such as configs/experiments/quickstart.gin")
    for name in ("pairs", "batches"):
        if FLAGS[name].value < 1:
            raise UserError(f"--{name}: expected at least 1, got {FLAGS[name].value}")
    config.load(FLAGS.gin_file, FLAGS.gin_param)
    from gemb.data.inspection import inspect
    from gemb.training.experiment import Experiment

    bound = config.arguments(Experiment)
    seed = bound.get("seed", 0) if FLAGS.seed is None else FLAGS.seed
    batches = bound["data"](bound["model"].processors, seed, (0, 1))
    print(inspect(batches, pairs=FLAGS.pairs, count=FLAGS.batches))


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("inspect-data")
