"""gemb index: encode a corpus into an index folder, with settings that are tuned automatically.

    gemb index --model=all-MiniLM-L6-v2 --corpus=DIR --output=runs/index
    gemb index --model=runs/quickstart/model --corpus=DIR --output=runs/index --kind=funnel
    gemb search --index=runs/index "read a file line by line"

    gemb documents ~/notes --model=all-MiniLM-L6-v2 --output=runs/notes
    gemb index --model=all-MiniLM-L6-v2 --corpus=runs/notes --output=runs/index --late_chunking

    gemb index --model=runs/pictures/model --corpus=~/Pictures --output=runs/pictures/index

    gemb index --model=all-MiniLM-L6-v2 --corpus=DIR --host=runs/host --kind=scann
    gemb index --model=all-MiniLM-L6-v2 --corpus=DIR --host=pgvector://127.0.0.1/db --kind=hnsw

With --host the documents become a new version of an index host, which is published when it finds
--target of what exact search finds: a folder, which is made where it is missing; PostgreSQL with
pgvector (extra `postgres`); or Milvus, milvus://HOST:PORT (extra `milvus`). The same model again
makes a refresh. Servers have the kinds exact and hnsw.

--corpus may be a folder of pictures or videos, with or without a captions.jsonl; the model's
documents are then pictures or videos. Else it is a folder with a corpus.jsonl (BEIR's, a harvest,
what `gemb documents` wrote), or a file of any format that training reads, whose records have
"text", and may have "title" and "_id".
--late_chunking encodes each document of `gemb documents` as a whole, and takes the mean over the
tokens of each passage, which then includes its context; for models with mean pooling. With
all-MiniLM-L6-v2 it found more answers among the first ten, but fewer at the first place
(docs/results/search.md): compare both on your own questions.

For a large corpus run `gemb embed` first, which is resumable, and give its folder as --vectors.
Kinds: exact; scann and funnel-scann (approximate, tuned to --target; extra `scann`); hnsw (the same
with the extra `hnsw`, on every system and in more memory); funnel (a pass over narrow vectors, then
re-ranking, the cheapest that meets --target); bfloat16, int8, binary (fewer bits, re-scored); bm25
(no model); hybrid (BM25 and vectors). Agreement is measured on the
corpus's own queries if it has some, else on a sample of its documents. The folder records the
model's fingerprint; queries of another model are refused. --adapter maps --vectors of an older
model into the space of --model (`gemb adapter --help`), so that no document has to be encoded.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_list("model", [], "Model folder or name.", allow_override=True)
flags.DEFINE_string("corpus", "", "Folder or file with the documents.", allow_override=True)
flags.DEFINE_string("output", None, "Index folder to write.", allow_override=True)
flags.DEFINE_string(
    "host", "", "Index host to publish to, instead of --output.", allow_override=True
)
flags.DEFINE_string("name", "vectors", "Name of the store on its server.", allow_override=True)
flags.DEFINE_string(
    "vectors", "", "Folder that `gemb embed` wrote for the corpus.", allow_override=True
)
flags.DEFINE_string(
    "adapter",
    "",
    "Adapter of --vectors of an older model.",
    allow_override=True,
)
flags.DEFINE_string("kind", "exact", "Kind of index, see above.", allow_override=True)
flags.DEFINE_integer("dim", 0, "Nested width to search at; 0 is the full one.", allow_override=True)
flags.DEFINE_bool(
    "late_chunking", False, "Encode whole documents and pool their passages.", allow_override=True
)
flags.DEFINE_float(
    "target", 0.99, "Agreement@10 with exact search to keep.", 0.01, 0.9999, allow_override=True
)

_TUNED = ("scann", "hnsw", "funnel", "funnel-scann")
_SAMPLE = 500  # queries that settings are found with
_HITS = 10  # their agreement with exact search is measured


def main(argv: list[str]) -> None:
    from gemb.checks import UserError, require
    from gemb.cli.arguments import check_arguments, check_folder
    from gemb.search import KINDS

    check_arguments(argv, "corpus", *([] if FLAGS.host else ["output"]))
    if FLAGS.host and FLAGS.output:
        raise UserError("--host cannot be combined with --output; remove one of them")
    if FLAGS.host and FLAGS.kind in ("bm25", "hybrid"):
        raise UserError(f"--host takes vectors only; remove --kind={FLAGS.kind}")
    if FLAGS.output:
        check_folder("output")
    if FLAGS.kind not in KINDS:
        raise UserError(f"--kind: unknown {FLAGS.kind!r}; known are {', '.join(KINDS)}")
    if FLAGS.kind == "bm25" and FLAGS.vectors:
        raise UserError("--vectors: bm25 reads texts only; remove it")
    if FLAGS.adapter and not FLAGS.vectors:
        raise UserError("--adapter maps stored vectors; give --vectors")
    if FLAGS.late_chunking and (FLAGS.vectors or FLAGS.kind == "bm25"):
        other = "--vectors" if FLAGS.vectors else "--kind=bm25"
        raise UserError(f"--late_chunking cannot be combined with {other}; remove one of them")
    if FLAGS.kind != "bm25" and len(FLAGS.model) != 1:
        raise UserError("--model is required: one model folder or name")
    if "scann" in FLAGS.kind:
        require("scann", f"--kind={FLAGS.kind}", extra="scann")  # before the corpus is encoded
    if FLAGS.kind == "hnsw":
        require("usearch", "--kind=hnsw", extra="hnsw")
    _index()


def _index() -> None:
    from pathlib import Path

    from gemb.checks import UserError
    from gemb.data.sources import corpora
    from gemb.data.sources.picture_corpus import is_picture_corpus
    from gemb.identity import model_space, texts_fingerprint
    from gemb.inference.embedder import Embedder
    from gemb.inference.encoded_once import similarity_of
    from gemb.metrics.similarity import check_product, without_direction
    from gemb.search import build, save_index
    from gemb.search.index import check_replaceable

    pictures = is_picture_corpus(FLAGS.corpus)
    if pictures and FLAGS.host:
        raise UserError("--host: pictures go into a folder; give --output instead")
    if FLAGS.host:
        host = _open_host()
    else:
        check_replaceable(Path(FLAGS.output))  # before the work, not after it
    if pictures:
        _index_pictures()
        return
    ids, texts, rows = corpora.read_corpus(FLAGS.corpus)
    about = {"corpus": str(Path(FLAGS.corpus).absolute()), "texts": texts_fingerprint(texts)}
    settings, identity = {"vectors": None}, {"model": ""}
    if FLAGS.kind != "bm25":
        embedder = Embedder.load(FLAGS.model[0])
        dim = embedder.check_dim(FLAGS.dim or embedder.dim)
        here = Path(FLAGS.model[0])
        about["encoder"] = str(here.absolute()) if here.exists() else FLAGS.model[0]
        similarity = check_product(similarity_of(embedder), FLAGS.model[0])
        identity = {"model": embedder.fingerprint, "similarity": similarity}
        if FLAGS.late_chunking:
            about["late_chunking"] = True
            vectors = _late(embedder, texts, rows, dim)
        else:
            vectors = _vectors(embedder, texts, about["texts"], dim)
        if FLAGS.adapter:
            about["adapter"] = str(Path(FLAGS.adapter).absolute())
        widths = [width for width in embedder.widths if width <= dim]
        settings = {"vectors": vectors, "widths": widths, "target": FLAGS.target}
        settings["k"] = min(_HITS, len(texts))
        asked = FLAGS.host or FLAGS.kind in _TUNED
        settings["sample"] = _sample(embedder, vectors, dim) if asked else None
    if FLAGS.host:
        space, _ = model_space(embedder.model, dim, similarity)
        _publish(host, space, ids, vectors, settings["sample"], rows)
        return
    try:
        made = build(FLAGS.kind, texts=texts, **settings)
    except ValueError as error:  # a corpus smaller than what is asked for
        raise UserError(f"{FLAGS.corpus}: {error}") from None
    save_index(FLAGS.output, made, **identity, **about)
    print(f"{FLAGS.kind} index of {made.documents} documents: {FLAGS.output}{_told(made)}")
    if identity.get("similarity") == "dot":
        print("ranked by dot product, as the model says")
    if empty := without_direction(vectors) if made.dim else 0:
        print(f"{empty} documents have no direction (empty texts); they are ranked last")


def _index_pictures() -> None:
    from pathlib import Path

    from gemb.checks import UserError, require
    from gemb.inference.embedder import Embedder
    from gemb.inference.encoded_once import similarity_of
    from gemb.inference.picture_search import corpus_for, encode_pictures
    from gemb.search import build, save_index

    if FLAGS.vectors or FLAGS.late_chunking or FLAGS.kind in ("bm25", "hybrid"):
        raise UserError("pictures have no words: remove --vectors, --late_chunking or the --kind")
    require("PIL", "reading pictures", extra="images")
    embedder = Embedder.load(FLAGS.model[0])
    corpus = corpus_for(embedder, FLAGS.corpus)
    dim, here = embedder.check_dim(FLAGS.dim or embedder.dim), Path(FLAGS.model[0])
    images = [corpus.media(row) for row in range(len(corpus))]
    words = f"{'picture' if corpus.kind == 'image' else 'video'}s"
    vectors = encode_pictures(embedder, images, dim=dim, progress=words)
    vectors = _prepared(vectors, embedder)
    sample = vectors[:_SAMPLE] if FLAGS.kind in _TUNED else None
    widths = [width for width in embedder.widths if width <= dim]
    try:
        made = build(
            FLAGS.kind, texts=None, vectors=vectors, widths=widths, target=FLAGS.target,
            k=min(_HITS, len(images)), sample=sample,
        )  # fmt: skip
    except ValueError as error:
        raise UserError(f"{FLAGS.corpus}: {error}") from None
    save_index(
        FLAGS.output,
        made,
        model=embedder.fingerprint,
        similarity=similarity_of(embedder),
        corpus=str(Path(FLAGS.corpus).expanduser().absolute()),
        texts=corpus.fingerprint,
        encoder=str(here.absolute()) if here.exists() else FLAGS.model[0],
        pictures=True,
    )
    print(f"{FLAGS.kind} index of {made.documents} {words}: {FLAGS.output}{_told(made)}")


def _open_host():
    from gemb.store.hosts import open_host

    return open_host(FLAGS.host, name=FLAGS.name, create=True)


def _publish(host, space, ids: list[str], vectors, sample, records: list[dict]) -> None:
    """Makes the documents a new version of the host and publishes it."""
    import numpy as np

    from gemb.release.loading import Measured, attributes_of, publish_documents
    from gemb.store.hosts import Settings

    attributes = attributes_of(ids, records)
    there = np.flatnonzero(vectors.any(axis=1))
    if len(there) < len(ids):
        print(f"{len(ids) - len(there)} documents have no direction (empty texts); left out")
        ids, vectors = [ids[row] for row in there], vectors[there]
    settings = Settings(kind=FLAGS.kind, target=FLAGS.target)
    measured = Measured(settings, sample[sample.any(axis=1)], FLAGS.target)
    version, found = publish_documents(host, space, ids, vectors, measured, attributes=attributes)
    said = "as before" if found is None else f"agreement@{_HITS} {found:.4f}"
    print(f"{host}: version {version} is live: {len(ids)} documents, {said}")
    host.close()


def _vectors(embedder, texts: list[str], fingerprint: str, dim: int):
    """[texts, dim] of the corpus, from --vectors where that is given."""
    from gemb.checks import UserError
    from gemb.inference.encoded_once import similarity_of
    from gemb.store.embeddings import read_embeddings

    if not FLAGS.vectors:
        return _prepared(embedder.encode(texts, dim=dim, progress="corpus"), embedder)
    if FLAGS.adapter:
        return _mapped(embedder, fingerprint, dim)
    _, vectors, made = read_embeddings(FLAGS.vectors, model=embedder.fingerprint)
    if made["texts"] != fingerprint or made["kind"] != "document" or made["dim"] < dim:
        raise UserError(
            f"{FLAGS.vectors}: {made['rows']} vectors of kind {made['kind']} and dim "
            f"{made['dim']}, but expected the {len(texts)} documents of {FLAGS.corpus} at {dim}"
        )
    stored, similarity = made.get("similarity", "cosine"), similarity_of(embedder)
    if stored != similarity:
        raise UserError(
            f"{FLAGS.vectors}: vectors of a model that compares by {stored}, but this one compares "
            f"by {similarity}; run `gemb embed` again"
        )
    return _prepared(vectors[:, :dim], embedder)


def _mapped(embedder, fingerprint: str, dim: int):
    """[texts, dim] of the corpus by an older model, mapped into the space of this one."""
    from gemb.checks import UserError
    from gemb.models.adapters import Adapter
    from gemb.store.embeddings import read_embeddings

    adapter = Adapter.load(FLAGS.adapter)
    _, vectors, made = read_embeddings(FLAGS.vectors, model=adapter.source, texts=fingerprint)
    adapter.check(made["model"], embedder.fingerprint, "documents")
    if dim != embedder.dim:
        raise UserError(f"--dim: an adapter gives {embedder.dim} coordinates; remove --dim")
    return _prepared(adapter(vectors), embedder)


def _prepared(vectors, embedder):
    """Rows whose inner products are the model's similarity."""
    from gemb.checks import UserError
    from gemb.inference.encoded_once import similarity_of
    from gemb.metrics.similarity import prepared

    try:
        return prepared(vectors, vectors.shape[1], similarity_of(embedder))
    except ValueError as error:
        raise UserError(f"{FLAGS.corpus}: {error}") from None


