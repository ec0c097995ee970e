"""Files and folders of documents -> a corpus of passages, in a folder that appears whole.

    corpus.jsonl      one passage per line: {"_id", "title", "text", "file", "line", "start", ...}
    unread.jsonl      the files that gave no passage: {"file", "reason"}
    documents.json    counts by kind and by reason, and how the files were cut

A row holds "title" (the document's, "" where it has none), "text", "headings" (outermost first),
"kind", "file" (as it was found from the places given), "line" (from 1; PDF: "page"), "start" and
"end" (characters of the file, as `Path.read_text` gives it), and "span" (the same in the document's
plain text, which differs for HTML, notebooks and PDF). The order is that of the files' names, and
nothing depends on the time or the machine: the same files give the same bytes.
"""

import bisect
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from gemb.checks import UserError, require
from gemb.datasets.documents.chunks import Chunk, Chunker, Count
from gemb.datasets.documents.decoding import MAX_PDF_BYTES, MAX_TEXT_BYTES, decode, read_bytes
from gemb.datasets.documents.document import Document, Unreadable, lines_of
from gemb.datasets.documents.html_page import read_html
from gemb.datasets.documents.markdown import read_markdown
from gemb.datasets.documents.notebook import read_notebook
from gemb.datasets.documents.patterns import parse_patterns
from gemb.datasets.documents.pdf import read_pdf
from gemb.datasets.documents.plain import read_code, read_text
from gemb.datasets.documents.python_source import read_python
from gemb.datasets.documents.restructured import read_restructured
from gemb.datasets.documents.walk import Found, Rules, find_files
from gemb.files import atomic_folder, parse_manifest, write_json

FORMAT, VERSION = "gemb documents", 1
MANIFEST = "documents.json"
TOKENS, OVERLAP = 256, 32
ESTIMATE = "estimate"
_READERS = {
    "markdown": read_markdown,
    "text": read_text,
    "html": read_html,
    "rst": read_restructured,
    "notebook": read_notebook,
    "python": read_python,
    "code": read_code,
}
# Chinese, Japanese, Korean, Thai and other scripts whose characters are mostly tokens of their own.
_WORD = re.compile(r"[\u0e00-\u0eff\u2e80-\uffdc\U00020000-\U0003ffff]|[^\W_]+|_|[^\w\s]")

_LINE_ENDS = re.compile("[\x85\u2028\u2029]")  # where some programs would end a line of JSON


class Cutting(NamedTuple):
    """How documents are cut.

    Attributes:
        count: texts -> how many tokens the model reads of each; None for `estimated_tokens`.
        counted_by: what counts, for the manifest: a model's folder or name.
        tokens: the most that a passage has, its title and the model's prompt included.
        overlap: tokens that a passage repeats of the one before it in its section, at most.
        headings_in_text: whether a passage's text begins with a line of its headings.
    """

    count: Count | None = None
    counted_by: str = ESTIMATE
    tokens: int = TOKENS
    overlap: int = OVERLAP
    headings_in_text: bool = False


DEFAULT_CUTTING = Cutting()


def write_documents(
    places: Sequence[str | Path],
    output: str | Path,
    *,
    cutting: Cutting = DEFAULT_CUTTING,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    gitignore: bool = True,
    progress: bool = False,
) -> dict:
    """Reads documents and writes their passages into a folder, whole or not at all.

    Args:
        places: files and folders.
        output: the folder to make, or to replace if it is such a corpus.
        cutting: how they are cut.
        include: patterns as in .gitignore; if there are any, only such files of folders are read.
        exclude: patterns of files and folders to leave out.
        gitignore: whether .gitignore files are followed.
        progress: whether to show a bar.

    Returns:
        The content of documents.json.

    Raises:
        UserError: for a place that does not exist, a broken pattern, an output that holds something
            else, a missing extra, or where no file gives a passage.
        ValueError: for tokens or overlap that do not fit.

    Example:
        >>> folder = getfixture("tmp_path")
        >>> _ = (folder / "a.md").write_text("# Title\\nText.")
        >>> made = write_documents([folder / "a.md"], folder / "corpus")
        >>> made["files"], made["passages"]
        (1, 1)
    """
    output, left_out = Path(output), Counter()
    check_output(output)
    rules = Rules(parse_patterns(include, "include"), parse_patterns(exclude, "exclude"), gitignore)
    chunker = Chunker(cutting.count or estimated_tokens, cutting.tokens, cutting.overlap)
    found = list(find_files(places, rules, left_out))
    pdf = next((file.name for file in found if file.kind == "pdf"), None)
    if pdf:
        require("pypdf", f"{pdf}: reading PDF (or --exclude='*.pdf')", extra="documents")
    with atomic_folder(output) as folder:
        kinds, unread = _write(found, folder, chunker, cutting.headings_in_text, progress)
        counts = {kind: dict(kinds[kind]) for kind in sorted(kinds)}
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "tokens": cutting.tokens,
            "overlap": cutting.overlap,
            "counted_by": cutting.counted_by,
            "headings_in_text": cutting.headings_in_text,
            "files": sum(each["files"] for each in counts.values()),
            "passages": sum(each["passages"] for each in counts.values()),
            "kinds": counts,
            "unread": dict(sorted(unread.items())),
            "left_out": dict(sorted(left_out.items())),
        }
        if not manifest["passages"]:
            raise UserError(f"{', '.join(map(str, places))}: nothing to read; {describe(manifest)}")
        write_json(folder / MANIFEST, manifest)
    return manifest


