"""Passages of files: budgets, overlap, places, counts of what was not read, equal bytes."""

import io
import itertools
import json
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from gemb.checks import UserError
from gemb.datasets.documents.chunks import Chunker
from gemb.datasets.documents.corpus import Cutting, estimated_tokens, write_documents
from gemb.datasets.documents.document import Block, Document
from gemb.datasets.documents.markdown import read_markdown
from gemb.datasets.documents.patterns import matches, parse_patterns
from gemb.datasets.documents.plain import read_code, read_text
from gemb.processors.text import of_bytes

PROSE = " ".join(f"Sentence number {i} has some words, and it ends here." for i in range(60))
CHINESE = "".join(f"第{i}句话有一些字，到这里结束。" for i in range(80))


def count(texts):
    """Two special tokens, and a token a word."""
    return [2 + len(text.split()) for text in texts]


def front(headings):
    return ""


def cut(text, reader=read_text, tokens=32, overlap=0, count=count):
    made = Chunker(count, tokens, overlap).cut(reader(text), front)
    return [text[chunk.start : chunk.end] for chunk in made]


AWKWARD = {
    "prose": PROSE,
    "chinese": CHINESE,
    "no spaces": "x" * 20_000,
    "spaces": "a" + " " * 20_000 + "b",
    "one line": PROSE.replace(".", ";"),
    "paragraphs": PROSE.replace(". ", ".\n\n"),
    "combining": "e\u0301" * 900,
    "emoji": "👩\u200d👩\u200d👧" * 300,
    "short": "word",
    "markdown": "# A\n\n## B\n\n" + PROSE + "\n\n```\nx\n\ny\n```\n# C",
}


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize("counter", [count, estimated_tokens, "bytes"])
@pytest.mark.parametrize("overlap", [0, 10])
def test_no_chunk_exceeds_the_budget_and_no_word_is_lost(name, counter, overlap):
    text = AWKWARD[name]
    if counter == "bytes":
        tokenizer = of_bytes(100_000).tokenizer()

        def counter(texts):
            return [len(ids) for ids in tokenizer.encode(texts)]

    reader = read_markdown if name == "markdown" else read_text
    chunks = Chunker(counter, 40, overlap).cut(reader(text), front)
    assert max(counter([text[c.start : c.end] for c in chunks])) <= 40
    assert max(c.end - c.start for c in chunks) <= 40 * 32
    at = 0
    for number, chunk in enumerate(chunks):
        assert not text[at : chunk.start].strip(), "text between two chunks"
        assert number == 0 or chunk.start > chunks[number - 1].start
        assert text[chunk.start : chunk.end].rstrip() == text[chunk.start : chunk.end] != ""
        at = chunk.end
    assert not text[at:].strip()


def test_chunks_end_with_sentences_and_are_filled():
    chunks = cut(PROSE)
    assert all(chunk.endswith("here.") for chunk in chunks)
    assert len(chunks) == 20, "30 words of room, 10 a sentence"
    chunks = cut(CHINESE, count=lambda texts: [len(text) for text in texts], tokens=40)
    assert all(chunk.endswith("。") for chunk in chunks)


def test_an_overlap_is_the_end_of_the_chunk_before():
    chunks = cut(PROSE, overlap=12)
    for before, after in itertools.pairwise(chunks):
        shared = after.split(". ")[0] + "."
        assert before.endswith(shared)
        assert count([shared])[0] - 2 == 10, "one sentence: two are more than twelve words"
    chunks = cut(PROSE, overlap=6)  # less than a sentence: cut between words
    assert all(b.endswith(a[: a.index(".")] + ".") for b, a in itertools.pairwise(chunks))
    assert all(0 < a.index(".") < 50 for a in chunks[1:])
    two = "# A\n" + "one two three. " * 3 + "\n# B\nfour"
    assert cut(two, read_markdown, tokens=16, overlap=8)[-1] == "# B\nfour", "not over a heading"


