"""Models over tasks, into a folder: results.json and report.html."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gemb.evaluation import maps, suite
from gemb.evaluation.tasks.registry import EvaluationTask
from gemb.files import write_json
from gemb.inference.encoded_once import Encoder
from gemb.metrics.projection import require_method
from gemb.reports.suite_page import write_suite_page

RESULTS, REPORT = "results.json", "report.html"


def evaluate_tasks(
    encoders: Mapping[str, Encoder],
    tasks: Sequence[EvaluationTask],
    output: str | Path,
    *,
    widths: Sequence[int] = (),
    force: bool = False,
    pairs: Sequence[tuple[str, str]] | None = None,
    plane: str = "pca",
    mapped: Mapping[str, Encoder] | None = None,
    projector: bool = False,
) -> dict[str, Any]:
    """Measures models on tasks and writes results.json and report.html.

    Args:
        encoders: name -> model.
        tasks: from `gemb.evaluation.tasks.read_tasks`.
        output: folder to write.
        widths: coordinates to keep; default each model's nested widths.
        force: measure again what the cache has.
        pairs: the models to compare with each other; default all pairs.
        plane: layout of the report's maps: "pca", "tsne" or "umap"; "none" for no map.
        mapped: the models that get maps and projector files; default all.
        projector: whether to write OUTPUT/projector for TensorBoard too.

    Returns:
        The content of results.json, see `gemb.evaluation.suite.summary`.

    Raises:
        UserError: a width that a model does not have, vectors without a direction, or a file that
            cannot be written.
    """
    require_method(plane)
    output, mapped = Path(output), encoders if mapped is None else mapped
    models = {
        name: suite.evaluate_model(encoder, tasks, widths=widths, force=force, label=name)
        for name, encoder in encoders.items()
    }
    if projector:
        maps.write_projector(output / "projector", tasks, mapped)
    drawn = {} if plane == "none" else maps.all_maps(tasks, mapped, plane, force=force)
    tree = suite.summary(tasks, models, pairs=pairs)
    write_results(output, tree, drawn)
    return tree


def write_results(
    output: Path, tree: Mapping[str, Any], drawn: Mapping[tuple[str, str], Mapping] | None = None
) -> None:
    """Writes a summary as results.json and, with maps by (task, model), as report.html."""
    write_suite_page(output / REPORT, tree, drawn)
    write_json(output / RESULTS, tree)
