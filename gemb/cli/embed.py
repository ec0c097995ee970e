"""gemb embed: encode texts, pictures or videos into a folder of vectors; a killed run resumes.

    gemb embed --model=runs/a/model --input=corpus.jsonl --output=runs/vectors
    gemb embed --model=... --input=DIR --output=... --dim=128 --dtype=float16     # a BEIR folder
    gemb embed --model=... --input=questions.txt --kind=query --output=...
    gemb embed --model=... --input=... --output=... --matmul_dtype=bfloat16   # newer CPUs: faster
    gemb embed --model=... --images=PHOTOS --output=...                # all pictures in a folder
    gemb embed --model=... --videos=CLIPS --output=...                 # all videos and animations
    gemb embed --model=... --explain=photo.jpg --output=seen.png       # what the model sees of one
    gemb index --model=... --corpus=DIR --vectors=runs/vectors --output=runs/index

It reads every format that training reads. --column names the column of the text; by default it is
"text", with "title" in front if there is one. --images and --videos take every picture or video
below a folder, in the order of their paths, which are their ids; the model must read them.
--explain encodes nothing:
it prints the size, mode, orientation and transparency of one picture, how it is resized and cut,
and the ranges of its values, and writes the picture that the model sees as a PNG. The folder has

    vectors.npy      [texts, dim], for np.load(..., mmap_mode="r") and any other program
    ids.jsonl        the id of each row: the record's "_id", else its number
    embeddings.json  fingerprints of the model and of the texts, kind, dim, dtype, matmul_dtype

--runner spreads the work by Apache Beam (extra `beam`), with the same result: FnApiRunner on this
machine, or FlinkRunner, SparkRunner, DataflowRunner, ... with --runner_options, where all workers
see the same files under the same names:

    gemb embed ... --runner=FnApiRunner \\
        --runner_options=--direct_running_mode=multi_processing,--direct_num_workers=4

--host also makes the documents the live version of an index host (see `gemb index --help`), by the
workers where there is a --runner; documents are kept by their ids, so that a retry, or the same
command after a kill, changes nothing else:

    gemb embed ... --host=postgresql://127.0.0.1/db --runner=FnApiRunner

gemb.store.embeddings.read_embeddings reads it for the model that made it and refuses other models.
The folder appears when it is complete; until then the same command continues in the hidden folder
.OUTPUT.KEY next to it.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("model", "", "Model folder or name.", allow_override=True)
flags.DEFINE_string("input", "", "File of texts, or BEIR folder.", allow_override=True)
flags.DEFINE_string("images", "", "Folder of pictures.", allow_override=True)
flags.DEFINE_string("videos", "", "Folder of videos and animations.", allow_override=True)
flags.DEFINE_string("explain", "", "Picture to explain.", allow_override=True)
flags.DEFINE_string("column", "text", "Column of the text.", allow_override=True)
flags.DEFINE_string("output", "", "Folder to write.", allow_override=True)
flags.DEFINE_enum(
    "kind", "document", ["document", "query"], "Which prompt to use.", allow_override=True
)
flags.DEFINE_integer("dim", 0, "Nested width to keep; 0 is the full one.", allow_override=True)
flags.DEFINE_enum("dtype", "float32", ["float32", "float16"], "Of vectors.", allow_override=True)
flags.DEFINE_enum(
    "matmul_dtype",
    "float32",
    ["float32", "bfloat16"],
    "Operands of linear maps; bfloat16 changes the cosine to the float32 vector by about 3e-5.",
    allow_override=True,
)
flags.DEFINE_float(
    "max_bad_fraction", 0.0, "Share of broken records to leave out.", allow_override=True
)
flags.DEFINE_string("host", "", "Index host to publish to.", allow_override=True)
flags.DEFINE_string("name", "vectors", "Name of the store on its server.", allow_override=True)
flags.DEFINE_string("runner", "", "Runner of Apache Beam; default none.", allow_override=True)
flags.DEFINE_list(
    "runner_options", [], "Options for Beam's pipeline, with commas.", allow_override=True
)


def main(argv: list[str]) -> None:
    import os
    from pathlib import Path

    from gemb.checks import UserError, needs
    from gemb.cli.arguments import check_arguments, check_folder

    check_arguments(argv, "model", "output")
    given = [name for name in ("input", "images", "videos", "explain") if FLAGS[name].value]
    if not given:
        raise UserError("--input is required, or --images, --videos or --explain")
    if len(given) > 1:
        shown = " and ".join(f"--{name}" for name in given)
        raise UserError(f"expected one of --input, --images, --videos and --explain, got {shown}")
    if FLAGS.explain:
        _explain()
        return
    check_arguments(argv, "column")
    check_folder("output")
    files = FLAGS.images or FLAGS.videos
    if FLAGS.runner and files:
        raise UserError(f"--runner: Beam reads texts, not --{given[0]}; remove one of them")
    if FLAGS.runner:
        import logging

        logging.getLogger().setLevel(logging.ERROR)
        with needs("--runner", extra="beam"):
            import gemb.release.bulk_beam  # noqa: F401
    elif FLAGS.runner_options:
        raise UserError("--runner_options need --runner")
    if FLAGS.host and FLAGS.kind != "document":
        raise UserError("--host holds documents; remove --kind=query")
    if FLAGS.host.startswith("milvus:") and "//" not in FLAGS.host and FLAGS.runner:
        raise UserError("--host: one process opens Milvus Lite at a time; remove --runner")
    from gemb.data.sources.records import digest
    from gemb.inference.embedder import Embedder
    from gemb.inference.encoded_once import similarity_of
    from gemb.models.execution import Execution
    from gemb.release.source import Source
    from gemb.runs.interruption import sole_run
    from gemb.runs.records import LOCK_FILE
    from gemb.store import bulk, embeddings

    output = Path(FLAGS.output).absolute()
    if files:
        ids, texts = _read_files(given[0])
    else:
        source = Source(_absolute(FLAGS.input), FLAGS.column, FLAGS.max_bad_fraction)
        ids, texts = source.read()
    rounded = "" if FLAGS.matmul_dtype == "float32" else FLAGS.matmul_dtype
    embedder = Embedder.load(FLAGS.model, execution=Execution(matmul_dtype=rounded))
    dim = embedder.check_dim(FLAGS.dim or embedder.dim)
    about = {"model": embedder.fingerprint, "texts": _content(texts), "kind": FLAGS.kind}
    about |= {"matmul_dtype": FLAGS.matmul_dtype, "similarity": similarity_of(embedder)}
    wanted = about | {"dim": dim, "dtype": FLAGS.dtype}
    if output.exists() and any(output.iterdir()):
        if wanted.items() <= embeddings.read_about(output).items():
            print(f"the vectors exist already: {output}")
            _publish(output, embedder, dim)
            return
        raise UserError(f"{output}: holds other vectors; choose another folder, or delete this one")
    key = digest(*map(str, wanted.values()))
    growing = output.with_name(f".{output.name}.{key[:12]}")
    options = {"kind": FLAGS.kind, "content": about["texts"], "dtype": FLAGS.dtype, "ids": ids}
    options["about"] = about | {"encoder": FLAGS.model, "input": FLAGS.input or files}
    with sole_run(growing):
        if FLAGS.runner:
            options["about"] |= {"texts": about["texts"], "unit": False}
            work = (_absolute(FLAGS.model), embedder.fingerprint, source, str(growing))
            _by_beam((*work, FLAGS.kind, dim, FLAGS.dtype, rounded), texts, options)
        else:
            bulk.encode_into(growing, _Narrow(embedder, dim), texts, **options)
        (growing / LOCK_FILE).unlink()
    os.replace(growing, output)
    print(f"{len(texts):,} vectors of {dim} {FLAGS.dtype} numbers: {output}")
    _publish(output, embedder, dim)


def _publish(output, embedder, dim: int) -> None:
    """Makes the vectors of the folder the live version of --host, if that is given."""
    if not FLAGS.host:
        return
    import numpy as np

    from gemb.identity import model_space
    from gemb.inference.encoded_once import similarity_of
    from gemb.release.loading import publish_documents
    from gemb.store.embeddings import read_embeddings
    from gemb.store.hosts import open_host

    space, _ = model_space(embedder.model, dim, similarity_of(embedder))
    host = open_host(FLAGS.host, name=FLAGS.name, create=True)
    ids, vectors, _ = read_embeddings(output, model=embedder.fingerprint)
    there = np.flatnonzero(vectors.any(axis=1))
    send = (lambda version: _send(output, version)) if FLAGS.runner else None
    if len(there) < len(ids):
        print(f"{len(ids) - len(there)} documents have no direction (empty texts); left out")
        ids, vectors = [ids[row] for row in there], vectors[there]
    version, _ = publish_documents(host, space, ids, vectors, send=send)
    print(f"{host}: version {version} is live: {len(ids):,} documents")
    host.close()


def _send(output, version) -> None:
    from gemb.release import bulk_beam

    sink = bulk_beam.Sink(str(output), _absolute(FLAGS.host), FLAGS.name, version)
    bulk_beam.send(sink, runner=FLAGS.runner, options=FLAGS.runner_options)


def _absolute(place: str) -> str:
    """A path that holds in other processes too; a name or a pattern stays."""
    from pathlib import Path

    return str(Path(place).absolute()) if Path(place).exists() else place


def _by_beam(work: tuple, texts, options: dict) -> None:
    from gemb.release import bulk_beam

    bulk_beam.embed(
        bulk_beam.Work(*work), texts, options["ids"], runner=FLAGS.runner,
        options=FLAGS.runner_options, about=options["about"],
    )  # fmt: skip


def _read_files(kind: str):
    """Ids and values of the pictures or videos below a folder, in the order of their paths."""
    from pathlib import Path

    from gemb.checks import UserError
    from gemb.curation.tables import Texts
    from gemb.data.sources.picture_corpus import media_files
    from gemb.data.sources.pictures import ENDINGS, VIDEO_ENDINGS
    from gemb.structs import Image, Video

    folder = Path(FLAGS[kind].value).expanduser()
    endings, made = {"images": (ENDINGS, Image), "videos": (VIDEO_ENDINGS, Video)}[kind]
    if not folder.is_dir():
        raise UserError(f"--{kind}: {folder}: no such folder")
    paths = media_files(folder, endings)
    if not paths:
        word = "pictures" if kind == "images" else "videos"
        raise UserError(f"--{kind}: {folder}: no {word} ({', '.join(sorted(endings))})")
    ids = (str(path.relative_to(folder)) for path in paths)
    return ids, Texts(len(paths), lambda row: made(paths[row]))


def _content(values) -> str:
    """A fingerprint of texts, or of the bytes of pictures or videos."""
    import hashlib

    from gemb.checks import UserError
    from gemb.identity import texts_fingerprint

    if FLAGS.input:
        return texts_fingerprint(values)
    digest = hashlib.sha256()
    for path in (values[row].source for row in range(len(values))):
        try:
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from None
    return digest.hexdigest()[:32]


def _explain() -> None:
    """Prints what a model sees of a picture, and writes it."""
    from pathlib import Path

    from gemb.checks import UserError
    from gemb.files import atomic_file
    from gemb.pretrained.adapt import load
    from gemb.structs import SIDES, Image

    output = Path(FLAGS.output).expanduser()
    if output.suffix.lower() != ".png":
        raise UserError(f"--output: expected the name of a .png file, got {output}")
    model = load(FLAGS.model, weights=False)
    sides = [getattr(model, side).processor for side in SIDES]
    readers = [processor for processor in sides if hasattr(processor, "explain")]
    if not readers:
        raise UserError(f"--explain: {FLAGS.model} reads {sides[-1].modality}, not pictures")
    facts, picture = readers[-1].explain(Image(FLAGS.explain))
    for name, fact in facts.items():
        print(f"{name + ':':<13}{fact}")
    with atomic_file(output) as temporary:
        picture.save(temporary, "PNG")
    print(f"{'seen:':<13}{output}")


class _Narrow:
    """An embedder at one of its widths."""

    def __init__(self, embedder, dim: int):
        self._embedder, self.dim, self.fingerprint = embedder, dim, embedder.fingerprint

    def encode(self, texts, *, kind: str):
        return self._embedder.encode(texts, dim=self.dim, kind=kind)


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("embed")
