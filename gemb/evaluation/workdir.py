"""Compares a finished run with the model it started from and with BM25, on one retrieval set."""

import json
from pathlib import Path

from gemb import __version__
from gemb.checks import UserError
from gemb.data.sources import beir
from gemb.evaluation.checkpoints import RESULTS as CHECKPOINTS
from gemb.evaluation.examples import example_queries
from gemb.evaluation.maps import vectors_map
from gemb.evaluation.models import REPORT, RESULTS
from gemb.evaluation.precision import evaluate_precisions
from gemb.evaluation.searcher_figures import evaluate_bm25, evaluate_vectors
from gemb.files import read_object, write_json
from gemb.identity import texts_fingerprint
from gemb.inference.embedder import Embedder
from gemb.inference.encoded_once import similarity_of
from gemb.metrics.convergence import RULE, judge_training
from gemb.metrics.projection import require_method
from gemb.metrics.similarity import check_product
from gemb.pretrained.publishing.card import write_card
from gemb.reports.run_page import write_run_page
from gemb.runs.records import CONFIG_FILE, read_metrics
from gemb.search import scann
from gemb.store import read_embeddings, write_embeddings


def model_of(workdir: Path) -> Path:
    """The trained model of a run.

    Raises:
        UserError: if the run has not finished.
    """
    model = Path(workdir) / "model"
    if not model.exists():
        raise UserError(
            f"{workdir} holds no trained model; finish `gemb train --workdir={workdir}`"
        )
    return model


def evaluate_workdir(
    workdir: Path,
    *,
    corpus: str = "",
    approximate: bool = True,
    force: bool = False,
    plane: str = "pca",
) -> dict:
    """Measures a run and writes results.json and report.html into it, and the model's card.

    Args:
        workdir: a finished run.
        corpus: BEIR folder with the test set; default the folder that the run trained on.
        approximate: whether to measure ScaNN as well.
        force: measure again although the results are there.
        plane: layout of the report's map: "pca", "tsne" or "umap"; "none" for no map.

    Returns:
        The content of results.json.

    Raises:
        UserError: if the run is not finished, or a folder is missing or broken.
    """
    require_method(plane)
    if approximate and (missing := scann.why_not()):
        print(f"without the figures of ScaNN: {missing}")
        approximate = False
    workdir = Path(workdir)
    trained = Embedder.load(model_of(workdir))
    check_product(similarity_of(trained), str(workdir))
    training = trained.model.manifest.get("training", {})
    folder = searched_folder(corpus, training)
    test = beir.read_retrieval(folder)
    identity = _identity(trained, test, approximate, plane)
    done = read_object(workdir / RESULTS)
    if done.get("identity") == identity and (workdir / REPORT).exists() and not force:
        print(f"{workdir / RESULTS} exists for this model and test set; --force measures again")
        _write_card(workdir, done)
        return done
    models = {"trained": trained}
    if training.get("started_from"):
        start = Embedder.load(
            training["started_from"], max_length=trained.model.document.processor.max_length
        )
        models = {"pretrained": start} | models
    print(f"{len(test.query_texts)} queries, {len(test.corpus_texts)} documents: {folder}")
    results, vectors = _measured(workdir, models, test, approximate)
    compared = {"similarity": similarity_of(trained), "ids": test.corpus_ids}
    precisions = evaluate_precisions(
        *vectors["trained"], test.qrels, widths=trained.widths, **compared
    )
    tree = {
        "retrieval": results,
        "precisions": precisions,
        "identity": identity,
        "corpus": str(folder),
        "queries": len(test.query_texts),
        "documents": len(test.corpus_texts),
        "training": training,
    }
    before = vectors.get("pretrained", vectors["trained"])
    examples = example_queries(test, before, vectors["trained"], similarity=similarity_of(trained))
    made = None if plane == "none" else vectors_map(test, *vectors["trained"], plane)
    _report(workdir, tree, examples, made)
    write_json(workdir / RESULTS, tree)
    _write_card(workdir, tree)
    return tree


def _write_card(workdir: Path, tree: dict) -> None:
    """Puts the results into the model's card."""
    path = workdir / CONFIG_FILE
    config = path.read_text(encoding="utf-8") if path.exists() else ""
    write_card(model_of(workdir), config=config, results=tree)


