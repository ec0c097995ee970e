"""Harvested functions -> a test set of whole modules and training pairs that share nothing with it.

Belongs here: holding out, de-duplication and the counts of both. Reading files is `python_code.py`.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from gemb.datasets.python_functions import Function

QUERY_WORDS = (4, 60)
MIN_PAIRS = 20  # fewer than this on either side of the split, and nothing is held out
_COMMENT = re.compile(r"(^|\s)#.*", re.MULTILINE)
_LAYOUT = re.compile(r"[\s'\"(),\\]+")


class Record(NamedTuple):
    """A function as the harvest keeps it.

    Attributes:
        path: path of its file, from the root's name on.
        module: dotted name of its file below the root: whole modules are held out.
        name: qualified name.
        line: line of the `def`.
        document: source without the docstring.
        query: the docstring's first paragraph, "" unless it has 4 to 60 words.
        query_key: equal for queries that differ in case, white space and punctuation only.
        code_key: equal for documents that differ in layout, quotes and comments only.
    """

    path: str
    module: str
    name: str
    line: int
    document: str
    query: str
    query_key: str
    code_key: str


class Split(NamedTuple):
    """What a harvest writes: rows of the BEIR files and of the training files, and the counts."""

    corpus: list[dict]
    queries: list[dict]
    qrels: list[tuple[str, str]]
    train: list[dict]
    train_packages: list[dict]
    counts: dict[str, int]


def first_paragraph(docstring: str) -> str:
    r"""The first paragraph on one line, or "" when it has fewer than 4 or more than 60 words.

    Example:
        >>> first_paragraph("Return the sum\n  of two numbers.\n\nArgs: ...")
        'Return the sum of two numbers.'
        >>> first_paragraph("See above.")
        ''
    """
    words = re.split(r"\n\s*\n", docstring.strip(), maxsplit=1)[0].split()
    return " ".join(words) if QUERY_WORDS[0] <= len(words) <= QUERY_WORDS[1] else ""


def make_record(function: Function, path: str, module: str) -> Record:
    """Puts a function with its place and the keys by which it is compared."""
    query = first_paragraph(function.docstring)
    return Record(
        path=path,
        module=module,
        name=function.name,
        line=function.line,
        document=function.text,
        query=query,
        query_key=" ".join(re.findall(r"\w+", query.lower())),
        code_key=_digest(_LAYOUT.sub("", _COMMENT.sub("", function.text))),
    )


def held_out(module: str) -> bool:
    """Whether a module is of the fifth that is held out, fixed by the sha256 of its name.

    Example:
        >>> [held_out(name) for name in ("json", "ssl", "csv", "uuid")]
        [False, True, False, True]
    """
    return int(_digest(module), 16) % 5 == 0


def split(records: Iterable[Record], packages: Iterable[Record] = ()) -> Split:
    """Holds out a fifth of the modules and de-duplicates; the order of records is kept.

    Args:
        records: functions to search, and to train and test on.
        packages: functions to train on only.

    Returns:
        The corpus holds every distinct document of `records`, test and train modules alike. A query
        that several documents share is asked once, and all of them answer it. A training pair
        whose query or code equals one of the test set's is dropped, and so is a second equal pair.
        With fewer than 20 pairs on either side all pairs are for training and no queries are left.
    """
    records = list(records)
    pairs = [record for record in records if record.query_key]
    test = [record for record in pairs if held_out(record.module)]
    if min(len(test), len(pairs) - len(test)) < MIN_PAIRS:
        test = []
    modules = {record.module for record in records if test and held_out(record.module)}
    corpus = _corpus(records)
    queries, qrels = _questions(test, pairs, corpus)
    counts = Counter(
        functions=len(records),
        documents=len(corpus),
        merged_documents=len(records) - len(corpus),
        test_modules=len(modules),
        test_queries=len(queries),
        merged_test_queries=len(test) - len(queries),
        test_queries_with_several_answers=sum(
            answers > 1 for answers in Counter(query for query, _ in qrels).values()
        ),
    )
    banned_queries = {record.query_key for record in test}
    banned_code = {record.code_key for record in records if record.module in modules}
    banned_code |= {record.code_key for record in pairs if record.query_key in banned_queries}
    own = [record for record in pairs if record.module not in modules]
    seen: set[tuple[str, str]] = set()
    rows = {}
    for side, candidates in {"train": own, "train_packages": packages}.items():
        kept, why = _training(candidates, banned_queries, banned_code, seen)
        rows[side] = kept
        counts.update({f"{side}_{reason}": count for reason, count in why.items()})
    return Split(list(corpus.values()), queries, qrels, **rows, counts=dict(counts))


def _training(
    candidates: Iterable[Record],
    banned_queries: set[str],
    banned_code: set[str],
    seen: set[tuple[str, str]],
) -> tuple[list[dict], Counter]:
    """Rows that share nothing with the test set, each pair once, and why the others went."""
    kept, why = [], Counter(pairs=0, dropped_test_query=0, dropped_test_code=0, dropped_duplicate=0)
    for record in candidates:
        pair = record.query_key, record.code_key
        if not record.query_key:
            continue
        if record.query_key in banned_queries:
            why["dropped_test_query"] += 1
        elif record.code_key in banned_code:
            why["dropped_test_code"] += 1
        elif pair in seen:
            why["dropped_duplicate"] += 1
        else:
            seen.add(pair)
            kept.append(_training_row(record))
    why["pairs"] = len(kept)
    return kept, why


def _corpus(records: list[Record]) -> dict[str, dict]:
    """Rows by code key: of equal documents the first is kept."""
    corpus: dict[str, dict] = {}
    for record in records:
        if record.code_key not in corpus:
            corpus[record.code_key] = {
                "_id": f"c{len(corpus)}",
                "title": f"{record.path}:{record.name}",
                "text": record.document,
                "path": record.path,
                "name": record.name,
                "line": record.line,
            }
    return corpus


def _questions(
    test: list[Record], pairs: list[Record], corpus: dict[str, dict]
) -> tuple[list[dict], list[tuple[str, str]]]:
    """Test queries, and (query id, document id) for every document that has that docstring."""
    answers: dict[str, dict[str, None]] = {}
    for record in pairs:
        answers.setdefault(record.query_key, {})[corpus[record.code_key]["_id"]] = None
    queries, qrels = {}, []
    for record in test:
        if record.query_key not in queries:
            query_id = f"q{len(queries)}"
            queries[record.query_key] = {"_id": query_id, "text": record.query}
            qrels += [(query_id, document_id) for document_id in answers[record.query_key]]
    return list(queries.values()), qrels


def _training_row(record: Record) -> dict:
    return {
        "query": record.query,
        "document": record.document,
        "path": record.path,
        "name": record.name,
        "line": record.line,
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
