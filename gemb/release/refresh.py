"""Refresh: vectors of what changed since the last version, by the same model."""

import dataclasses
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gemb.analysis import successor
from gemb.data.sources.records import digest
from gemb.files import users_errors
from gemb.identity import Version, texts_fingerprint
from gemb.release import indexes, making
from gemb.release.content import Counts, Difference, check_shrinkage, compare
from gemb.release.corpus import Corpus
from gemb.release.encoding import Encoding, content_keys
from gemb.release.together import check_hosts, load, publish
from gemb.runs.interruption import sole_run
from gemb.store import VersionStore
from gemb.store.disk import Opened
from gemb.store.hosts import IndexHost
from gemb.store.keyed import KeyedStore

WORK = "work"  # in the store: what is not finished
KINDS = {"documents": "document", "queries": "query"}  # set -> the side that encodes it
_TRIAL = 32
_STALE_SECONDS = 7 * 24 * 3600


class Settings(NamedTuple):
    """How a version is made.

    Attributes:
        kind: of the index, one of `gemb.search.KINDS`.
        target: agreement with exact search, for kinds that are tuned.
        dtype: of stored vectors, "float32" or "float16".
    """

    kind: str = "exact"
    target: float = 0.99
    dtype: str = "float32"


DEFAULTS = Settings()


class Plan(NamedTuple):
    """What a refresh has to do.

    Attributes:
        parent: the newest version of the model; None where there is none.
        corpora: set -> its records now.
        differences: set -> what changed.
        settings: of the new version.
        digest: of records, model and settings.
    """

    parent: Opened | None
    corpora: dict[str, Corpus]
    differences: dict[str, Difference]
    settings: Settings
    digest: str

    @property
    def counts(self) -> Counts:
        """Of all sets together."""
        return Counts(
            *map(sum, zip(*(each.counts for each in self.differences.values()), strict=True))
        )

    @property
    def distinct(self) -> int:
        """Texts to encode."""
        return sum(len(each.distinct) for each in self.differences.values())

    @property
    def done(self) -> bool:
        """Whether the parent was made of the same."""
        return self.parent is not None and self.parent.about.get("input") == self.digest


def open_parent(store: VersionStore, encoding: Encoding) -> Opened | None:
    """The newest version that this model made in its space; None where there is none."""
    for each in store.versions():
        made_by = each.about.get("model", {})
        same = each.space == encoding.space and isinstance(made_by, dict)
        if each.readable and same and made_by.get("fingerprint") == encoding.fingerprint:
            return store.open(each.version)
    return None


def make_plan(
    store: VersionStore,
    encoding: Encoding,
    corpora: Mapping[str, Corpus],
    settings: Settings = DEFAULTS,
) -> Plan:
    """Compares records with the newest version of the model.

    Args:
        store: the store.
        encoding: the model.
        corpora: "documents", and perhaps "queries".
        settings: of the new version.

    Raises:
        UserError: an id that comes twice, or a version that cannot be read.
    """
    parent = open_parent(store, encoding)
    differences = {
        name: _difference(encoding, corpus, parent, name, KINDS[name])
        for name, corpus in corpora.items()
    }
    digests = [f"{name} {corpora[name].digest()}" for name in sorted(corpora)]
    key = digest(encoding.fingerprint, encoding.space.id, repr(settings), *digests)
    return Plan(parent, dict(corpora), differences, settings, key)


def _difference(encoding, corpus: Corpus, parent: Opened | None, name: str, kind: str):
    keys, before = content_keys(encoding, corpus.texts, kind), ()
    keys_before = np.zeros((0, 16), np.uint8)
    if parent and name in parent.sets:
        before = parent.sets[name].ids
        keys_before = making.read_hashes(parent, name)
    return compare(corpus.ids, keys, before, keys_before, where=corpus.place)


def expected_seconds(plan: Plan, trial: Encoding | None = None) -> float | None:
    """About how long encoding will take, by the speed of the parent.

    Args:
        plan: of the refresh.
        trial: the model, if some texts may be encoded where there is no parent.

    Returns:
        Seconds; None where the speed is not known.
    """
    rate = plan.parent.about.get("texts_per_second", 0) if plan.parent else 0
    if plan.distinct and not rate and trial:
        name = next(name for name, each in plan.differences.items() if len(each.distinct))
        rows = plan.differences[name].distinct[:_TRIAL]
        texts = [plan.corpora[name].texts[row] for row in rows]
        for _ in range(2):  # the first one compiles
            start = time.perf_counter()
            trial.encode(texts, kind=KINDS[name])
        rate = len(texts) / max(time.perf_counter() - start, 1e-9)
    if not plan.distinct:
        return 0.0
    return plan.distinct / rate if rate else None


def described(plan: Plan, seconds: float | None) -> str:
    """What a refresh will do, in words."""
    start = f"refreshes {plan.parent.version}" if plan.parent else "a full run, a new generation"
    time_needed = "" if seconds is None else f", about {seconds:,.0f} s"
    return f"{start}: {plan.counts}; {plan.distinct:,} distinct texts to encode{time_needed}"


