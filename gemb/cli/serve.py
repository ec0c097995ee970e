"""gemb serve: answer over HTTP: vectors, search, re-ranking, and a page to look at.

    gemb serve --model=all-MiniLM-L6-v2                       # POST /v1/embeddings, as OpenAI's
    gemb serve --index=runs/index                             # and POST /v1/search
    gemb serve --classifier=runs/intents                      # POST /v1/classify
    gemb serve --release=runs/store --users=sqlite:runs/users.db
    gemb serve --model=MODEL --index_host=pgvector://HOST/DATABASE --name=docs
    gemb serve --index=runs/index --keys=keys.txt --admin_keys=admin.txt --port=8080

Open http://127.0.0.1:8000/ in a browser for the page. /openapi.json describes every route,
/metrics is for Prometheus, /ready is 200 when every shape of a batch is compiled. With --release
the live version of a store answers, newer ones are loaded next to it and swapped in, and older ones
answer where the newest cannot: the answer says `version` and `fallback`. --index_host asks an index
of `gemb index --host`; --corpus has the texts of its documents. --popular (lines of "id" and
"score", or a recommender's folder) answers for users and items that no version knows.

Texts of several requests are encoded together. A request with at most four texts waits in the
interactive lane, others in the bulk lane; the headers X-Lane and X-Timeout-Ms say otherwise. A
request that would come too late gets 429 with Retry-After before anything is computed.

--keys is a file with a bearer key on each line; without it everybody who reaches the port may ask.
Changes (PUT and DELETE of vectors, publish, rollback) need a key of --admin_keys. SIGTERM drains:
/ready says 503, and after --drain_delay seconds the requests that are left are finished.
Run one process for each device. Extra: serve.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_list("model", [], "Model folders or names.", allow_override=True)
flags.DEFINE_string("index", "", "Index folders, with commas.", allow_override=True)
flags.DEFINE_list("release", [], "Stores of versions.", allow_override=True)
flags.DEFINE_string("users", "", "Key store of vectors by user id.", allow_override=True)
flags.DEFINE_string("name", "vectors", "Name of the store on its server.", allow_override=True)
flags.DEFINE_string("index_host", "", "Address of an index host.", allow_override=True)
flags.DEFINE_string("corpus", "", "Folder or file with the documents.", allow_override=True)
flags.DEFINE_string("popular", "", "List of popular items, or a recommender.", allow_override=True)
flags.DEFINE_list("reranker", [], "Folders of cross-encoders.", allow_override=True)
flags.DEFINE_string("classifier", "", "Classifier folders, with commas.", allow_override=True)
flags.DEFINE_string("host", "127.0.0.1", "Address to listen on.", allow_override=True)
flags.DEFINE_integer("port", 8000, "Port to listen on.", 0, 65535, allow_override=True)
flags.DEFINE_string("keys", "", "File with the keys of users.", allow_override=True)
flags.DEFINE_string("admin_keys", "", "File with the keys of administrators.", allow_override=True)
flags.DEFINE_float("deadline", 1.0, "Seconds of a request.", 0.01, 600, allow_override=True)
flags.DEFINE_float("bulk_deadline", 60.0, "Of a bulk request.", 0.01, 600, allow_override=True)
flags.DEFINE_integer("chain", 3, "Versions kept loaded.", 1, 20, allow_override=True)
flags.DEFINE_enum(
    "swap", "keep", ["keep", "stop"],
    "Keep the old version until the new one is loaded, or let it go first to save memory.",
    allow_override=True,
)  # fmt: skip
flags.DEFINE_float("drain_delay", 5.0, "Seconds not ready before the end.", 0, allow_override=True)
flags.DEFINE_string("experiments", "", "File of experiments.", allow_override=True)
flags.DEFINE_string("exposures", "", "File to log their answers to.", allow_override=True)
flags.DEFINE_integer("max_length", 0, "Cut texts to these tokens.", 0, allow_override=True)
flags.DEFINE_integer("batch_tokens", 0, "Padded tokens in a batch; 0: by device.", 0, 1 << 20,
                     allow_override=True)  # fmt: skip
flags.DEFINE_enum("log", "json", ["json", "off"], "Log of requests.", allow_override=True)


def main(argv: list[str]) -> None:
    from gemb.checks import UserError, require
    from gemb.cli.arguments import check_arguments

    check_arguments(argv)
    indexes = [each for each in FLAGS.index.split(",") if each]
    classifiers = [each for each in FLAGS.classifier.split(",") if each]
    if not (FLAGS.model or indexes or classifiers or FLAGS.release or FLAGS.index_host):
        raise UserError(
            "give something to serve: --model, --index, --index_host, --classifier or --release"
        )
    for library in ("starlette", "uvicorn", "msgspec", "orjson", "prometheus_client"):
        require(library, "gemb serve", extra="serve")
    from gemb.serving.http.web import Keys
    from gemb.serving.server import Places, serve
    from gemb.serving.state import Settings

    places = Places(
        FLAGS.model, indexes, FLAGS.release, FLAGS.users, FLAGS.name, FLAGS.reranker,
        classifiers, FLAGS.max_length, FLAGS.batch_tokens, FLAGS.experiments, FLAGS.exposures,
        FLAGS.popular, FLAGS.index_host, FLAGS.corpus,
    )  # fmt: skip
    settings = Settings(
        FLAGS.deadline, FLAGS.bulk_deadline, FLAGS.chain, FLAGS.drain_delay, FLAGS.swap
    )
    serve(
        places,
        host=FLAGS.host,
        port=FLAGS.port,
        settings=settings,
        keys=Keys(FLAGS.keys, FLAGS.admin_keys),
        log=FLAGS.log == "json",
        announce=lambda address: print(f"serving on http://{address}", flush=True),
    )


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("serve")
