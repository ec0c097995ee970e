"""gemb release STORE: train, check, embed, index and publish one version, in resumable stages.

    gemb release runs/store --model=runs/quickstart/model --corpus=DIR --workdir=runs/release-1
    gemb release runs/store --gin_file=configs/experiments/quickstart.gin --corpus=DIR \\
        --workdir=runs/release-2 --tasks=DIR --keys=sqlite:runs/users.db --queries=users.jsonl
    gemb release ... --host=postgresql://127.0.0.1/db      # pgvector; or Milvus, or a folder
    gemb release ... --stages=train,gate        # a part, so that a scheduler can run each

The stages, in order:

    train     the experiment of --gin_file, in WORKDIR/train; left out with --model
    gate      --tasks are measured for the new model and for that of the live version. Where a
              paired test finds the new one worse, the release ends here. No --tasks, no gate
    embed     documents (--corpus) and queries, such as users (--queries); vectors that this model
              made in an earlier version are kept, see `gemb refresh`
    index     of the documents, of kind --index_kind
    verify    the index against exact search, on a sample: at least 0.95 of the ten best
    load      the version with its model, corpus, vectors and index is made; --keys and --host are
              loaded and compared by a digest, and the host's index is built and measured
    publish   readers find the version: the index host first, then key stores, then the store.
              Where one of them fails, the others go back to what was live

--host is an index host: postgresql://HOST/DATABASE (pgvector), http://HOST:PORT (Milvus),
milvus:FILE (Milvus Lite) or a folder. Its index is of --index_kind where it has that, else HNSW.

WORKDIR/release.json notes each stage with a digest of its inputs. The same command continues after
a kill, a stop (exit status 75) or an error, and leaves out what is done; use a new workdir for each
release. The live version stays until the last stage, and `gemb rollback STORE --why=...` goes back
to it.
"""

from absl import flags

from gemb.cli.arguments import check_folder, define_version_flags, open_servers

FLAGS = flags.FLAGS
flags.DEFINE_multi_string(
    "gin_file", [], "Experiment; repeatable, later files win.", allow_override=True
)
flags.DEFINE_multi_string(
    "gin_param", [], "Binding such as 'STEPS = 10'; repeatable, wins.", allow_override=True
)
flags.DEFINE_string("workdir", None, "Folder of the release.", allow_override=True)
flags.DEFINE_list("tasks", [], "Folders with tasks of the gate, with commas.", allow_override=True)
flags.DEFINE_list("stages", [], "Stages to run; default all.", allow_override=True)
define_version_flags()


def main(argv: list[str]) -> None:
    from pathlib import Path

    from gemb.checks import UserError, require
    from gemb.files import local_folder
    from gemb.search import KINDS

    if len(argv) != 1:
        raise UserError("expected STORE, the folder of a store, such as runs/store")
    for flag in ("workdir", "corpus"):
        if not FLAGS[flag].value:
            raise UserError(f"--{flag} is required")
    check_folder("workdir")
    if bool(FLAGS.model) == bool(FLAGS.gin_file):
        raise UserError("give --model, or --gin_file of an experiment to train: one of them")
    if FLAGS.index_kind not in KINDS:
        raise UserError(f"--index_kind: unknown {FLAGS.index_kind!r}; known are {', '.join(KINDS)}")
    if "scann" in FLAGS.index_kind:
        require("scann", f"--index_kind={FLAGS.index_kind}", extra="scann")
    from gemb.release.refresh import Settings
    from gemb.release.release import Request, release
    from gemb.release.stages import Stages
    from gemb.runs.interruption import resumable
    from gemb.store import VersionStore

    workdir = Path(FLAGS.workdir)
    stages = Stages(workdir, FLAGS.stages)
    store = VersionStore(local_folder("STORE", argv[0]), create=True)
    settings = Settings(FLAGS.index_kind, FLAGS.target, FLAGS.dtype)
    with resumable("gemb release"), open_servers(create=True) as servers:
        request = Request(
            FLAGS.model, _training(workdir), _corpora(), FLAGS.dim, settings,
            tasks=FLAGS.tasks, allow_shrink=FLAGS.allow_shrink, **servers,
        )  # fmt: skip
        release(store, request, workdir, stages)


def _corpora() -> dict:
    from gemb.release.corpus import Corpus

    named = {"documents": FLAGS.corpus, "queries": FLAGS.queries}
    return {name: Corpus.read(place) for name, place in named.items() if place}


def _training(workdir):
    """How to train the experiment of --gin_file; None with --model."""
    if not FLAGS.gin_file:
        return None
    from gemb import config
    from gemb.inference.compilation import use_compilation_cache
    from gemb.pretrained import saving
    from gemb.release.release import Training
    from gemb.training.experiment import Experiment
    from gemb.training.run import MODEL_FOLDER, train_run

    config.load(FLAGS.gin_file, FLAGS.gin_param)
    config.configured(Experiment)
    text = config.resolved(Experiment)

    def train():
        use_compilation_cache()
        return train_run(
            lambda: Experiment(**config.arguments(Experiment)),
            workdir / "train", config=text, save=saving.save,
        )  # fmt: skip

    return Training(train, text, workdir / "train" / MODEL_FOLDER)


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("release")
