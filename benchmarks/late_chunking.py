"""Late chunks against plain ones: the descriptions of this Python's installed packages.

    python benchmarks/late_chunking.py --passages=500 --tokens=64 --subject

A document is a package's description (Markdown) of 5 to 40 passages, without its heading lines.
A query is the path of a section's headings behind the package's name, its answers are the passages
of that section.
Both ways encode the same passages with the same model: each by itself, or pooled from the whole
document. With --subject the passages by themselves are also encoded behind the package's name,
which is the cheap way to tell a passage what it is about.
"""

import argparse
import importlib.metadata

import numpy as np

from gemb.datasets.documents.chunks import Chunker
from gemb.datasets.documents.document import Block, Document
from gemb.datasets.documents.markdown import read_markdown
from gemb.inference.embedder import Embedder
from gemb.inference.late_chunks import LateDocument, encode_late
from gemb.metrics.ranking import mean_metrics, retrieval_metrics

FEWEST, MOST = 5, 40  # passages of a document, so that none dominates


def without_headings(text: str) -> Document:
    """A description with the lines of its headings taken out of text and blocks."""
    made, parts, blocks, length = read_markdown(text), [], [], 0
    for block in made.blocks:
        if not block.is_heading:
            piece = made.text[block.start : block.end]
            place = (length, length + len(piece))
            blocks.append(Block(*place, block.section, block.headings, block.whole))
            parts.append(piece)
            length += len(piece) + 2
    return Document("\n\n".join(parts), blocks)


def descriptions() -> dict[str, Document]:
    """{name: description} of the installed packages that have sections, in order of names."""
    found = {}
    for package in importlib.metadata.distributions():
        kind = package.metadata.get("Description-Content-Type", "")
        text = package.metadata.get_payload() if kind.startswith("text/markdown") else ""
        document = without_headings(text.replace("\r\n", "\n"))
        if len({block.headings for block in document.blocks}) > 2:
            found[package.metadata["Name"]] = document
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--passages", type=int, default=600, help="to stop at")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--max_length", type=int, default=None, help="of the model's window")
    parser.add_argument("--subject", action="store_true")
    options = parser.parse_args()
    embedder = Embedder.load(options.model, options.max_length)
    tokenizer = embedder.model.document.processor.with_limit(2**30).tokenizer()
    chunker = Chunker(
        lambda texts: [len(ids) for ids in tokenizer.encode(texts)], options.tokens, overlap=0
    )
    documents, names, sections = [], [], []
    for name, document in descriptions().items():
        chunks = chunker.cut(document, lambda headings: "")
        if not FEWEST <= len(chunks) <= MOST:
            continue
        documents.append(LateDocument(document.text, [(c.start, c.end) for c in chunks]))
        names += [name] * len(chunks)
        sections += [(name, *chunk.headings) for chunk in chunks]
        if len(names) >= options.passages:
            break
    texts = [doc.text[start:end] for doc in documents for start, end in doc.spans]
    asked = sorted({path for path in sections if len(path) > 1})
    answers = [{i: 1 for i, path in enumerate(sections) if path == query} for query in asked]
    queries = embedder.encode([" ".join(dict.fromkeys(path)) for path in asked], kind="query")
    print(f"{len(documents)} documents, {len(texts)} passages, {len(asked)} queries")
    ways = {"plain": embedder.encode(texts)}
    if options.subject:
        named = [f"{name}\n{text}" for name, text in zip(names, texts, strict=True)]
        ways["plain behind the name"] = embedder.encode(named)
    ways["late"] = encode_late(embedder, documents, dim=embedder.dim)
    for name, vectors in ways.items():
        report(name, queries @ vectors.T, answers)


def report(name: str, scores: np.ndarray, answers: list[dict[int, int]]) -> None:
    """Prints one line of figures."""
    ranked = np.argsort(-scores, axis=1, kind="stable")
    figures = mean_metrics(retrieval_metrics(ranked, answers), answers)
    print(name, {key: round(value, 4) for key, value in figures.items()}, flush=True)


if __name__ == "__main__":
    main()