def _late(embedder, texts: list[str], rows: list[dict], dim: int):
    """[texts, dim] of the corpus, each passage pooled from its whole document."""
    from gemb.inference.late_chunks import check_late, documents_of, encode_late

    check_late(embedder)
    documents = documents_of([row | {"text": t} for row, t in zip(rows, texts, strict=True)])
    vectors = encode_late(embedder, documents, dim=dim, progress="documents")
    return _prepared(vectors, embedder)


def _sample(embedder, vectors, dim: int):
    """Vectors of the corpus's queries; of some of its documents where it has none, or one."""
    from pathlib import Path

    import numpy as np

    from gemb.data.sources import beir

    rng, folder = np.random.default_rng(0), Path(FLAGS.corpus)
    tables = [folder / f"queries.jsonl{gz}" for gz in ("", ".gz")]
    texts = []
    if any(map(Path.is_file, tables)) and (folder / "qrels" / "test.tsv").is_file():
        texts = beir.read_retrieval(folder).query_texts
    if len(texts) < 2:
        return vectors[rng.permutation(len(vectors))[:_SAMPLE]]
    chosen = rng.permutation(len(texts))[:_SAMPLE]
    asked = embedder.encode([texts[i] for i in chosen], dim=dim, kind="query")
    return _prepared(asked, embedder)


def _told(made) -> str:
    """What was chosen, for the terminal."""
    from gemb.search import (
        FunnelSearcher,
        HnswSearcher,
        QuantizedSearcher,
        ScannSearcher,
        full_flops,
    )

    if isinstance(made, HnswSearcher):
        return f"\n{made.ef} candidates per search"
    if isinstance(made, QuantizedSearcher):
        return f"\n{made.bytes_per_vector} bytes per vector; float32 takes {4 * made.dim}"
    if isinstance(made, (FunnelSearcher, ScannSearcher)):
        saved = full_flops(made.documents, made.dim) / made.flops
        policy = f"{made.policy}, " if isinstance(made, FunnelSearcher) else ""
        return f"\n{policy}{saved:.1f} times fewer operations than exact search"
    return ""


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("index")
