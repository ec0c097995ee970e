"""The checkpoints of a run as models: every task's figures against the steps of training."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gemb.evaluation import suite
from gemb.evaluation.tasks.registry import EvaluationTask
from gemb.files import write_json
from gemb.inference.embedder import Embedder
from gemb.reports.checkpoints_page import write_checkpoints_page

RESULTS, REPORT = "checkpoints.json", "checkpoints.html"


def evaluate_checkpoints(
    models: Iterator[tuple[int, Embedder]],
    tasks: Sequence[EvaluationTask],
    *,
    widths: Sequence[int] = (),
    force: bool = False,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Measures checkpoints on tasks; what was measured of a model before is read from the cache.

    Args:
        models: (step, model), as `gemb.training.checkpoints.models` gives them.
        tasks: from `gemb.evaluation.tasks.read_tasks`.
        widths, force, cache: as for `gemb.evaluation.suite.evaluate_model`.

    Returns:
        What `gemb.evaluation.suite.summary` gives, the models being named by their steps and
        compared first with last and last with best; and "steps", and "best": the step of the
        highest mean of tasks at full width, the first of equals.
    """
    settings = {"widths": widths, "force": force, "cache": cache}
    measured = {
        str(step): suite.evaluate_model(embedder, tasks, label=f"step {step}", **settings)
        for step, embedder in tqdm(models, desc="checkpoints", unit="checkpoint")
    }
    names = list(measured)
    about, results = suite.figures_of(tasks, measured)
    means = {name: suite.averages(about, results, name) for name in names}
    best = max(names, key=lambda name: means[name][max(means[name], key=int)]["tasks"])
    pairs = dict.fromkeys([(names[0], names[-1]), (names[-1], best)])
    pairs = [pair for pair in pairs if pair[0] != pair[1]]
    tree = suite.summary(tasks, measured, cache, pairs=pairs)
    return tree | {"steps": [int(name) for name in names], "best": int(best)}


def report_checkpoints(
    workdir: str | Path,
    models: Iterator[tuple[int, Embedder]],
    tasks: Sequence[EvaluationTask],
    **settings,
) -> dict[str, Any]:
    """Measures the checkpoints of a run; writes checkpoints.json and checkpoints.html into it.

    Args:
        workdir: the folder of the run.
        models, tasks, **settings: as for `evaluate_checkpoints`.

    Returns:
        The content of checkpoints.json.

    Raises:
        UserError: as `evaluate_checkpoints`, or for a file that cannot be written.
    """
    workdir = Path(workdir)
    tree = evaluate_checkpoints(models, tasks, **settings)
    write_checkpoints_page(workdir / REPORT, f"gemb: checkpoints of {workdir.name}", tree)
    write_json(workdir / RESULTS, tree)
    return tree