def refresh(
    store: VersionStore,
    encoding: Encoding,
    corpora: Mapping[str, Corpus],
    settings: Settings = DEFAULTS,
    *,
    keys: Sequence[KeyedStore] = (),
    hosts: Sequence[IndexHost] = (),
    allow_shrink: bool = False,
    say: Callable = print,
) -> Version:
    """Makes and publishes a version with the vectors of records as they are now.

    Only what changed since the newest version of the same model is encoded, each distinct content
    once. A killed refresh continues when it is called again. The version is live nowhere before
    every key store and index host is loaded.

    Args:
        store: the store.
        encoding: the model.
        corpora: "documents", and perhaps "queries"; sets of the parent that are not given stay.
        settings: of the new version; the precision is that of the parent.
        keys: key stores to bring to the version.
        hosts: index hosts to bring to the version; only changed documents are sent.
        allow_shrink: whether a large part of the records may be gone.
        say: prints a line.

    Returns:
        The version, which is published.

    Raises:
        UserError: another refresh runs, records are lost, the model gives other vectors than
            before, the disk is full, or a host does not answer; the live version stays.
    """
    check_hosts(store, hosts, settings.kind)
    with sole_run(store.folder / WORK):
        plan = make_plan(store, encoding, corpora, settings)
        if not plan.done:
            say(f"{store}: {described(plan, expected_seconds(plan))}")
        check_shrinkage(plan.counts, store, allow_shrink)
        version = plan.parent.version if plan.done else make_version(store, encoding, plan)
        load(store, store.open(version), keys, hosts, say)
        live = publish(store, version, keys, hosts)
        said = "is published" if live else "was published before"
        say(f"{store}: version {version} {said}" + ("; nothing changed" if plan.done else ""))
    return version


def make_version(store: VersionStore, encoding: Encoding, plan: Plan) -> Version:
    """Makes the version of a plan, which is not live yet.

    Raises:
        UserError: as `refresh`.
    """
    made, notes = encode_sets(store, encoding, plan)
    index, about_index = make_index(store, encoding, plan, made)
    about_index["recall"] = check_index(index, encoding, made)
    return write_version(store, encoding, plan, made, notes | {"index": about_index})


def work_folder(store: VersionStore, plan: Plan) -> Path:
    """Where the parts of a version are until it is made; a killed process continues there.

    What was left there for a week is removed: its records have changed since.
    """
    work = store.folder / WORK / plan.digest[:16]
    with users_errors(work):
        work.mkdir(parents=True, exist_ok=True)
        for left in work.parent.iterdir():
            old = time.time() - left.stat().st_mtime > _STALE_SECONDS
            if left.is_dir() and left != work and old:
                shutil.rmtree(left, ignore_errors=True)
    return work


def encode_sets(
    store: VersionStore, encoding: Encoding, plan: Plan
) -> tuple[list[making.Encoded], dict]:
    """The sets of vectors of a plan, and what to note of them."""
    made, rates, lowest = [], [], 1.0
    for name, corpus in plan.corpora.items():
        one, rate, cosine = _encoded(store, encoding, plan, name, corpus)
        made.append(one)
        rates.append(rate)
        lowest = min(lowest, cosine)
    rate = max(rates) or (plan.parent.about.get("texts_per_second", 0) if plan.parent else 0)
    return made, {"lowest_cosine": lowest, "texts_per_second": round(rate, 2)}


def write_version(
    store: VersionStore,
    encoding: Encoding,
    plan: Plan,
    made: Sequence[making.Encoded],
    about: Mapping,
) -> Version:
    """Makes a version of its parts, and removes the work folder.

    Args:
        store: the store.
        encoding: the model.
        plan: what changed.
        made: of `encode_sets`; the index of `make_index` is in the work folder.
        about: further JSON values for the manifest.
    """
    notes = {
        "counts": plan.counts._asdict(),
        "encoded": plan.distinct,
        "input": plan.digest,
        "settings": plan.settings._asdict(),
        "model": {"fingerprint": encoding.fingerprint, "folder": str(encoding.folder or "")},
    } | dict(about)
    if encoding.alignment:
        notes["alignment"] = dataclasses.asdict(encoding.alignment)
    work = work_folder(store, plan)
    canaries = _canaries(encoding, plan, notes)
    with store.draft(encoding.space, about=notes) as draft:
        for one in made:
            making.add_set(draft, one)
        _keep_other_sets(draft, plan)
        with users_errors(draft.folder):
            (draft.folder / making.CORPUS).mkdir()
        plan.corpora["documents"].write(draft.folder / making.CORPUS)
        _add_model(draft, encoding, plan)
        with users_errors(draft.folder):
            os.replace(work / making.INDEX, draft.folder / making.INDEX)
            if canaries:
                canaries.write(draft.folder / making.MODEL)
        notes["since_live"] = _since_live(store, draft, plan, made)
    shutil.rmtree(work, ignore_errors=True)
    return draft.version


