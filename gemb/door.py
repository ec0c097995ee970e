"""The Python interface: load, train and evaluate from a notebook or a script.

It writes the same config that `gemb train` reads and runs the same loop, so a run that starts here
can be repeated on a pod.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gemb import config, losses
from gemb.checks import UserError, check_widths, suggest
from gemb.data.given import GivenPairs, given_pairs
from gemb.evaluation.models import evaluate_tasks
from gemb.evaluation.tasks import read_tasks
from gemb.files import local_folder
from gemb.identity import model_fingerprint
from gemb.inference.compilation import use_compilation_cache
from gemb.inference.embedder import Embedder
from gemb.models.execution import Execution
from gemb.models.model import Model
from gemb.models.spec import ModelSpec
from gemb.pretrained import adapt, saving
from gemb.processors.processor import Processor
from gemb.runs.records import CONFIG_FILE
from gemb.training.experiment import Experiment
from gemb.training.run import train_run

BATCH_SIZE = 64
LEARNING_RATE = 1e-4
_LONGEST = 256  # tokens per text in training, if the model allows more
_IMPORTS = (
    "from gemb import losses",
    "from gemb.data import forms",
    "from gemb.data import mixing",
    "from gemb.data import pipeline",
    "from gemb.data.sources import reading",
    "from gemb.pretrained import adapt",
    "from gemb.training import experiment",
)
_SAMPLE = 2000  # texts sampled to choose the length of batches


def load(
    model: str, *, max_length: int | None = None, execution: Execution = Execution()
) -> Embedder:
    """Loads a model.

    Args:
        model: a model folder, or a fetched model's name such as "all-MiniLM-L6-v2".
        max_length: cut texts to this many tokens instead of to the folder's limit.
        execution: how to compute the model, e.g. Execution(dtype="bfloat16") on a GPU.

    Raises:
        UserError: for a missing, broken or unsupported model.

    Example:
        >>> model = load("all-MiniLM-L6-v2")  # doctest: +SKIP
        >>> model.encode_query("sort a list").shape  # doctest: +SKIP
        (384,)
    """
    return Embedder.load(model, max_length, execution)


def train(
    model: str | Embedder,
    pairs: Any,
    *,
    workdir: str | Path,
    loss: str = "info_nce",
    widths: Sequence[int] = (),
    steps: int | None = None,
    batch_size: int | None = None,
    learning_rate: float = LEARNING_RATE,
    columns: Mapping[str, str] | None = None,
    seed: int = 0,
    bindings: Sequence[str] = (),
    force: bool = False,
) -> Embedder:
    """Fine-tunes a model on pairs, in a run folder; the same call again resumes or loads the run.

    The folder gets config.gin, with which `gemb train --gin_file=WORKDIR/config.gin` repeats the
    run elsewhere, the pairs, checkpoints, metrics and the trained model.

    Args:
        model: a folder, a fetched model's name, or a loaded model. The execution settings of a
            loaded model apply to the returned one; for training bind execution.Execution.* in
        pairs: a list of (query, document) or (query, document, negative, ...) tuples or of dicts, a
            pandas or Arrow table, a Hugging Face `datasets.Dataset`, or any sequence of records
            with "query", "document" and, if the loss reads them, "negatives" and "score".
        workdir: the run's folder.
        loss: the name of a loss in gemb.losses that reads pairs.
        widths: nested (Matryoshka) widths to train; default those of the model, trained at full
            width only.
        steps: number of steps; default one pass over the pairs.
        batch_size: pairs per step; default 64, or all pairs if there are fewer.
        learning_rate: the highest rate of AdamW, after a warm-up over a tenth of the steps.
        columns: {"query": ..., "document": ...}: the names of the columns if they differ.
        seed: seed of the order of the pairs and of dropout.
        bindings: further gin bindings, such as "experiment.Experiment.document_microbatches = 4".
        force: delete the run in the folder and start again.

    Returns:
        The trained model, loaded from WORKDIR/model.

    Raises:
        UserError: before compilation, for unsuitable pairs, loss, widths or folder.
            fit.

    Example:
        >>> pairs = [("reverse a list", "items[::-1]"), ("sort a list", "sorted(items)")]
        >>> tuned = train("all-MiniLM-L6-v2", pairs, workdir="runs/mine")  # doctest: +SKIP
    """
    base, folder = _loaded(model), local_folder("workdir", workdir)
    if not learning_rate > 0:
        raise UserError(f"learning_rate: expected a number above 0, got {learning_rate}")
    given = given_pairs(pairs, columns)
    size = _batch_size(batch_size, len(given))
    _check_loss(loss, given, base.spec)
    widths = tuple(widths) and check_widths("widths", widths, base.spec.dim)
    steps = -(-len(given) // size) if steps is None else steps
    start, place = _start_folder(model, base, folder), folder / "data"
    params = [
        *_IMPORTS,
        f"adapt.load.model = {start!r}",
        *_data_bindings(given, place, base),
        *_loss_bindings(loss, widths),
        f"BATCH_SIZE = {size}",
        f"STEPS = {steps}",
        f"LEARNING_RATE = {learning_rate}",
        f"WIDTHS = {widths}",
        f"experiment.Experiment.seed = {seed}",
        *bindings,
    ]
    pieces = ("wiring", "optimizer/adamw", "mesh/data_parallel")
    config.load([str(config.CONFIGS / f"{piece}.gin") for piece in pieces], params)
    config.configured(Experiment)  # refuses unread bindings before anything is deleted
    use_compilation_cache()

    def experiment() -> Experiment:
        given.write(place)
        if start == str(folder / "start"):
            saving.save(base, folder / "start")
        return Experiment(**config.arguments(Experiment))

    made = train_run(
        experiment,
        folder,
        config=config.resolved(Experiment),
        save=saving.save,
        force=force,
    )
    execution = model.execution if isinstance(model, Embedder) else Execution()
    return load(str(made), execution=execution)


def evaluate(
    models: str | Embedder | Mapping[str, str | Embedder],
    tasks: str | Path | Sequence[str | Path],
    *,
    output: str | Path = "runs/evaluation",
    widths: Sequence[int] = (),
    force: bool = False,
) -> dict[str, Any]:
    """Evaluates models on tasks and writes results.json and report.html, like `gemb evaluate`.

    Args:
        models: a model, a folder or a name; or {name in the report: one of these}.
        tasks: a folder of one or more tasks, or a list of such folders; see
            `gemb evaluate --help`.
        output: the folder to write to.
        widths: coordinates to keep; default each model's nested widths.
        force: evaluate again instead of using cached results.

    Returns:
        The content of results.json.

    Raises:
        UserError: for a missing or broken folder, or a width that a model does not have.

    Example:
        >>> figures = evaluate("runs/mine/model", "data/tasks")  # doctest: +SKIP
    """
    place = local_folder("output", output)
    if (place / CONFIG_FILE).exists():
        raise UserError(
            f"output: {place} is a run, which has its own report; choose another folder"
        )
    named = models if isinstance(models, Mapping) else {_short_name(models): models}
    folders = [tasks] if isinstance(tasks, str | Path) else list(tasks)
    found = read_tasks([str(folder) for folder in folders])
    embedders = {
        name: model if isinstance(model, Embedder) else load(str(model))
        for name, model in named.items()
    }
    return evaluate_tasks(embedders, found, place, widths=widths, force=force)


def _short_name(model: str | Embedder) -> str:
    if not isinstance(model, Embedder):
        return Path(model).name
    place = model.model.folder  # for two towers, the folder of the document tower
    place = place if place is None or model.model.shared else place.parent
    return Path(place or "model").name


def _loaded(model: str | Embedder) -> Model:
    if isinstance(model, Embedder):
        return model.model
    if not isinstance(model, str | Path):
        raise UserError(f"model: expected a name, a folder or a model, got {type(model).__name__}")
    return adapt.load(str(model))


def _start_folder(model: str | Embedder, base: Model, folder: Path) -> str:
    """Where the run reads the base model from: its name or folder, or a folder of the run.

    A model that was changed after it was loaded, or that comes from the run, is saved with the run.
    """
    own = base.folder
    inside = own is not None and folder.resolve() in own.resolve().parents
    if not inside:
        if not isinstance(model, Embedder):
            return str(model)
        if own and model_fingerprint(adapt.load(str(own))) == model.fingerprint:
            return str(own)
    return str(folder / "start")


def _batch_size(size: int | None, count: int) -> int:
    import jax

    devices = jax.device_count()
    if size is None:
        size = min(BATCH_SIZE, count) // devices * devices
        if size < 2:
            raise UserError(f"pairs: {count} are too few for one batch over {devices} devices")
    if not 2 <= size <= count:
        raise UserError(f"batch_size: expected 2 to {count}, the number of pairs, got {size}")
    if size % devices:
        raise UserError(f"batch_size: {size} does not divide over {devices} devices")
    return size


def _data_bindings(given: GivenPairs, folder: Path, base: Model) -> list[str]:
    """The gin bindings of the run's data."""
    lengths = [
        f"{name.upper()}_LENGTH = {_length(given, name, processor)}"
        for name, processor in base.processors._asdict().items()
    ]
    path = str(folder / f"{given.name}.jsonl")
    form = "forms.Pairs"
    if given.scored:
        scores = [0.0, 1.0, *(record["score"] for record in given.records)]
        form = "forms.Graded"
        lengths += [f"forms.Graded.low = {min(scores)}", f"forms.Graded.high = {max(scores)}"]
    else:
        lengths.append(f"forms.Pairs.negatives = {given.negatives}")
    return [
        *lengths,
        f"reading.files.paths = {path!r}",
        "mixing.Task.records = @reading.files()",
        f"mixing.Task.form = @{form}()",
        "mixing.Task.query_length = %QUERY_LENGTH",
        "mixing.Task.document_length = %DOCUMENT_LENGTH",
        "pipeline.mixture.tasks = {'pairs': @mixing.Task()}",
        "pipeline.mixture.batch_size = %BATCH_SIZE",
        "DATA = @pipeline.mixture",
        "MODEL = @adapt.load()",
    ]


