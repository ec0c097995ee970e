"""Local data as tasks of mteb's own classes: mteb's way of measuring, without its downloads."""

from collections.abc import Mapping, Sequence

from gemb.checks import UserError
from gemb.evaluation.mteb.encoder import import_mteb
from gemb.evaluation.tasks.registry import EvaluationTask

# kind -> (mteb's type, its class, its main metric)
_TYPES = {
    "sts": ("STS", "AbsTaskSTS", "cosine_spearman"),
    "pair_classification": ("PairClassification", "AbsTaskPairClassification", "max_ap"),
    "classification": ("Classification", "AbsTaskClassification", "accuracy"),
    "clustering": ("Clustering", "AbsTaskClustering", "v_measure"),
    "retrieval": ("Retrieval", "AbsTaskRetrieval", "ndcg_at_10"),
    "reranking": ("Reranking", "AbsTaskRetrieval", "map_at_1000"),
}
_ASKED = ("retrieval", "reranking")  # kinds with queries


def local_tasks(tasks: Sequence[EvaluationTask]) -> list:
    """Turns tasks read from disk into mteb's.

    Args:
        tasks: from `gemb.evaluation.tasks.read_tasks`; any kind but bitext, whose language codes
            mteb wants to know.

    Returns:
        An object of an mteb task class for each, its data loaded; the "revision" of its data is
        the task's fingerprint.

    Raises:
        UserError: mteb is not installed, or a task of another kind.
    """
    import_mteb()
    return [_local_task(task) for task in tasks]


def task_prompts(tasks: Sequence[EvaluationTask]) -> dict[str, str]:
    """The prompts of tasks under mteb's keys, for `gemb.evaluation.mteb.encoder.MtebEncoder`."""
    prompts = {}
    for task in tasks:
        prompts |= {f"{task.name}-{side}": prompt for side, prompt in task.prompts.items()}
        if "document" in task.prompts and task.kind not in _ASKED:
            prompts[task.name] = task.prompts["document"]  # what gemb calls documents, mteb nothing
    return prompts


def _local_task(task: EvaluationTask):
    from mteb import abstasks
    from mteb.abstasks.task_metadata import TaskMetadata

    if task.kind not in _TYPES:
        known = ", ".join(_TYPES)
        raise UserError(f"{task.name}: mteb can run tasks of {known}, not of {task.kind}")
    kind, parent, main = _TYPES[task.kind]
    about = TaskMetadata(
        name=task.name,
        description=f"Local data, {task.kind}.",
        type=kind,
        main_score=main,
        eval_langs=["eng-Latn"],
        dataset={"path": "local", "revision": task.fingerprint},
    )
    loaded = {"metadata": about, "load_data": _load, "_data": task.data, "_kind": task.kind}
    if task.kind == "sts":
        loaded |= {"min_score": min(task.data["scores"]), "max_score": max(task.data["scores"])}
    if task.kind == "clustering":
        loaded |= {"max_fraction_of_documents_to_embed": None}
    made = type(f"Local{parent}", (getattr(abstasks, parent),), loaded)()
    made.load_data()
    return made


def _load(self, **ignored) -> None:
    from datasets import Dataset, DatasetDict

    if self.data_loaded:
        return
    if self._kind in _ASKED:
        self.dataset = {"default": {"test": _ranked(self._data, self._kind == "reranking")}}
    else:
        splits = _COLUMNS[self._kind](self._data)
        tables = {split: Dataset.from_dict(columns) for split, columns in splits.items()}
        self.dataset = {"default": DatasetDict(tables)}
    self.data_loaded = True


def _ranked(data: Mapping, among_candidates: bool) -> dict:
    """Corpus, queries and judgements; numbers stand for ids."""
    from datasets import Dataset

    corpus, queries = (
        Dataset.from_dict(
            {"id": [f"{side[0]}{i}" for i in range(len(data[side]))], "text": data[side]}
        )
        for side in ("documents", "queries")
    )
    if among_candidates:
        candidates = [[f"d{i}" for i in row] for row in data["candidates"]]
        right = zip(candidates, data["relevant"], strict=True)
        judged = [dict.fromkeys(row[:count], 1) for row, count in right]
        shown = {f"q{i}": row for i, row in enumerate(candidates)}
    else:
        judged = [{f"d{i}": grade for i, grade in row.items()} for row in data["qrels"]]
        shown = None
    relevant = {f"q{i}": row for i, row in enumerate(judged)}
    return {"corpus": corpus, "queries": queries, "relevant_docs": relevant, "top_ranked": shown}


def _pairs(name: str, values: str):
    return lambda data: {
        "test": {"sentence1": data["first"], "sentence2": data["second"], name: data[values]}
    }


def _labelled(data: Mapping) -> dict:
    number = {label: i for i, label in enumerate(sorted(set(data["train_labels"])))}
    return {
        split: {
            "text": data[f"{split}_texts"],
            "label": [number[label] for label in data[f"{split}_labels"]],
        }
        for split in ("train", "test")
    }


_COLUMNS = {
    "sts": _pairs("score", "scores"),
    "pair_classification": _pairs("labels", "labels"),
    "classification": _labelled,
    "clustering": lambda data: {"test": {"sentences": data["texts"], "labels": data["labels"]}},
}