def _canaries(encoding: Encoding, plan: Plan, notes: dict) -> successor.Canaries | None:
    """Checks the canaries of the model; those to write, where it has none yet.

    Raises:
        UserError: the model computes something else than when it was saved.
    """
    if encoding.folder is None:
        return None
    kept = [plan.parent.folder / making.MODEL] if plan.parent else []
    folders = [encoding.folder, *kept]
    found, notes["canaries"] = successor.checked_canaries(
        folders, encoding.fingerprint, encoding.full
    )
    return found if notes["canaries"] == "written" else None


def _since_live(store: VersionStore, draft, plan: Plan, made: Sequence[making.Encoded]) -> dict:
    """What the reports of a version say; {} where nothing was live before."""
    live = next((each for each in store.versions() if each.state == "live"), None)
    opened = store.open(live.version) if live else None
    if not opened or "documents" not in opened.sets:
        return {}
    before, now = opened.sets["documents"], next(one for one in made if one.name == "documents")
    corpus = Corpus.read(str(opened.folder / making.CORPUS))
    new = (f"version {draft.version}", now.ids, plan.corpora["documents"].texts, now.vectors)
    old = (f"version {live.version}", before.ids, corpus.texts, before.vectors)
    return successor.attach_reports(
        draft.folder, successor.Collection(*new), successor.Collection(*old)
    )


def _encoded(store, encoding: Encoding, plan: Plan, name: str, corpus: Corpus):
    """A set as it is now, the texts encoded per second, and the lowest cosine of the check."""
    work = work_folder(store, plan)
    kind, difference = KINDS[name], plan.differences[name]
    before = plan.parent.sets[name].vectors if plan.parent and name in plan.parent.sets else None
    dtype = plan.settings.dtype if before is None else str(before.dtype)
    lowest = 1.0
    if before is not None:
        where = f"{store}, {name}"
        lowest = making.check_unchanged(encoding, corpus.texts, difference, before, kind, where)
    new, rate = making.encode_distinct(work, encoding, corpus.texts, difference, kind, dtype)
    vectors = making.assemble(work / f"{name}.npy", difference, before, new)
    texts = texts_fingerprint(corpus.texts)
    return making.Encoded(name, kind, corpus.ids, vectors, difference.keys, texts), rate, lowest


def make_index(
    store: VersionStore, encoding: Encoding, plan: Plan, made: Sequence[making.Encoded]
) -> tuple[Path, dict]:
    """The index of a plan in the work folder, and what to note of it."""
    vectors, sample = _products(encoding, made)
    settings, corpus, index = plan.settings, plan.corpora["documents"], None
    if plan.parent and plan.parent.about["settings"]["kind"] == settings.kind:
        index = indexes.continued(
            plan.parent.folder / making.INDEX, settings.kind,
            plan.differences["documents"].parent, len(plan.parent.sets["documents"].ids),
            vectors, encoding,
        )  # fmt: skip
    deltas = index.deltas if index else 0
    if index is None:
        index = indexes.built(
            settings.kind, vectors, corpus.texts, encoding, target=settings.target, sample=sample
        )
    folder = work_folder(store, plan) / making.INDEX
    indexes.save(folder, index, encoding, texts_fingerprint(corpus.texts))
    return folder, {"kind": settings.kind, "deltas": deltas}


def check_index(folder: Path, encoding: Encoding, made: Sequence[making.Encoded]) -> float | None:
    """See `indexes.check_recall`; asked are the queries where there are some."""
    vectors, sample = _products(encoding, made)
    return indexes.check_recall(folder, vectors, vectors if sample is None else sample, encoding)


def _products(encoding: Encoding, made) -> tuple[np.ndarray, np.ndarray | None]:
    """Vectors of documents, and of queries where there are some, for inner products."""
    sets = {one.name: indexes.products(one.vectors, encoding) for one in made}
    return sets["documents"], sets.get("queries")


def _keep_other_sets(draft, plan: Plan) -> None:
    """Sets of the parent for which no records are given."""
    for name in plan.parent.sets if plan.parent else ():
        if name not in plan.corpora:
            ids, vectors, about = plan.parent.sets[name]
            keys = np.asarray(making.read_hashes(plan.parent, name))
            making.add_set(
                draft, making.Encoded(name, about["kind"], ids, vectors, keys, about["texts"])
            )


def _add_model(draft, encoding: Encoding, plan: Plan) -> None:
    """The model's folder, so that a version answers by itself."""
    if plan.parent and (plan.parent.folder / making.MODEL).is_dir():
        making.take_folder(plan.parent.folder / making.MODEL, draft.folder / making.MODEL)
    elif encoding.folder:
        making.copy_folder(encoding.folder, draft.folder / making.MODEL)
