"""The results of a model card: a table for people, and rows for the hub's model-index."""

import re
from pathlib import Path

# Figure of results.json -> how it is called, and its name on the hub.
_FIGURES = {
    "ndcg@10": ("nDCG@10", "ndcg_at_10"),
    "recall@10": ("recall@10", "recall_at_10"),
    "recall@100": ("recall@100", "recall_at_100"),
    "mrr@10": ("MRR@10", "mrr_at_10"),
}
_SYSTEMS = {"trained": "this model", "pretrained": "before training", "bm25": "BM25"}


def results_section(results: dict) -> str:
    """The figures by width as Markdown; "" where there are none.

    Args:
        results: content of results.json, of `gemb.evaluation.workdir`.
    """
    if not results.get("retrieval"):
        return ""
    rows = [
        [_SYSTEMS[system], width, *(_figure(values, name) for name in _FIGURES)]
        for system in _SYSTEMS
        for width, values in results["retrieval"].get(system, {}).items()
    ]
    head = ["", "width", *(label for label, _ in _FIGURES.values())]
    lines = [head, ["---"] * len(head), *rows]
    about = (
        f"Retrieval from {_test_set(results)}: {results['queries']:,} queries, "
        f"{results['documents']:,} documents, exact search by cosine. In brackets: the 95 % "
        "confidence interval over the queries."
    )
    return f"## Results\n\n{about}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def eval_results(results: dict) -> list:
    """`huggingface_hub.EvalResult` of each figure of the model at each width."""
    from huggingface_hub import EvalResult

    name = _test_set(results)
    return [
        EvalResult(
            task_type="information-retrieval",
            task_name="Information Retrieval",
            dataset_type=re.sub(r"\W+", "-", name).lower(),
            dataset_name=name,
            metric_type=on_hub,
            metric_name=f"{label} at width {width}",
            metric_value=values[figure],
            metric_args={"width": int(width)},
        )
        for width, values in results.get("retrieval", {}).get("trained", {}).items()
        for figure, (label, on_hub) in _FIGURES.items()
        if figure in values
    ]


def _test_set(results: dict) -> str:
    return Path(results.get("corpus", "")).name or "a test set"


def _figure(values: dict, name: str) -> str:
    if name not in values:
        return ""
    interval = (values.get(f"{name}_low"), values.get(f"{name}_high"))
    shown = "" if None in interval else " [{:.3f}, {:.3f}]".format(*interval)
    return f"{values[name]:.3f}{shown}"
