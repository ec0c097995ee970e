"""gemb train: train the experiment of a gin file, or go on where it was stopped.

The workdir receives checkpoints, metrics.jsonl, TensorBoard events, the resolved config.gin (which
alone reruns the job) and, at the end, model/: a folder that sentence-transformers loads unchanged.
Killed at any time, the same command goes on from the last checkpoint, step for step the same.

    gemb train --gin_file=configs/experiments/quickstart.gin --workdir=runs/quickstart
    gemb train --gin_file=... --workdir=... --gin_param='STEPS = 500'
    gemb train --gin_file=... --gin_file=configs/debug.gin --workdir=runs/debug   # in seconds
    gemb train --gin_file=... --dry_run     # parameters, sharding, memory, FLOPs; trains nothing
    gemb train --gin_file=... --dry_run --chips=v5e:64    # would it fit there, and how fast

On several hosts each runs the same command; launch/ holds a script for each kind of cluster:

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
    "With --dry_run: NAME:COUNT of chips that need not be here: v5e, v5p, v6e, h100, h200.",
    allow_override=True,
)
flags.DEFINE_float(
    "utilisation",
    0.4,
    "With --chips: share of their peak at which matrix products are taken to run.",
    allow_override=True,
)
flags.DEFINE_bool("force", False, "Delete the workdir and begin anew.", allow_override=True)
flags.DEFINE_string(
    "profile_steps", "", "FIRST:LAST step to trace for TensorBoard.", allow_override=True
)
flags.DEFINE_string(
    "coordinator",
    None,
    "Of several hosts: HOST:PORT of process 0, or auto on a TPU pod; srun's steps need none.",
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
    "Seconds of silence after which a process is taken for dead.",
    lower_bound=10,
    allow_override=True,
)


def main(argv: list[str]) -> None:
    from pathlib import Path

    from gemb import config
    from gemb.checks import UserError
    from gemb.cli.arguments import check_arguments
    from gemb.parallel import distributed

    check_arguments(argv)
    if not FLAGS.gin_file:
        raise UserError("--gin_file is missing, such as configs/experiments/quickstart.gin")
    if FLAGS.chips and not FLAGS.dry_run:
        raise UserError("--chips describes a run, it starts none: add --dry_run")
    if not FLAGS.dry_run:
        distributed.join(
            FLAGS.coordinator,
            FLAGS.process_id,
            FLAGS.process_count,
            timeout_seconds=FLAGS.join_timeout,
            heartbeat_seconds=FLAGS.heartbeat_timeout,
        )
    config.load(FLAGS.gin_file, FLAGS.gin_param)
    from gemb.training import loop

    if FLAGS.chips:
        from gemb.training.planning.chips_report import dry_run_on_chips

        run = config.arguments(loop.train)
        print(dry_run_on_chips(FLAGS.chips, utilisation=FLAGS.utilisation, **run))
        return
    if FLAGS.dry_run:
        from gemb.training.planning.dry_run import dry_run

        print(dry_run(**config.arguments(loop.train)))
        return
    if not FLAGS.workdir:
        raise UserError("--workdir is missing: where should the run be kept?")
    _train(Path(FLAGS.workdir), config, loop)


def _train(workdir, config, loop) -> None:
    import shutil
    import time

    from gemb.export import sentence_transformers
    from gemb.inference.compilation import use_compilation_cache
    from gemb.parallel import hosts
    from gemb.runs.interruption import sole_run
    from gemb.runs.records import CONFIG_FILE, check_workdir, claim_workdir
    from gemb.training.profile import parse_steps

    config.configured(loop.train)  # refuses what is not bound, before anything is deleted
    resolved = config.resolved()
    profile_steps, model = parse_steps(FLAGS.profile_steps), workdir / "model"
    if FLAGS.force and hosts.on_first((workdir / CONFIG_FILE).exists):
        with sole_run(workdir):
            hosts.on_first(lambda: shutil.rmtree(workdir))
    hosts.on_first(lambda: check_workdir(workdir, resolved))
    if hosts.on_first(model.exists):
        print(f"{model} is there: the run is finished; --force begins anew")
        return
    use_compilation_cache()
    start = time.perf_counter()
    with sole_run(workdir):
        hosts.on_first(lambda: claim_workdir(workdir, resolved))
        run = config.arguments(loop.train) | {"profile_steps": profile_steps}
        trained, summary = loop.train(workdir, **run)
        if "resumed_from" not in summary:  # else they would be those of its last part
            summary["seconds"] = round(time.perf_counter() - start, 1)
        if trained:
            sentence_transformers.save(trained, model, training=summary)
            print(f"trained {summary['steps']} steps: {model}")


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("train")