def _length(given: GivenPairs, side: str, processor: Processor) -> int:
    """The padded length of a side: a bucket, at most the model's limit."""
    every = max(1, len(given.records) // _SAMPLE)
    values = [record[side] for record in given.records[::every]]
    values = [value if isinstance(value, str) else value[0] for value in values]
    if side == "document":
        values += [one for record in given.records[::every] for one in record.get("negatives", ())]
    longest = max(example.size for example in processor.prepare(values, side))
    return min(processor.bucket(longest), processor.limit, _LONGEST)


def _loss_bindings(loss: str, widths: tuple[int, ...]) -> list[str]:
    if not widths:
        return [f"LOSS = @losses.{loss}"]
    return [
        f"losses.matryoshka.loss = @losses.{loss}",
        "losses.matryoshka.widths = %WIDTHS",
        "LOSS = @losses.matryoshka",
    ]


def _check_loss(loss: str, given: GivenPairs, spec: ModelSpec) -> None:
    """Calls the loss on shapes only, to report fields that these pairs do not have."""
    import jax
    import jax.numpy as jnp

    if not isinstance(loss, str) or loss not in losses.__all__:
        hint = suggest(str(loss), losses.__all__)
        raise UserError(f"loss: expected the name of a loss in gemb.losses, got {loss!r}.{hint}")
    rows = jax.ShapeDtypeStruct((2, spec.dim), jnp.float32)
    documents = jax.ShapeDtypeStruct((2 * (1 + given.negatives), spec.dim), jnp.float32)
    fields = {"scores": jax.ShapeDtypeStruct((2,), jnp.float32)} if given.scored else {}

    def value(query, document, fields):
        return losses.evaluate(getattr(losses, loss), query, document, jnp.arange(2), fields)[0]

    try:
        jax.eval_shape(value, rows, documents, fields)
    except (ValueError, TypeError) as error:
        raise UserError(f"loss: {loss}: {str(error).splitlines()[0]}") from None
    if not given.scored:
        return
    try:
        jax.eval_shape(value, rows, documents, {})
    except ValueError:  # expected: the loss needs the field
        return
    raise UserError(
        f"loss: {loss} reads no scores; choose cosent or cosine_regression, or leave the column out"
    )