def _identity(trained: Embedder, test, approximate: bool, plane: str) -> dict:
    """What the results depend on."""
    answers = [json.dumps(sorted(grades.items())) for grades in test.qrels]
    return {
        "model": trained.fingerprint,
        "similarity": similarity_of(trained),
        "texts": texts_fingerprint(test.corpus_texts + test.query_texts),
        "answers": texts_fingerprint(answers),
        "gemb": __version__,
        "approximate": approximate and scann.available(),
        "plane": plane,
    }


def _measured(workdir: Path, models: dict, test, approximate: bool) -> tuple[dict, dict]:
    """Figures of BM25 and each model, and each model's query and document vectors."""
    results, vectors = {"bm25": evaluate_bm25(test, intervals=True)}, {}
    for name, embedder in models.items():
        vectors[name] = _encode(embedder, test, workdir, name)
        nested = models["trained"].widths
        widths = [width for width in nested if width <= embedder.dim] or [embedder.dim]
        results[name] = evaluate_vectors(
            *vectors[name],
            test.qrels,
            widths=widths,
            approximate=approximate,
            similarity=similarity_of(embedder),
            ids=test.corpus_ids,
            intervals=True,
        )
    return results, vectors


def trained_folder(workdir: Path) -> str:
    """The folder that a finished run trained on.

    Raises:
        UserError: if there is none.
    """
    training = read_object(Path(workdir) / "model" / "gemb.json").get("training") or {}
    folder = (training.get("data") or {}).get("folder", "")
    if not folder:
        raise UserError("--tasks is required: the run did not train on a folder with test data")
    return folder


def searched_folder(corpus: str, training: dict) -> Path:
    """The folder with what is searched: the one that is named, else what the run trained on.

    Raises:
        UserError: if there is neither.
    """
    folder = corpus or training.get("data", {}).get("folder", "")
    if not folder:
        raise UserError(
            "--corpus is required: the run did not train on a folder that can be searched"
        )
    return Path(folder)


def corpus_vectors(embedder: Embedder, texts: list[str], path: Path, label: str):
    """Document vectors of a corpus, read from `path` if they are there and of this model."""
    texts_id = texts_fingerprint(texts)
    try:
        return read_embeddings(path, model=embedder.fingerprint, texts=texts_id).vectors
    except UserError:  # missing, or made by an earlier model or of an earlier corpus
        vectors = embedder.encode(texts, kind="document", progress=label)
        about = {"model": embedder.fingerprint, "texts": texts_id, "kind": "document"}
        write_embeddings(path, vectors, **about)
        return vectors


def _encode(embedder: Embedder, test, workdir: Path, name: str):
    path = workdir / "vectors" / name
    documents = corpus_vectors(embedder, test.corpus_texts, path, f"{name} documents")
    return embedder.encode(test.query_texts, kind="query", progress=f"{name} queries"), documents


def _report(workdir: Path, tree: dict, examples: list[dict], plane: dict | None) -> None:
    summary = {
        "model": workdir / "model",
        "fingerprint": tree["identity"]["model"],
        "similarity": tree["identity"]["similarity"],
        "started from": tree["training"].get("started_from"),
        "steps": tree["training"].get("steps"),
        "training seconds": tree["training"].get("seconds"),
        "devices": tree["training"].get("devices"),
        "test set": f"{tree['corpus']}: {tree['queries']} queries, {tree['documents']} documents",
        "config": workdir / "config.gin",
    }
    write_run_page(
        workdir / REPORT,
        title=f"gemb: {workdir.name}",
        summary={name: value for name, value in summary.items() if value is not None},
        results=tree["retrieval"],
        loss_curve=read_metrics(workdir),
        examples=examples,
        precisions=tree["precisions"],
        plane=plane,
        convergence=_convergence(workdir, tree),
    )


def _convergence(workdir: Path, tree: dict) -> dict | None:
    """Whether training converged; held-out figures are those of checkpoints, if there are some."""
    losses = [row["loss"] for row in read_metrics(workdir) if "loss" in row]
    if not losses:
        return None
    checkpoints = read_object(workdir / CHECKPOINTS)
    if steps := checkpoints.get("steps", []):
        means = [(step, checkpoints["averages"][str(step)]) for step in steps]
        held_out = [(step, rows[max(rows, key=int)]["tasks"]) for step, rows in means]
    else:
        ends = {"pretrained": 0, "trained": tree["training"].get("steps", len(losses))}
        models = [(name, tree["retrieval"][name]) for name in ends if name in tree["retrieval"]]
        held_out = [(ends[name], rows[max(rows, key=int)]["ndcg@10"]) for name, rows in models]
    found = judge_training(losses, held_out)
    return found._asdict() | {"rule": RULE, "held_out": held_out}
