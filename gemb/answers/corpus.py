"""Documents cut to the token budget of a model that will encode them."""

from collections.abc import Sequence
from pathlib import Path

from gemb.checks import UserError
from gemb.datasets.documents.corpus import ESTIMATE, OVERLAP, TOKENS, Cutting, write_documents
from gemb.pretrained import adapt
from gemb.processors.text import TextProcessor

_UNLIMITED = 2**30  # tokens, so that counting does not stop at the model's limit


def documents(
    places: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    model: str = "",
    tokens: int | None = None,
    overlap: int | None = None,
    headings_in_text: bool = False,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    gitignore: bool = True,
    progress: bool = False,
) -> dict:
    """Reads your own documents into a corpus of passages, as `gemb documents` does.

    Args:
        places: a file or folder, or several.
        output: the folder to write: corpus.jsonl, unread.jsonl and documents.json.
        model: folder or name of the model whose tokens are counted; "" for an estimate.
        tokens: the most that a passage has; default 256, or the model's limit if that is lower.
        overlap: tokens that a passage repeats of the one before it; default an eighth of `tokens`.
        headings_in_text: whether a passage's text begins with a line of its headings.
        include: patterns as in .gitignore; if there are any, only such files of folders are read.
        exclude: patterns of files and folders to leave out.
        gitignore: whether .gitignore files are followed.
        progress: whether to show a bar.

    Returns:
        The content of documents.json: counts by kind, and by reason of what was not read.

    Raises:
        UserError: for a place that does not exist, a broken model or pattern, tokens beyond the
            model's limit, an output that holds something else, or if there are no texts.

    Example:
        >>> documents("docs", "runs/corpus", model="all-MiniLM-L6-v2")  # doctest: +SKIP
    """
    places = [places] if isinstance(places, str | Path) else list(places)
    count, limit = _counter(model) if model else (None, TOKENS if tokens is None else tokens)
    if tokens is not None and tokens > limit:
        raise UserError(f"tokens: {tokens} are more than the {limit} that {model} reads of a text")
    tokens = min(TOKENS, limit) if tokens is None else tokens
    overlap = tokens * OVERLAP // TOKENS if overlap is None else overlap
    cutting = Cutting(count, model or ESTIMATE, tokens, overlap, headings_in_text)
    return write_documents(
        places,
        output,
        cutting=cutting,
        include=include,
        exclude=exclude,
        gitignore=gitignore,
        progress=progress,
    )


def _counter(model: str):
    """texts -> tokens that the model reads of each as documents, and how many it reads at most."""
    processor = adapt.load(model, weights=False).document.processor
    if not isinstance(processor, TextProcessor):
        raise UserError(f"model: {model} does not read texts")
    tokenizer = processor.with_limit(_UNLIMITED).tokenizer(processor.prompt("document"))
    return lambda texts: [len(ids) for ids in tokenizer.encode(texts)], processor.limit
