"""gemb documents PATH...: read your own documents into a corpus of passages.

    gemb documents ~/notes README.md --output=runs/notes --model=all-MiniLM-L6-v2
    gemb index --corpus=runs/notes --model=all-MiniLM-L6-v2 --output=runs/index
    gemb search --index=runs/index "how do I reset the password"
    gemb ask --index=runs/index "how do I reset the password"      # a prompt for any language model

Reads Markdown, plain text, HTML, reStructuredText, PDF (extra `documents`), Jupyter notebooks
without their outputs, Python by functions and classes, and other code by blank lines. Hidden files,
node_modules, installed packages and what .gitignore names are left out. --include and --exclude
take patterns as in .gitignore, with commas; a file of an unknown ending that --include names is
plain text.

A passage begins with a section and is filled with whole paragraphs, tables, code blocks and
functions; longer ones are cut between sentences or lines. It has at most --tokens tokens of
--model, its title, the model's prompt and special tokens included, so that the model reads all of
it. Without --model they are estimated: one token for every five letters of a word, for each
punctuation mark and for each Chinese, Japanese or Korean character. Within a section a passage
repeats up to --overlap tokens of the one before it.

The folder holds

    corpus.jsonl    one passage per line: "_id", "title", "text", "headings", "kind", "file",
                    "line", "start", "end", "span"
    unread.jsonl    {"file", "reason"}: binary, empty, encoding, too large, encrypted PDF, ...
    documents.json  counts of files and passages by kind, and by reason of what was not read

"line" counts from 1; a PDF has "page" instead. "start" and "end" count characters of the file as
Python's Path.read_text gives it (of a PDF, of its extracted text), "span" those of the document's
plain text. The same files give the same bytes. `gemb embed`, `index`, `dedup` and `mine` read the
folder like any corpus.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("output", None, "Folder to write.", allow_override=True)
flags.DEFINE_string("model", "", "Model whose tokens are counted.", allow_override=True)
flags.DEFINE_integer(
    "tokens",
    None,
    "Most tokens per passage; default 256, or the model's limit.",
    allow_override=True,
)
flags.DEFINE_integer(
    "overlap",
    None,
    "Tokens repeated from the passage before; default an eighth of --tokens.",
    allow_override=True,
)
flags.DEFINE_bool(
    "headings_in_text", False, "Put the headings in front of each text.", allow_override=True
)
flags.DEFINE_list("include", [], "Read only files that match these patterns.", allow_override=True)
flags.DEFINE_list("exclude", [], "Leave out files that match these patterns.", allow_override=True)
flags.DEFINE_bool("gitignore", True, "Follow .gitignore files.", allow_override=True)


def main(argv: list[str]) -> None:
    from gemb.checks import UserError
    from gemb.cli.arguments import check_arguments, check_folder

    if not argv:
        raise UserError("name the files and folders to read")
    check_arguments([], "output")
    check_folder("output")
    from gemb.answers.corpus import documents
    from gemb.datasets.documents.corpus import describe

    made = documents(
        argv,
        FLAGS.output,
        model=FLAGS.model,
        tokens=FLAGS.tokens,
        overlap=FLAGS.overlap,
        headings_in_text=FLAGS.headings_in_text,
        include=FLAGS.include,
        exclude=FLAGS.exclude,
        gitignore=FLAGS.gitignore,
        progress=True,
    )
    kinds = ", ".join(f"{each['files']:,} {kind}" for kind, each in made["kinds"].items())
    print(f"{made['passages']:,} passages of {made['files']:,} files ({kinds}): {FLAGS.output}")
    print(describe(made))


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("documents")
