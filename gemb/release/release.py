"""A release from training to publishing, in stages that are done once for their inputs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from gemb.checks import UserError
from gemb.data.sources.records import digest
from gemb.evaluation.tasks import read_tasks
from gemb.identity import Version
from gemb.inference.embedder import Embedder
from gemb.release import making
from gemb.release import refresh as refreshing
from gemb.release.content import check_shrinkage
from gemb.release.corpus import Corpus
from gemb.release.encoding import ModelEncoding
from gemb.release.gate import LIVE, NEW, check_gate
from gemb.release.stages import Stages
from gemb.release.together import check_hosts, load, publish
from gemb.runs.interruption import sole_run
from gemb.store import VersionStore
from gemb.store.hosts import IndexHost
from gemb.store.keyed import KeyedStore


class Training(NamedTuple):
    """How the model is made.

    Attributes:
        run: trains, or resumes, and returns the model's folder.
        identity: all that it depends on, such as the text of its config.
        folder: where the model will be.
    """

    run: Callable[[], Path]
    identity: str
    folder: Path


class Request(NamedTuple):
    """What to release.

    Attributes:
        model: folder or name of a model; "" to train one.
        training: how; None where a model is given.
        corpora: "documents", and perhaps "queries".
        dim: nested width to keep; 0 for the full one.
        settings: of the version.
        tasks: folders of tasks that the gate measures; none to have no gate.
        keys: key stores to bring to the version.
        hosts: index hosts to bring to the version.
        allow_shrink: whether a large part of the records may be gone.
    """

    model: str
    training: Training | None
    corpora: Mapping[str, Corpus]
    dim: int = 0
    settings: refreshing.Settings = refreshing.DEFAULTS
    tasks: Sequence[str] = ()
    keys: Sequence[KeyedStore] = ()
    hosts: Sequence[IndexHost] = ()
    allow_shrink: bool = False


def release(
    store: VersionStore, request: Request, workdir: Path, stages: Stages, say: Callable = print
) -> Version | None:
    """Runs the stages of a release; a repeated call does what is missing.

    Args:
        store: the store.
        request: what to release.
        workdir: of the release: the training run, the gate's results, release.json.
        stages: opened on `workdir`.
        say: prints a line.

    Returns:
        The version; None where the stages that were chosen make none.

    Raises:
        UserError: another release or refresh runs, the gate or a check refuses the model, the disk
            is full, or a host does not answer; the live version stays.
    """
    check_hosts(store, request.hosts, request.settings.kind)
    with sole_run(workdir):
        model = _train(request, stages)
        encoding = ModelEncoding(model, request.dim)
        with sole_run(store.folder / refreshing.WORK):
            metrics = _gate(store, request, encoding, model, workdir, stages)
            plan = refreshing.make_plan(store, encoding, request.corpora, request.settings)
            check_shrinkage(plan.counts, store, request.allow_shrink)
            version = _make(store, request, encoding, plan, stages, metrics)
        say(stages.summary())
        if version and not _published(store, version):
            say(f"{store}: version {version} is made and not published")
        elif version:
            say(f"{store}: version {version} is published")
    return version


def _train(request: Request, stages: Stages) -> str:
    """The model to release."""
    if request.training is None:
        return request.model
    training = request.training
    made = stages.run(
        "train",
        digest(training.identity),
        lambda: (str(training.run()), {}),
        there=training.folder.exists(),
    )
    if made is None and not training.folder.exists():
        raise UserError(
            "--stages: train has not run yet, and makes the model; add it, or give --model"
        )
    return str(training.folder)


def _gate(store, request: Request, encoding, model: str, workdir: Path, stages: Stages) -> dict:
    """The figures that admit the model; {} without tasks."""
    if not request.tasks:
        return {}
    live = next((each for each in store.versions() if each.state == "live"), None)
    against, dims = None, {NEW: encoding.dim}
    if live and live.about.get("model", {}).get("fingerprint") != encoding.fingerprint:
        against = store.open(live.version, sets=()).folder / making.MODEL
        dims[LIVE] = live.space.dim
    tasks = read_tasks(request.tasks)
    inputs = digest(
        encoding.fingerprint, live.about["model"]["fingerprint"] if against else "", repr(dims),
        *(task.fingerprint for task in tasks),
    )  # fmt: skip

    def work() -> tuple[str, dict]:
        other = Embedder.load(str(against)) if against and against.is_dir() else None
        return check_gate(Embedder.load(model), other, tasks, workdir / "gate", dims)

    made = stages.run("gate", inputs, work)
    return made["counts"] if made else {}


def _make(store, request: Request, encoding, plan, stages: Stages, metrics: dict):
    """The version, made and published as far as the stages say."""
    made, about = [], {"metrics": metrics} if metrics else {}
    index = store.folder / refreshing.WORK / plan.digest[:16] / making.INDEX

    def embed() -> tuple[str, dict]:
        made[:], notes = refreshing.encode_sets(store, encoding, plan)
        about.update(notes)
        return str(index.parent), plan.counts._asdict() | {"encoded": plan.distinct}

    def parts():
        if not made:  # the stage was done by an earlier call, and all its texts are encoded
            embed()
        return made

    def build() -> tuple[str, dict]:
        folder, notes = refreshing.make_index(store, encoding, plan, parts())
        return str(folder), notes

    def verify() -> tuple[str, dict]:
        recall = refreshing.check_index(index, encoding, parts())
        return str(index), {"recall": recall}

    def load_all() -> tuple[str, dict]:
        version = plan.parent.version if plan.done else None
        if version is None:
            if not index.exists():
                raise UserError("--stages: load needs the stages embed and index first")
            of_index = {}
            for name in ("index", "verify"):
                of_index |= stages.done.get(name, {}).get("counts", {})
            made_parts = parts()
            version = refreshing.write_version(
                store, encoding, plan, made_parts, about | {"index": of_index}
            )
        return str(version), load(store, store.open(version), request.keys, request.hosts)

    stages.run("embed", plan.digest, embed, there=plan.done or index.parent.exists())
    stages.run("index", plan.digest, build, there=plan.done or index.exists())
    if stages.wanted("verify") and not plan.done and not index.exists():
        raise UserError("--stages: verify needs the stages embed and index first")
    stages.run("verify", plan.digest, verify, there="index" not in stages.ran)
    others = [str(each) for each in (*request.keys, *request.hosts)]
    loaded = stages.run("load", digest(plan.digest, *others), load_all, there=plan.done)
    if loaded is None:
        return None
    version = Version.parse(loaded["output"])

    def publish_all() -> tuple[str, dict]:
        publish(store, version, request.keys, request.hosts)
        return str(version), {}

    stages.run("publish", digest(plan.digest, str(version), *others), publish_all)
    return version


def _published(store: VersionStore, version: Version) -> bool:
    return any(each.published for each in store.versions() if each.version == version)
