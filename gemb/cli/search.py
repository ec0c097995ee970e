"""gemb search: ask a trained model or an index; an interactive prompt when no query is given.

The first search of a corpus encodes it (with a progress bar) and keeps the vectors in the workdir,
under the fingerprint of the model.

    gemb search --workdir=runs/quickstart "read a file line by line without loading it all"
    gemb search --workdir=runs/quickstart --dim=48 --count=3 "parse a date"
    gemb harvest --output=mine ~/code/myproject                  # your own repository
    gemb search --workdir=runs/quickstart --corpus=mine          # ask it, interactively
    gemb search --index=runs/index "parse a date"                # what `gemb index` wrote
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", None, "Folder of the run.", allow_override=True)
flags.DEFINE_string(
    "corpus", "", "BEIR folder; default what the run trained on.", allow_override=True
)
flags.DEFINE_string("index", "", "Index folder, instead of --workdir.", allow_override=True)
flags.DEFINE_integer("dim", 0, "Nested width to search at; 0 is the full one.", allow_override=True)
flags.DEFINE_integer("count", 5, "Functions to show.", lower_bound=1, allow_override=True)


def main(argv: list[str]) -> None:
    from gemb.checks import UserError

    if not FLAGS.workdir and not FLAGS.index:
        raise UserError("--workdir is missing: which run's model shall search? Or give --index")
    if FLAGS.index and (FLAGS.workdir or FLAGS.corpus or FLAGS.dim):
        raise UserError("--index brings its model, corpus and width; leave the other flags out")
    query = " ".join(argv)
    if argv and not query.strip():
        raise UserError("the query is only white space; say what the function should do")
    ask = _from_index() if FLAGS.index else _from_run()
    if argv:
        print(ask(query))
    else:
        _prompt(ask)


def _from_run():
    """(query) -> the printed hits."""
    from pathlib import Path

    from gemb.data.sources import beir
    from gemb.evaluation.workdir import corpus_vectors, model_of, searched_folder
    from gemb.identity import texts_fingerprint
    from gemb.inference.embedder import Embedder
    from gemb.metrics.geometry import truncate
    from gemb.search import ExactSearcher

    workdir = Path(FLAGS.workdir)
    embedder = Embedder.load(model_of(workdir))
    dim = embedder.check_dim(FLAGS.dim or embedder.dim)
    training = embedder.model.manifest.get("training", {})
    ids, texts, metadata = beir.read_corpus(searched_folder(FLAGS.corpus, training))
    rows = _rows(ids, texts, metadata)
    name = f"corpus-{texts_fingerprint(texts)[:12]}" if FLAGS.corpus else "trained"
    path = workdir / "vectors" / name
    vectors = corpus_vectors(embedder, texts, path, "corpus")
    searcher = ExactSearcher(truncate(vectors, dim))

    def ask(query: str) -> str:
        hits = searcher.search(_asked(embedder, query, dim), FLAGS.count)
        return _lines(hits, rows)

    return ask


def _from_index():
    """(query) -> the printed hits, from an index folder."""
    from pathlib import Path

    from gemb.checks import UserError
    from gemb.data.sources import beir
    from gemb.identity import texts_fingerprint
    from gemb.inference.embedder import Embedder
    from gemb.search import Queries, load_index, read_manifest

    manifest = read_manifest(FLAGS.index)
    about, dim = manifest["about"], manifest["dim"]
    for name in ("corpus", "texts", *(["encoder"] if dim else [])):
        if not isinstance(about.get(name), str):
            raise UserError(f"{FLAGS.index}: does not say its {name}; make it with `gemb index`")
    embedder = Embedder.load(about["encoder"]) if dim else None
    searcher = load_index(FLAGS.index, model=embedder.fingerprint if dim else "")
    ids, texts, metadata = beir.read_corpus(Path(about["corpus"]))
    if texts_fingerprint(texts) != about["texts"]:
        raise UserError(f"{about['corpus']}: changed since {FLAGS.index} was made; make it again")
    rows = _rows(ids, texts, metadata)

    def ask(query: str) -> str:
        asked = {"texts": [query]}
        if dim:
            asked["vectors"] = _asked(embedder, query, dim)
        queries = Queries(**asked) if searcher.reads == "both" else asked[searcher.reads]
        return _lines(searcher.search(queries, FLAGS.count), rows)

    return ask


def _rows(ids: list[str], texts: list[str], metadata: list[dict]) -> list[dict]:
    """What is shown of each document: its name where it has one, else its id and beginning."""
    return [
        row | {"name": str(row.get("name") or f"{name}  {' '.join(text.split())[:60]}")}
        for name, text, row in zip(ids, texts, metadata, strict=True)
    ]


def _asked(embedder, query: str, dim: int):
    """[1, dim] the query's vector."""
    from gemb.checks import UserError

    vector = embedder.encode([query], dim=dim, kind="query")
    if not vector.any():
        raise UserError(f"the model knows nothing in {query!r}: its vector is zero, ask otherwise")
    return vector


def _lines(hits, metadata: list[dict]) -> str:
    """The first query's hits; fewer than asked for where there are no more."""
    rows = zip(hits.scores[0], hits.indices[0], strict=True)
    return "\n".join(_line(score, metadata[index]) for score, index in rows if index >= 0)


def _line(score: float, row: dict) -> str:
    place = f"{row.get('path', '')}:{row['line']}" if "line" in row else ""
    return f"{score:6.3f}  {row.get('name', ''):<40}  {place}"


def _prompt(ask) -> None:
    print("What should the function do? (an empty line ends)")
    while True:
        try:
            query = input("> ")
        except EOFError:
            return
        if not query.strip():
            return
        print(ask(query))


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("search")
