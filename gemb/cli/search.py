"""gemb search: search with a trained model or an index; interactive if no query is given.

The first search of a corpus encodes it (with a progress bar) and keeps the vectors in the workdir,
under the fingerprint of the model.

    gemb search --workdir=runs/quickstart "read a file line by line without loading it all"
    gemb search --workdir=runs/quickstart --dim=48 --count=3 "parse a date"
    gemb harvest --output=mine ~/code/myproject                  # your own repository
    gemb search --workdir=runs/quickstart --corpus=mine          # ask it, interactively
    gemb search --index=runs/index "parse a date"                # what `gemb index` wrote

    gemb search --index=runs/old --adapter=runs/adapter "..."    # the newer model encodes the query
    gemb search --index=runs/pictures/index --page=found.html "show me cute dogs"
    gemb search --index=runs/pictures/index --page=found.html --image=mine.jpg
    gemb search --index=runs/notes/index --image=mine.jpg        # texts that fit a picture

For an index of pictures or videos, --page writes one HTML file with thumbnails (of a video the
frame in its middle). --image asks by a picture; the index's model must read pictures too, and an
index of texts must be one of vectors.

    gemb search --host=runs/host --model=all-MiniLM-L6-v2 "parse a date"    # `gemb index --host`

--host asks the live version of an index host; another model's queries are refused. Hits are shown
as ids, with the texts of --corpus where it is given.

--index may be a store of `gemb release` or `gemb refresh`: its live version answers. For an index
of `gemb documents`, each hit shows its file, line, headings and passage.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", None, "Folder of the run.", allow_override=True)
flags.DEFINE_string(
    "corpus", "", "BEIR folder; default what the run trained on.", allow_override=True
)
flags.DEFINE_string("index", "", "Index folder, instead of --workdir.", allow_override=True)
flags.DEFINE_string("host", "", "Index host, instead of --workdir.", allow_override=True)
flags.DEFINE_string("name", "vectors", "Name of the store on its server.", allow_override=True)
flags.DEFINE_list("model", [], "Model folder or name.", allow_override=True)
flags.DEFINE_string(
    "adapter", "", "Maps queries of a newer model into the index's space.", allow_override=True
)
flags.DEFINE_integer("dim", 0, "Nested width to search at; 0 is the full one.", allow_override=True)
flags.DEFINE_string("page", "", "HTML file to write with thumbnails.", allow_override=True)
flags.DEFINE_string("image", "", "Picture to search with.", allow_override=True)
flags.DEFINE_integer("count", 5, "Hits to show.", lower_bound=1, allow_override=True)


def main(argv: list[str]) -> None:
    from gemb.checks import UserError

    if not FLAGS.workdir and not FLAGS.index and not FLAGS.host:
        raise UserError("--workdir is required: give the folder of a run, or --index or --host")
    if FLAGS.host and (FLAGS.workdir or FLAGS.index):
        raise UserError("--host cannot be combined with --workdir or --index; remove one of them")
    if FLAGS.host and len(FLAGS.model) != 1:
        raise UserError("--model is required with --host: one model folder or name")
    if FLAGS.model and not FLAGS.host:
        raise UserError("--model is for --host; a run and an index name their own")
    if FLAGS.index and (FLAGS.workdir or FLAGS.corpus or FLAGS.dim):
        raise UserError("--index has its own model, corpus and width; remove the other flags")
    if FLAGS.adapter and not FLAGS.index:
        raise UserError("--adapter maps queries to the space of an index; give --index")
    query = " ".join(argv)
    if argv and not query.strip():
        raise UserError("the query is empty")
    from gemb.evaluation.search_session import converse, of_host, of_index, of_run
    from gemb.inference.picture_search import is_picture_index
    from gemb.store.opening import index_of
    from gemb.structs import Image

    if FLAGS.image and query:
        raise UserError("--image: give a text or a picture, not both")
    index = index_of(FLAGS.index) if FLAGS.index else None
    if index and is_picture_index(index):
        if FLAGS.adapter:
            raise UserError("--adapter maps queries of texts; an index of pictures takes none")
        _pictures(query)
        return
    if FLAGS.page:
        raise UserError("--page needs --index with an index of pictures or videos")
    if FLAGS.image and (not FLAGS.index or FLAGS.adapter):
        raise UserError("--image needs --index, without --adapter")
    if FLAGS.host:
        names = {"name": FLAGS.name, "corpus": FLAGS.corpus, "dim": FLAGS.dim}
        ask = of_host(FLAGS.host, FLAGS.model[0], count=FLAGS.count, **names)
    elif FLAGS.index:
        ask = of_index(index, count=FLAGS.count, adapter=FLAGS.adapter)
    else:
        ask = of_run(FLAGS.workdir, corpus=FLAGS.corpus, dim=FLAGS.dim, count=FLAGS.count)
    if FLAGS.image:
        print(ask(Image(FLAGS.image)))
    elif argv:
        print(ask(query))
    else:
        converse(ask, *(["What are you looking for?"] if not FLAGS.workdir else []))


def _pictures(query: str) -> None:
    from gemb.checks import require
    from gemb.evaluation.search_session import converse
    from gemb.inference.picture_search import open_picture_index
    from gemb.processors.thumbnails import data_uri
    from gemb.reports.pictures_page import write_found
    from gemb.structs import Image

    require("PIL", "reading pictures", extra="images")
    search = open_picture_index(FLAGS.index)

    def ask(asked) -> str:
        hits = search(asked, FLAGS.count)
        if FLAGS.page:
            picture = isinstance(asked, Image)
            shown = [
                (data_uri(hit.media), hit.caption or hit.name, f"{hit.score:.3f}") for hit in hits
            ]
            own = data_uri(asked) if picture else ""
            write_found(FLAGS.page, [(FLAGS.image if picture else asked, own, shown)])
        lines = [f"{hit.score:6.3f}  {hit.caption[:40]:<40}  {hit.name}" for hit in hits]
        return "\n".join(lines + ([f"page: {FLAGS.page}"] if FLAGS.page else []))

    if FLAGS.image or query:
        print(ask(Image(FLAGS.image) if FLAGS.image else query))
    else:
        converse(ask, "What should the picture show?")


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("search")