def check_output(output: Path) -> None:
    """Raises UserError if the folder holds something else than a corpus of documents."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return
    try:
        parse_manifest(output / MANIFEST, FORMAT)
    except (OSError, ValueError, RecursionError):
        raise UserError(
            f"{output}: exists and is not a corpus of documents; choose another folder"
        ) from None


def describe(manifest: dict) -> str:
    """What was not read, by reason, in one line."""
    parts = []
    for name, label in (("unread", "unread files"), ("left_out", "left out")):
        counts = ", ".join(f"{count:,} {why}" for why, count in manifest[name].items())
        parts.append(f"{label}: {counts or 'none'}")
    return "; ".join(parts)


def estimated_tokens(texts: Sequence[str]) -> list[int]:
    """About the number of WordPiece tokens of each text, two special ones included.

    A word has a token for every five letters begun, a punctuation mark one, a Chinese, Japanese or
    Korean character one. Give a model where the budget has to be exact.

    Example:
        >>> estimated_tokens(["An internationalisation, 你好"])
        [10]
    """
    return [
        2 + sum(-(-(match.end() - match.start()) // 5) for match in _WORD.finditer(text))
        for text in texts
    ]


def _write(
    found: Sequence[Found], folder: Path, chunker: Chunker, headings_in_text: bool, progress: bool
) -> tuple[dict[str, Counter], Counter]:
    """Writes the passages; counts by kind, and of unread files by reason."""
    kinds: dict[str, Counter] = {}
    unread = Counter()
    with (
        open(folder / "corpus.jsonl", "w", encoding="utf-8", newline="\n") as corpus,
        open(folder / "unread.jsonl", "w", encoding="utf-8", newline="\n") as failed,
    ):
        for file in tqdm(found, "read documents", unit="file", disable=not progress):
            try:
                rows = list(passages(file, chunker, headings_in_text))
                if not rows:
                    raise Unreadable("empty")
            except Unreadable as reason:
                unread[str(reason)] += 1
                failed.write(_line({"file": _name(file), "reason": str(reason)}))
                continue
            corpus.writelines(map(_line, rows))
            counts = kinds.setdefault(file.kind, Counter())
            counts.update(files=1, passages=len(rows))
    return kinds, unread


def passages(file: Found, chunker: Chunker, headings_in_text: bool = False) -> Iterator[dict]:
    """The rows of one file's passages.

    Raises:
        Unreadable: with the reason why there are none.
    """
    document, source, encoding = _read(file)
    title = chunker.fitting(document.title)

    def prefix(headings: tuple[str, ...]) -> str:
        path = chunker.fitting(" > ".join(headings)) if headings_in_text else ""
        return f"{path}\n" if path else ""

    def front(headings: tuple[str, ...]) -> str:
        return (f"{title}\n" if title else "") + prefix(headings)

    line_starts = [start for start, _ in lines_of(source)]
    for chunk in chunker.cut(document, front):
        yield {
            "_id": f"{_name(file)}#{chunk.start}",
            "title": title,
            "text": prefix(chunk.headings) + document.text[chunk.start : chunk.end],
            "file": _name(file),
            **_place(document, chunk, line_starts),
            "headings": list(chunk.headings),
            "kind": file.kind,
            **({} if encoding == "utf-8" else {"encoding": encoding}),
        }


def _place(document: Document, chunk: Chunk, line_starts: list[int]) -> dict:
    """Where a chunk is in its file."""
    start, end = document.source(chunk.start, chunk.end)
    if document.pages:
        where = {"page": document.page(chunk.start)}
    else:
        where = {"line": bisect.bisect_right(line_starts, _first_word(document, chunk))}
    return where | {"start": start, "end": end, "span": [chunk.start, chunk.end]}


def _first_word(document: Document, chunk: Chunk) -> int:
    """Where the first character of a chunk that is no white space is in the file."""
    text = document.text[chunk.start : chunk.end]
    at = chunk.start + len(text) - len(text.lstrip())
    return document.source(at, at + 1)[0]


def _read(file: Found) -> tuple[Document, str, str]:
    """A file's document, the text that its offsets count in ("" for PDF), and its encoding."""
    if file.kind == "pdf":
        return read_pdf(read_bytes(file.path, MAX_PDF_BYTES)), "", "utf-8"
    text, encoding = decode(read_bytes(file.path, MAX_TEXT_BYTES), file.kind)
    reader: Callable[[str], Document] = _READERS[file.kind]
    return reader(text), text, encoding


def _name(file: Found) -> str:
    """A file's name with "?" for bytes that are no text."""
    return file.name.encode("utf-8", "replace").decode("utf-8")


def _line(row: dict) -> str:
    text = json.dumps(row, ensure_ascii=False)
    return _LINE_ENDS.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"
