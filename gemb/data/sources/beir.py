"""Reads retrieval data in BEIR's layout.

A BEIR folder holds `corpus.jsonl`, `queries.jsonl` and `qrels/<split>.tsv`; the tables may be
gzipped (`.jsonl.gz`). Every mistake in a file is reported with its line. Making such a folder is
the business of `gemb.datasets.python_code`.

Reference: Thakur et al., BEIR: A Heterogeneous Benchmark for Zero-shot Evaluation of Information
Retrieval Models, 2021, arXiv 2104.08663.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gemb.checks import UserError
from gemb.data.preprocess.texts import titled_text
from gemb.data.sources.numbered import json_object, numbered_lines


@dataclass(frozen=True)
class RetrievalSet:
    """A corpus, queries and which documents answer them.

    Attributes:
        corpus_ids: ids of the documents.
        corpus_texts: a document's text; after its title and a newline where it has one, except for
            harvested code, whose title only repeats its path and name.
        corpus_metadata: what else a document's row holds (title, path, name, line, ...).
        query_ids: ids of the queries that the split judges.
        query_texts: their texts.
        qrels: for each query, {index of a document: grade}; grade 0 is judged and not relevant.
    """

    corpus_ids: list[str]
    corpus_texts: list[str]
    corpus_metadata: list[dict]
    query_ids: list[str]
    query_texts: list[str]
    qrels: list[dict[int, int]]


def read_retrieval(folder: str | Path, split: str = "test") -> RetrievalSet:
    """Reads a BEIR folder.

    Args:
        folder: holds corpus, queries and qrels.
        split: the qrels file to read, `qrels/<split>.tsv`.

    Returns:
        The whole corpus, and the queries of that split in the order of the queries' file.

    Raises:
        UserError: naming file and line, for broken rows, unknown ids, or an empty table.
    """
    folder = Path(folder)
    corpus_ids, corpus_texts, metadata = read_corpus(folder)
    path = _table(folder, "queries")
    queries = {}
    for where, row in _rows(path):
        query_id = _field(row, "_id", where)
        _check(query_id not in queries, where, f"the _id {query_id!r} occurs twice")
        queries[query_id] = _field(row, "text", where)
    documents = {document_id: index for index, document_id in enumerate(corpus_ids)}
    judged = _read_qrels(folder, split, queries, documents)
    query_ids = [query_id for query_id in queries if query_id in judged]
    return RetrievalSet(
        corpus_ids=corpus_ids,
        corpus_texts=corpus_texts,
        corpus_metadata=metadata,
        query_ids=query_ids,
        query_texts=[queries[query_id] for query_id in query_ids],
        qrels=[judged[query_id] for query_id in query_ids],
    )


def read_corpus(folder: str | Path) -> tuple[list[str], list[str], list[dict]]:
    """Reads the corpus of a BEIR folder alone.

    Returns:
        Ids, texts and metadata, as in `RetrievalSet`.

    Raises:
        UserError: naming file and line, for broken rows or an empty corpus.
    """
    path = _table(Path(folder), "corpus")
    texts, metadata = {}, []
    for where, row in _rows(path):
        document_id = _field(row, "_id", where)
        _check(document_id not in texts, where, f"the _id {document_id!r} occurs twice")
        try:
            texts[document_id] = titled_text(row)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from None
        metadata.append({key: value for key, value in row.items() if key not in ("_id", "text")})
    if not texts:
        raise UserError(f"{path}: the corpus is empty; there is nothing to search")
    return list(texts), list(texts.values()), metadata


def _read_qrels(
    folder: Path, split: str, queries: dict[str, str], documents: dict[str, int]
) -> dict[str, dict[int, int]]:
    """{query id: {document index: grade}} of one split."""
    path = folder / "qrels" / f"{split}.tsv"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.tsv"))) or "none"
        raise UserError(f"{path}: no such file; the splits of {folder} are: {known}")
    judged: dict[str, dict[int, int]] = {}
    for where, line in numbered_lines(path):
        fields = line.split("\t")
        if fields[-1] == "score":
            continue  # the header
        _check(len(fields) == 3, where, "expected query-id, corpus-id and score between tabs")
        query_id, document_id, grade = fields
        _check(query_id in queries, where, f"no query has the _id {query_id!r}")
        _check(document_id in documents, where, f"no document has the _id {document_id!r}")
        _check(grade.removeprefix("-").isdecimal(), where, f"the score {grade!r} is no integer")
        judged.setdefault(query_id, {})[documents[document_id]] = int(grade)
    if not judged:
        raise UserError(f"{path}: holds no judgements; there is nothing to evaluate")
    return judged


def _table(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.jsonl", folder / f"{name}.jsonl.gz"):
        if path.is_file():
            return path
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected one with {name}.jsonl in it")
    raise UserError(f"{folder}: no {name}.jsonl in it; expected a folder in BEIR's layout")


def _rows(path: Path) -> Iterator[tuple[str, dict]]:
    """(file:line, row) of every line that is not blank."""
    for where, line in numbered_lines(path):
        try:
            row = json_object(line)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from error
        yield where, row


def _field(row: dict, key: str, where: str) -> str:
    _check(key in row, where, f'the field "{key}" is missing')
    _check(isinstance(row[key], str), where, f'the field "{key}" must be a string')
    return row[key]


def _check(condition: bool, where: str, message: str) -> None:
    if not condition:
        raise UserError(f"{where}: {message}")