def test_a_fence_that_fits_stays_whole():
    fence = "```\n" + "\n\n".join(f"line {i} of code" for i in range(6)) + "\n```"
    text = f"# A\n{PROSE[:300]}\n\n{fence}\n\n{PROSE[:300]}\n"
    assert [
        chunk.count("```") for chunk in cut(text, read_markdown, overlap=8) if "```" in chunk
    ] == [2]
    long = "```\n" + "\n".join(f"line {i} of code" for i in range(60)) + "\n```"
    chunks = cut(f"# A\n{long}", read_markdown)
    assert len(chunks) > 5
    assert all(line in long.splitlines() for c in chunks[1:] for line in c.splitlines())
    table = "| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * 4
    assert (
        sum("| 1" in c for c in cut(f"{PROSE[:200]}\n\n{table}\n{PROSE}", read_markdown, tokens=64))
        == 1
    )


def test_a_heading_by_itself_goes_with_the_section_below_it():
    text = "# A\n\n## B\n\nText.\n\n# C\n\n# D\n"
    made = Chunker(count, 32, 0).cut(read_markdown(text), front)
    found = [(text[c.start : c.end], c.headings) for c in made]
    assert found == [("# A\n\n## B\n\nText.", ("A", "B")), ("# C", ("C",)), ("# D", ("D",))]


def test_small_methods_share_a_chunk_and_its_class_is_its_heading():
    blocks = [Block(0, 5, 1, ("A", "f"), True), Block(6, 11, 1, ("A", "g"), True)]
    made = Chunker(count, 16, 0).cut(Document("f f f\ng g g", blocks), front)
    assert [chunk.headings for chunk in made] == [("A",)]


