"""gemb train: train the experiment of a gin file, or resume it.

The workdir receives checkpoints, metrics.jsonl, TensorBoard events, the resolved config.gin (which
reruns the job by itself) and, at the end, model/: a folder that sentence-transformers loads
unchanged, with canaries.json (see `gemb check`). If a run is killed, the same command resumes it
from the last checkpoint, step-exact.

    gemb train --gin_file=configs/experiments/quickstart.gin --workdir=runs/quickstart
    gemb train --gin_file=... --workdir=... --gin_param='STEPS = 500'
    gemb train --gin_file=... --gin_file=configs/debug.gin --workdir=runs/debug   # in seconds
    gemb train --gin_file=... --dry_run     # parameters, sharding, memory, FLOPs; trains nothing
    gemb train --gin_file=... --dry_run --chips=v5e:64    # estimates memory and speed on 64 chips

On several hosts, run the same command on each; launch/ has a script for each kind of cluster:

    gemb train ... --coordinator=node1:8482 --process_count=2 --process_id=0    # on node1
    gemb train ... --coordinator=node1:8482 --process_count=2 --process_id=1    # on node2
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_multi_string(
    "gin_file", [], "Experiment; repeatable, later files win.", allow_override=True
)
flags.DEFINE_multi_string(
    "gin_param", [], "Binding such as 'STEPS = 10'; repeatable, wins.", allow_override=True
)
flags.DEFINE_string("workdir", None, "Folder of the run.", allow_override=True)
flags.DEFINE_bool("dry_run", False, "Print what would be trained, and stop.", allow_override=True)
flags.DEFINE_string(
    "chips",
    "",
    "With --dry_run: NAME:COUNT of chips, attached or not: v5e, v5p, v6e, h100, h200.",
    allow_override=True,
)
flags.DEFINE_float(
    "utilisation",
    0.4,
    "With --chips: assumed share of the peak at which matrix products run.",
    allow_override=True,
)
flags.DEFINE_bool("force", False, "Delete the workdir and start again.", allow_override=True)
flags.DEFINE_string(
    "profile_steps", "", "FIRST:LAST step to trace for TensorBoard.", allow_override=True
)
flags.DEFINE_string(
    "coordinator",
    None,
    "For several hosts: HOST:PORT of process 0, or auto on a TPU pod; not needed with srun.",
    allow_override=True,
)
flags.DEFINE_integer("process_id", None, "This process's number, from 0.", allow_override=True)
flags.DEFINE_integer("process_count", None, "Processes of the run.", allow_override=True)
flags.DEFINE_float(
    "join_timeout", 300, "Seconds to wait for the other processes.", allow_override=True
)
flags.DEFINE_integer(
    "heartbeat_timeout",
    100,
    "Seconds without a sign of life after which a process counts as dead.",
    lower_bound=10,
    allow_override=True,
)


def main(argv: list[str]) -> None:
    from pathlib import Path

    import jax

    from gemb import config
    from gemb.checks import UserError
    from gemb.cli.arguments import check_arguments
    from gemb.parallel import distributed

    check_arguments(argv)
    if not FLAGS.gin_file:
        raise UserError("--gin_file is required, such as configs/experiments/quickstart.gin")
    if FLAGS.chips and not FLAGS.dry_run:
        raise UserError("--chips only describes a run; add --dry_run")
    if not FLAGS.dry_run:
        distributed.join(
            FLAGS.coordinator,
            FLAGS.process_id,
            FLAGS.process_count,
            timeout_seconds=FLAGS.join_timeout,
            heartbeat_seconds=FLAGS.heartbeat_timeout,
        )
    config.load(FLAGS.gin_file, FLAGS.gin_param)
    from gemb.inference.canaries import write_canaries_if_text
    from gemb.inference.compilation import use_compilation_cache
    from gemb.pretrained import saving
    from gemb.training.experiment import Experiment
    from gemb.training.profile import parse_steps
    from gemb.training.run import train_run

    config.configured(Experiment)  # refuses missing bindings before anything is deleted
    if FLAGS.dry_run:
        print(_described(Experiment(**config.arguments(Experiment))))
        return
    if not FLAGS.workdir:
        raise UserError("--workdir is required: the folder of the run")
    use_compilation_cache()
    model = train_run(
        lambda: Experiment(**config.arguments(Experiment)),
        Path(FLAGS.workdir),
        config=config.resolved(Experiment),
        save=saving.save,
        force=FLAGS.force,
        profile_steps=parse_steps(FLAGS.profile_steps),
    )
    if model.exists() and jax.process_count() == 1:  # a release writes those of several processes
        write_canaries_if_text(model)


def _described(experiment) -> str:
    if FLAGS.chips:
        from gemb.training.planning.chips_report import dry_run_on_chips

        return dry_run_on_chips(experiment, FLAGS.chips, utilisation=FLAGS.utilisation)
    from gemb.training.planning.dry_run import dry_run

    return dry_run(experiment)


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("train")