def test_what_counts_few_tokens_apart_and_more_together_is_cut_again():
    def more_together(texts):
        return [2 + len(text.split()) * (1 + (len(text) > 100)) for text in texts]

    chunks = cut(PROSE, tokens=32, count=more_together)
    assert max(more_together(chunks)) <= 32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((count, 15), "expected 16 or more"),
        ((count, 32, 17), "expected 0 to 16"),
        ((count, 32, -1), "expected 0 to 16"),
        ((lambda texts: [9 for _ in texts], 32, 0), "leave little room"),
    ],
)
def test_settings_that_do_not_fit_are_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        Chunker(*arguments)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows_of(folder, name="corpus.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


FILES = {
    "docs/guide.md": f"# Guide\n\n{PROSE}\n\n## Install\n\n{PROSE}\n",
    "docs/windows.md": f"# Windows\r\n\r\n{PROSE}\r\n\r\n## Part\r\n\r\nText\r\nmore\r\n",
    "docs/marked.txt": f"\ufeffFirst.\n\n\f{PROSE}\nlast\u2028line\n",
    "docs/chinese.txt": CHINESE.encode("utf-16"),
    "docs/old.py": "# coding: latin-1\ndef f():\n    return 'é'\n".encode("latin-1"),
    "docs/api.rst": f"API\n===\n\n{PROSE}\n",
    "main.go": "package main\n\nfunc main() {\n\n}\n",
    "README": f"read me\n\n{PROSE}",
    "page.html": f"<title>Page</title><h1>A</h1><p>{PROSE}</p>\n<p>l&auml;st</p>",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, content in FILES.items():
        write(tmp_path / "src" / name, content)
    return tmp_path


def test_places_are_those_of_the_file(folder):
    manifest = write_documents(["src"], "corpus", cutting=Cutting(tokens=64, overlap=8))
    rows = rows_of(folder / "corpus")
    assert manifest["files"] == len(FILES)
    assert manifest["passages"] == len(rows) == len({row["_id"] for row in rows})
    assert {row["file"] for row in rows} == {f"src/{name}" for name in FILES}
    for row in rows:
        text = Path(row["file"]).read_text(row.get("encoding", "utf-8"))
        written = text[row["start"] : row["end"]]
        line = text.split("\n")[row["line"] - 1]
        if row["kind"] != "html":
            assert written == row["text"]
            assert row["text"].lstrip().split("\n")[0] in line
        else:
            assert row["text"].split()[0].replace("ä", "&auml;") in line
    by_id = {row["_id"]: row for row in rows}
    assert by_id["src/docs/guide.md#0"]["headings"] == ["Guide"]
    assert {row["title"] for row in rows if "guide" in row["file"]} == {"Guide"}
    assert [row["headings"] for row in rows if "old.py" in row["file"]] == [["f"]]


def test_the_same_files_give_the_same_bytes(folder):
    for name in ("one", "two"):
        write_documents(["src"], name)
    for path in (folder / "one").iterdir():
        assert path.read_bytes() == (folder / "two" / path.name).read_bytes()
    write_documents(["src"], "one", cutting=Cutting(tokens=32, overlap=0))
    assert rows_of(folder / "one") != rows_of(folder / "two"), "a corpus is replaced"


def test_headings_go_in_front_of_texts(folder):
    cutting = Cutting(tokens=48, overlap=0, headings_in_text=True)
    write_documents(["src/docs/guide.md"], "corpus", cutting=cutting)
    for row in rows_of(folder / "corpus"):
        path, body = row["text"].split("\n", 1)
        assert path == " > ".join(row["headings"])
        assert Path(row["file"]).read_text()[row["start"] : row["end"]] == body
        assert estimated_tokens([f"{row['title']}\n{row['text']}"])[0] <= 48


def test_all_that_is_not_read_is_counted(folder):
    src = folder / "src"
    write(src / "binary.txt", b"a\0b")
    write(src / "latin.txt", "é".encode("latin-1"))
    write(src / "empty.md", b"")
    write(src / "blank.md", b" \n\n")
    write(src / "only.html", "<p> </p><script>x</script>")
    write(src / "broken.ipynb", "{")
    write(src / "picture.png", b"\x89PNG")
    write(src / ".env", "KEY=secret")
    write(src / ".git" / "config.txt", "x")
    write(src / "node_modules" / "a.md", "x")
    write(src / "env" / "pyvenv.cfg", "x")
    (src / "loop").symlink_to(src)
    (src / "gone.md").symlink_to(src / "nowhere.md")
    (src / "twice.md").symlink_to(src / "docs" / "guide.md")
    os.mkfifo(src / "pipe.txt")
    manifest = write_documents(["src", "src/docs"], "corpus")
    assert manifest["unread"] == {
        "binary": 1,
        "broken notebook": 1,
        "empty": 3,
        "encoding": 1,
        "no file": 2,
    }
    assert manifest["left_out"] == {
        "folders of installed packages": 2,
        "found twice": 7,
        "hidden": 1,
        "hidden folders": 1,
        "kind .png": 1,
        "linked folders": 1,
    }
    unread = [
        json.loads(line) for line in (folder / "corpus/unread.jsonl").read_text().splitlines()
    ]
    assert {"file": "src/latin.txt", "reason": "encoding"} in unread
    assert Counter(row["reason"] for row in unread) == manifest["unread"]
    assert not any("secret" in row["text"] for row in rows_of(folder / "corpus"))


def test_include_exclude_and_gitignore(folder):
    write(folder / "src/.gitignore", "*.rst\n/page.html\ndocs/*.py\n!docs/old.py\n[z-a]\n")
    write(folder / "src/docs/.gitignore", "!api.rst\nmarked.*\n")

    def names(**options):
        write_documents(["src"], "corpus", **options)
        return {row["file"].removeprefix("src/") for row in rows_of(folder / "corpus")}

    assert names(gitignore=False) == set(FILES)
    assert names() == set(FILES) - {"page.html", "docs/marked.txt"}
    assert names(exclude=["docs/"], gitignore=False) == {"main.go", "README", "page.html"}
    assert names(exclude=["*.md", "READ*"]) == {
        "docs/chinese.txt",
        "docs/old.py",
        "docs/api.rst",
        "main.go",
    }
    assert names(include=["*.md"]) == {"docs/guide.md", "docs/windows.md"}
    write(folder / "src/notes.xyz", "unknown ending")
    assert names(include=["docs/*.rst", "*.xyz"]) == {"docs/api.rst", "notes.xyz"}


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_patterns_are_those_of_git(tmp_path):
    patterns = [
        "*.log",
        "/top",
        "build/",
        "a/**/z",
        "**/deep",
        "x/**",
        "!keep.log",
        "[ab]?.t",
        "\\#hash",
        "[!c]d",
        "*.tmp  ",
        "p/q",
        "# comment",
        "",
    ]
    paths = [
        "a.log",
        "b/keep.log",
        "top",
        "b/top",
        "build",
        "a/z",
        "a/b/c/z",
        "b/deep",
        "x/y/z",
        "ac.t",
        "cc.t",
        "#hash",
        "cd",
        "dd",
        "x.tmp",
        "p/q",
        "b/p/q",
        "b/x/y",
    ]
    (tmp_path / ".gitignore").write_text("\n".join(patterns))
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    called = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin"],
        cwd=tmp_path,
        input="\n".join(paths),
        capture_output=True,
        text=True,
        check=False,
    )
    parsed = parse_patterns(patterns)
    assert {path for path in paths if matches(parsed, path)} == set(called.stdout.split())


def test_mistakes_are_told_in_one_line(folder):
    with pytest.raises(UserError, match="no such file or folder"):
        write_documents(["nowhere"], "corpus")
    with pytest.raises(UserError, match="exists and is not a corpus"):
        write_documents(["src"], "src")
    with pytest.raises(UserError, match=r"include: '\[z-a\]' is a broken pattern"):
        write_documents(["src"], "corpus", include=["[z-a]"])
    with pytest.raises(UserError, match="nothing to read; unread files: none; left out: 9 n"):
        write_documents(["src"], "corpus", include=["*.none"])
    assert not (folder / "corpus").exists()


@pytest.mark.long
def test_large_files_and_long_lines_take_their_time_in_proportion(folder):
    write(folder / "long.txt", ("word" * 30 + " ") * 20_000 + "y" * 1_000_000)
    manifest = write_documents(["long.txt"], "corpus")
    assert 1500 < manifest["passages"] < 6000
    write(folder / "log.txt", b"x " * 2**24 + b"more")
    with pytest.raises(UserError, match="1 too large"):
        write_documents(["log.txt"], "other")


PAGES = ["First page. It has words.", "Second (page) \\ of the file."]


def pdf(pages, **info):
    """A PDF file of pages of one line each, written by hand."""
    escaped = [p.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)") for p in pages]
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for i, text in enumerate(escaped):
        font = "/Resources << /Font << /F1 3 0 R >> >>"
        objects.append(f"<< /Type /Page /Parent 2 0 R {font} /Contents {5 + 2 * i} 0 R >>")
        drawn = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET" if text else ""
        objects.append(f"<< /Length {len(drawn)} >>\nstream\n{drawn}\nendstream")
    objects.append(f"<< /Title ({info.get('title', '')}) >>")
    made, places = "%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(made))
        made += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    return (
        f"{made}xref\n0 {size}\n0000000000 65535 f \n{table}"
        f"trailer\n<< /Size {size} /Root 1 0 R /Info {size - 1} 0 R >>\n"
        f"startxref\n{len(made)}\n%%EOF\n"
    ).encode()


@pytest.mark.extra("documents")
def test_pages_of_pdf_files(folder):
    import pypdf

    write(folder / "pdf/a.pdf", pdf([PAGES[0], "", PAGES[1] + " " + PROSE], title="A paper"))
    write(folder / "pdf/broken.pdf", pdf(PAGES)[:60])
    write(folder / "pdf/scan.pdf", pdf([""]))
    write(folder / "pdf/nonsense.pdf", b"nothing of the kind")
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf(PAGES)))
    writer.encrypt("secret", algorithm="RC4-128")
    with open(folder / "pdf/locked.pdf", "wb") as file:
        writer.write(file)
    manifest = write_documents(["pdf"], "corpus", cutting=Cutting(tokens=64, overlap=0))
    assert manifest["unread"] == {"broken PDF": 2, "encrypted PDF": 1, "no text in PDF": 1}
    rows = rows_of(folder / "corpus")
    assert {row["title"] for row in rows} == {"A paper"}
    assert rows[0]["page"] == 1
    assert rows[0]["text"].startswith(PAGES[0])
    assert rows[-1]["page"] == 3
    assert "line" not in rows[-1]


def test_a_pdf_without_the_library_is_told_before_any_work(folder, monkeypatch):
    monkeypatch.setattr("gemb.checks.installed", lambda library: False)
    write(folder / "src/a.pdf", b"%PDF")
    with pytest.raises(UserError, match=r"a.pdf: reading PDF .* pip install 'gemb\[documents\]'"):
        write_documents(["src"], "corpus")
    write_documents(["src"], "corpus", exclude=["*.pdf"])


def test_code_of_other_languages_is_cut_at_blank_lines():
    text = "a {\n  b\n\n  c\n}\n\nd\n"
    assert [text[b.start : b.end] for b in read_code(text).blocks] == ["a {\n  b", "  c\n}", "d"]
